"""Crops of digits as an image folder, from scenes that the detection data set does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.configs import ROOT


def make(out: Path) -> str:
    command = [sys.executable, str(ROOT / 'tools/make_digit_crops.py'), '--out', str(out)]
    command += ['--train', '4', '--val', '2', '--size', '32']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_crops_are_square_lie_in_their_digits_folder_and_are_made_once(tmp_path: Path) -> None:
    out = tmp_path / 'crops'
    assert make(out) == f'{out}: made\n'
    paths = sorted(out.glob('*/*/*.jpg'))
    assert {path.parent.parent.name for path in paths} == {'train', 'val'}
    assert {path.parent.name for path in paths} <= set('0123456789')
    assert all(Image.open(path).size == (32, 32) for path in paths)
    # Two to five digits a scene, some left out where they would be hidden.
    assert 6 <= len(paths) <= 30
    assert {path.stem.split('_')[0] for path in (out / 'train').glob('*/*.jpg')} <= {
        f'{index:06d}' for index in range(4)
    }
    assert make(out) == f'{out}: there already\n'
    assert sorted(out.glob('*/*/*.jpg')) == paths
