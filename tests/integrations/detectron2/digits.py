"""A few scenes of digits, made by the command as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.configs import ROOT


def make_digits(folder: Path, images: int) -> None:
    """Write scenes of 64 x 64 pixels, as many to train with as to test on."""
    command = [sys.executable, str(ROOT / 'tools/make_digits_dataset.py'), '--out', str(folder)]
    command += ['--train', str(images), '--val', str(images), '--size', '64']
    subprocess.run(command, check=True)
