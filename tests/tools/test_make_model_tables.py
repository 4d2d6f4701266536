"""The command that writes the tables of models."""

import pytest

from tests.configs import ROOT
from tests.tools.commands import error_of
from tools.make_model_tables import BEGIN, END, main


@pytest.fixture
def pages(tmp_path):
    """Options of the two pages to write, in folders as in the repository."""
    (tmp_path / 'docs').mkdir()
    options = []
    for option, name in (('--readme', 'README.md'), ('--zoo', 'docs/model_zoo.md')):
        (tmp_path / name).write_text(f'# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n')
        options += [option, str(tmp_path / name)]
    return options


def read(pages):
    return [open(path, encoding='utf-8').read() for path in pages[1::2]]


def test_the_tables_of_the_repository_are_those_of_its_metafiles():
    assert main(['--check']) == 0


def test_the_tables_take_the_place_between_the_markers_only(pages):
    assert main(pages) == 0
    for text in read(pages):
        assert text.startswith(f'# Title\n\n{BEGIN}\n')
        assert text.endswith(f'\n{END}\n\nThe end.\n')
        assert 'old' not in text


def test_the_readme_has_six_models_with_their_headline_figures():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    rows = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert len(rows) == 2 + 6
    assert rows[2] == (
        '| COCO | Cascade Mask R-CNN, RevCol-T | 50.8 box AP, 44.0 mask AP | 88M | '
        '[revcol_t_cascade](det_configs/revcol_t_cascade.py) |'
    )
    assert '| 63.8 box AP |  | [revcol_h_dino](det_configs/revcol_h_dino.py) |' in rows[4]
    assert '| 60.4 mIoU, 61.0 mIoU(ms+flip) | 2439M |' in rows[7]


def test_a_row_of_the_zoo_has_figures_size_config_and_file():
    lines = (ROOT / 'docs/model_zoo.md').read_text(encoding='utf-8').splitlines()
    (row,) = [line for line in lines if '(../det_configs/revcol_t_cascade.py)' in line]
    assert row == (
        '| Cascade Mask R-CNN | RevCol-T | ImageNet-1K, COCO | 50.8 | 44.0 | 88M | '
        '741G (1280 x 800) | [revcol_t_cascade](../det_configs/revcol_t_cascade.py) | '
        '[published](https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/detection/'
        'cmr_tiny_3x_in1k_AP508.pth) |'
    )
    (row,) = [line for line in lines if '[revcol_b_upernet]' in line]
    assert '| 122M, which cannot be right: 168.9M counted |' in row
    (row,) = [line for line in lines if '| RedNet-26 |' in line]
    assert '| 75.96 | 9.23M | 1.73G (224 x 224) |' in row
    for dataset in ('COCO', 'ADE20K', 'Cityscapes', 'ImageNet-1K'):
        assert lines.count(f'## {dataset}') == 1


def test_check_passes_after_writing_and_fails_before_without_touching_the_pages(pages):
    before = read(pages)
    assert 'run `python tools/make_model_tables.py`' in error_of(main, *pages, '--check')
    assert read(pages) == before
    assert main(pages) == 0
    assert main([*pages, '--check']) == 0


@pytest.mark.parametrize('text', ['', f'{BEGIN}\n', f'{END}\n{BEGIN}\n', f'{BEGIN}{BEGIN}{END}'])
def test_a_page_without_its_markers_is_an_error_and_stays(text, pages):
    with open(pages[1], 'w', encoding='utf-8') as readme:
        readme.write(text)
    assert f'needs the lines {BEGIN} and {END}' in error_of(main, *pages)
    assert read(pages)[0] == text
