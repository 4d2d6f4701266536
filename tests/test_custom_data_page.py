"""Every block of docs/custom_data.md runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from revcol_backbone.engine.building import build_model
from tests.configs import ROOT, load_config, run_as_user
from tests.custom_configs import fill_in, small
from tests.shapes_data import CLASSES, make_shape_maps, make_shapes
from tests.trees_wheel import make_wheel

PAGE = (ROOT / 'docs/custom_data.md').read_text(encoding='utf-8')
SETTINGS = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
*COMMANDS, TREES = re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
DETECTOR = ("'data/my_dataset/'", '_base_.fine_tuned + ' + "'detection/cmr_tiny_3x_in1k_AP508.pth'")


def detector(data: Path, target: Path, added: str = '') -> Path:
    changes = ((DETECTOR[0], f"'{data}/'"), (DETECTOR[1], 'None'))
    return fill_in('det_configs/custom_dataset.py', target, *changes, added=added)


def segmentor(data: Path, target: Path) -> Path:
    changes = (
        ("'data/my_dataset/'", f"'{data}/'"),
        ("('background', 'road')", repr(('background', *CLASSES))),
        (
            "_base_.fine_tuned + 'segmentation/upernet_revcol_tiny_fp16_512x512_160k_ade20k.pth'",
            'None',
        ),
    )
    return fill_in('seg_configs/custom_dataset.py', target, *changes)


def make_checkout(folder: Path) -> None:
    """Link or copy what the commands need."""
    for name in ('base_configs', 'det_configs', 'seg_configs'):
        shutil.copytree(ROOT / name, folder / name)
    (folder / 'tools').symlink_to(ROOT / 'tools')


def run(block: str, folder: Path) -> None:
    command = ['bash', '-euc', block.replace('--gpus 1', '--gpus 0')]
    result = run_as_user(command, folder)
    assert result.returncode == 0, result.stdout[-3000:]


def test_the_page_has_its_blocks():
    assert PAGE.count('```') == 2 * (len(SETTINGS) + len(COMMANDS) + 1)
    assert len(SETTINGS) == 6
    assert len(COMMANDS) == 3
    assert 'make_trees_dataset' in TREES


@pytest.mark.parametrize('block', SETTINGS, ids=lambda block: block.split()[0])
def test_a_setting_trains_at_the_end_of_the_template(block, tmp_path):
    data = make_shapes(tmp_path / 'data')
    path = detector(data, tmp_path / 'mine.py', added=block)
    assert Config.fromfile(path).to_dict() != Config.fromfile(detector(data, path)).to_dict()
    config = small(detector(data, path, added=block), tmp_path)
    Runner.from_cfg(config).train()
    assert list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path):
    make_checkout(tmp_path)
    make_shapes(tmp_path / 'data/my_dataset')
    make_shape_maps(tmp_path / 'data/my_maps')
    # The templates, filled in and small.
    for folder, make, data in (
        ('det_configs', detector, 'data/my_dataset'),
        ('seg_configs', segmentor, 'data/my_maps'),
    ):
        config = small(make(tmp_path / data, tmp_path / 'filled_in.py'), tmp_path)
        config.pop('work_dir')
        config.dump(tmp_path / folder / 'custom_dataset.py')
    for block in COMMANDS:
        run(block, tmp_path)
    assert (tmp_path / 'data/my_dataset/train_first1.json').is_file()
    assert list((tmp_path / 'results').iterdir())
    assert (tmp_path / 'work_dirs/my_maps/last_checkpoint').is_file()


@pytest.mark.slow
def test_the_example_of_trees_runs_on_a_small_wheel(tmp_path):
    make_checkout(tmp_path)
    config = tmp_path / 'det_configs/trees_cascade_boxes.py'
    text = config.read_text()
    assert 'max_epochs = 8\n' in text
    config.write_text(text.replace('max_epochs = 8\n', 'max_epochs = 1\n'))
    wheel = make_wheel(tmp_path / 'deepforest.whl')
    # In place of what the quickstart learns.
    start = tmp_path / Config.fromfile(config).load_from
    start.parent.mkdir(parents=True)
    model = build_model(load_config('det_configs/quickstart_cascade.py'))
    torch.save(dict(state_dict=model.state_dict()), start)
    run(TREES.replace('make_trees_dataset.py', f'make_trees_dataset.py --wheel {wheel}'), tmp_path)
    height, width = cv2.imread(str(tmp_path / 'docs/trees.jpg')).shape[:2]
    assert width == 1200
    assert height > 100
