"""What the comparison of pre-training trains, and how it reads and sums up the curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from tools.benchmarks.pretraining import (
    STARTS,
    Training,
    downstream_config,
    pretraining_config,
    table,
)


def parsed(text: str, folder: Path) -> Config:
    (folder / 'config.py').write_text(text)
    return Config.fromfile(folder / 'config.py')


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_starts_differ_in_weights_and_learning_rate_of_the_backbone_alone(
    task: str, tmp_path: Path
) -> None:
    pretraining = Training(tmp_path / 'pre', 'mmpretrain', '')
    scratch, tuned = (
        parsed(downstream_config(task, start, 1, tmp_path / 'val.json'), tmp_path)
        for start in (None, pretraining)
    )
    assert tuned.model.backbone.pop('init_cfg') == dict(
        type='Pretrained', checkpoint=str(tmp_path / 'pre/run/epoch_3.pth')
    )
    assert scratch.model.backbone.pop('init_cfg').type == 'Xavier'
    assert tuned.optim_wrapper.pop('constructor') == 'RevColLayerDecayOptimWrapperConstructor'
    assert tuned.optim_wrapper.pop('paramwise_cfg') == dict(decay_rate=0.8)
    assert scratch.optim_wrapper.pop('paramwise_cfg').custom_keys.gamma.lr_mult == 50
    assert tuned.to_dict() == scratch.to_dict()
    assert tuned.randomness.seed == 1
    assert tuned.train_dataloader.dataset.indices == 100
    assert [hook for hook in scratch.param_scheduler if hook.type != 'LinearLR'] == []


def test_supervision_is_all_that_the_pre_trainings_differ_in(tmp_path: Path) -> None:
    on, off = (parsed(pretraining_config(start), tmp_path) for start in STARTS[1:])
    assert on.model.pop('intermediate_supervision') is True
    assert off.model.pop('intermediate_supervision') is False
    assert on.to_dict() == off.to_dict()


@pytest.mark.parametrize(
    ('metric', 'logged', 'percent'), [('coco/bbox_mAP', 0.25, 25), ('mIoU', 31.5, 31.5)]
)
def test_curves_are_in_percent(tmp_path: Path, metric: str, logged: float, percent: float) -> None:
    scalars = tmp_path / 'run/20260101_000000/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    lines = [{'loss': 1.0, 'step': 20}, {metric: logged, 'step': 40}]
    scalars.write_text('\n'.join(map(json.dumps, lines)))
    assert Training(tmp_path, 'mmdet', '').curve(metric) == [percent]


def test_table_has_mean_and_range_at_half_and_all_steps() -> None:
    curves = {
        (task, start, seed): [0.0, 10.0 * (seed + 1), 0.0, 40.0 + seed]
        for task in ('detection', 'segmentation')
        for start in STARTS
        for seed in (0, 1)
    }
    row = '15.0 (10.0 to 20.0) | 40.5 (40.0 to 41.0)'
    lines = table(curves).splitlines()
    assert lines[2:] == [f'| {start} | {row} | {row} |' for start in STARTS]
    assert 'box AP, 80 steps | box AP, 160 steps' in lines[0]
