"""Which script ``tools/train.py`` and ``tools/test.py`` run."""

from __future__ import annotations

from pathlib import Path

import mmdet
import mmseg
import pytest

from revcol_backbone.cli.codebase_scripts import find_library_script
from revcol_backbone.model_zoo import find_config


@pytest.mark.parametrize(
    ('name', 'library'), [('revcol_t_cascade', mmdet), ('revcol_t_upernet', mmseg)]
)
def test_the_script_is_that_of_the_configs_library(name, library):
    script = find_library_script('train', [str(find_config(name)), '--resume'])
    assert script == Path(library.__file__).parent / '.mim' / 'tools' / 'train.py'
    assert script.is_file()


def test_help_is_that_of_an_installed_library():
    assert find_library_script('test', ['-h']).is_file()


def test_a_config_of_another_library_is_refused(tmp_path):
    (tmp_path / 'config.py').write_text("model = dict(type='A')\ndefault_scope = 'mmpose'\n")
    with pytest.raises(ValueError, match="'mmpose'; it has to be one of mmdet, mmseg"):
        find_library_script('train', [str(tmp_path / 'config.py')])
