"""Every block of docs/custom_data.md runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from tests.configs import ROOT
from tests.custom_configs import fill_in, small
from tests.shapes_data import CLASSES, make_shape_maps, make_shapes

PAGE = (ROOT / 'docs/custom_data.md').read_text(encoding='utf-8')
# Before its section on trees, which tools/make_trees_dataset.py and minutes of training belong to.
GUIDE = PAGE.partition('\n## Trees')[0]
SETTINGS = re.findall(r'```python\n(.*?)```', GUIDE, re.DOTALL)
COMMANDS = re.findall(r'```bash\n(.*?)```', GUIDE, re.DOTALL)
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


def test_the_page_has_its_blocks():
    assert len(SETTINGS) == 6
    assert len(COMMANDS) == 3


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
    for folder in ('base_configs', 'det_configs', 'seg_configs'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
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
    environment = dict(
        os.environ,
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
        PYTHONPATH=str(ROOT),
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    )
    for block in COMMANDS:
        result = subprocess.run(
            ['bash', '-euc', block.replace('--gpus 1', '--gpus 0')],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-3000:]
    assert (tmp_path / 'data/my_dataset/train_first1.json').is_file()
    assert list((tmp_path / 'results').iterdir())
    assert (tmp_path / 'work_dirs/my_maps/last_checkpoint').is_file()
