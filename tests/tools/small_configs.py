"""Configs of small networks, as files that a tool can read."""

from __future__ import annotations

from pathlib import Path

from tests.configs import TINY, load_config
from tests.det_configs.test_cascade import shrink as shrink_detector
from tests.seg_configs.test_upernet import shrink as shrink_segmentor


def write_backbone(folder: Path, **changes: object) -> Path:
    """A bare RevCol."""
    path = folder / 'backbone.py'
    model = dict(type='RevCol', arch=TINY, **changes)
    path.write_text(f"custom_imports = dict(imports=['revcol_backbone'])\nmodel = {model}\n")
    return path


def write_segmentor(folder: Path) -> Path:
    """UPerNet with 150 classes."""
    return _write('seg_configs/revcol_t_upernet.py', shrink_segmentor, folder / 'segmentor.py')


def write_detector(folder: Path) -> Path:
    """Cascade Mask R-CNN with 80 classes."""
    return _write('det_configs/revcol_t_cascade.py', shrink_detector, folder / 'detector.py')


def _write(name: str, shrink, path: Path) -> Path:
    config = load_config(name)
    shrink(config)
    config.dump(path)
    return path
