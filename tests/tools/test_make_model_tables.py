"""The command that writes the README's tables of models."""

import pytest

from tests.tools.commands import error_of
from tools.make_model_tables import BEGIN, END, main


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / 'README.md'
    path.write_text(f'# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n')
    return path


def test_the_tables_take_the_place_between_the_markers_only(readme):
    main(['--readme', str(readme)])
    text = readme.read_text()
    assert text.startswith(f'# Title\n\n{BEGIN}\n')
    assert text.endswith(f'\n{END}\n\nThe end.\n')
    assert 'old' not in text
    assert 'published ones, not measured here' in text
    assert list(readme.parent.iterdir()) == [readme]


def test_a_row_has_figures_size_config_and_file(readme):
    main(['--readme', str(readme)])
    lines = readme.read_text().splitlines()
    (row,) = [line for line in lines if '[revcol_t_cascade]' in line]
    assert row == (
        '| Cascade Mask R-CNN | RevCol-T | ImageNet-1K, COCO | 50.8 | 44.0 | 88M | '
        '741G (1280 x 800) | [revcol_t_cascade](det_configs/revcol_t_cascade.py) | '
        '[published](https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/detection/'
        'cmr_tiny_3x_in1k_AP508.pth) |'
    )
    (row,) = [line for line in lines if '[revcol_h_dino]' in line]
    assert '| 63.8 |  |  |  | [revcol_h_dino](det_configs/revcol_h_dino.py) |  |' in row
    (row,) = [line for line in lines if '[revcol_b_upernet]' in line]
    assert '| 122M, which cannot be right: 168.9M counted |' in row
    for dataset in ('COCO', 'ADE20K', 'Cityscapes'):
        assert lines.count(f'### {dataset}') == 1


def test_check_passes_after_writing_and_fails_before_without_touching_the_file(readme):
    before = readme.read_text()
    error = error_of(main, '--readme', readme, '--check')
    assert 'run `python tools/make_model_tables.py`' in error
    assert readme.read_text() == before
    assert main(['--readme', str(readme)]) == 0
    assert main(['--readme', str(readme), '--check']) == 0


@pytest.mark.parametrize('text', ['', f'{BEGIN}\n', f'{END}\n{BEGIN}\n', f'{BEGIN}{BEGIN}{END}'])
def test_a_readme_without_its_markers_is_an_error_and_stays(text, readme):
    readme.write_text(text)
    assert f'needs the lines {BEGIN} and {END}' in error_of(main, '--readme', readme)
    assert readme.read_text() == text
