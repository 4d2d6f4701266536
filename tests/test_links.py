"""Links between files of the repository; Sphinx checks those among the pages of ``docs``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.configs import ROOT

FILES = [*ROOT.glob('*.md'), *ROOT.glob('.github/*.md')]
LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"')


def relative_links(text: str) -> list[str]:
    links = [first or second for first, second in LINK.findall(text)]
    return [link for link in links if not re.match(r'[a-z]+:', link)]


def headings(path: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    titles = re.findall(r'^#+ (.+)$', path.read_text('utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_a_link_leads_to_a_file_and_its_heading(path):
    for link in relative_links(path.read_text('utf-8')):
        name, _, heading = link.partition('#')
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_links_and_headings_are_found(tmp_path):
    text = 'See [a](docs/a.md#two-words), [b](https://b.org) and <img src="c.png">.'
    assert relative_links(text) == ['docs/a.md#two-words', 'c.png']
    page = tmp_path / 'a.md'
    page.write_text('# One\n\n## `Two` words, with a comma\n')
    assert headings(page) == {'one', 'two-words-with-a-comma'}
