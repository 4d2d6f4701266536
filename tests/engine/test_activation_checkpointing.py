"""The two options of docs/training.md that take memory for time: the same training."""

from __future__ import annotations

import copy
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from tests.tiny_runs import tiny_segmentor


def updates(config: Config, changes: dict) -> dict[str, Tensor]:
    """How two iterations of plain gradient descent change each parameter."""
    config = copy.deepcopy(config)
    config.merge_from_dict(changes)
    config.randomness = dict(seed=0)
    config.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    config.param_scheduler = []
    config.work_dir = f'{config.work_dir}_{len(changes)}'
    config.experiment_name = Path(config.work_dir).name
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.model.init_weights = lambda: None
    runner.train()
    return {name: p.detach() - before[name] for name, p in runner.model.named_parameters()}


def test_a_segmentor_trains_as_without_the_options(tmp_path: Path) -> None:
    config = tiny_segmentor('revcol_t_upernet', tmp_path)
    config.model.backbone.drop_path_rate = 0.0
    for head in ('decode_head', 'auxiliary_head'):
        config.model[head].dropout_ratio = 0.0
    plain = updates(config, {})
    options = {
        'model.backbone.save_memory': True,
        'activation_checkpointing': ['decode_head.fpn_bottleneck'],
    }
    saving = updates(config, options)
    assert 'Enabling the "activation_checkpointing" feature' in ''.join(
        path.read_text() for path in tmp_path.rglob('*.log')
    )
    assert plain.keys() == saving.keys()
    of_bottleneck = 'decode_head.fpn_bottleneck.conv.weight'
    assert plain[of_bottleneck].norm() > 1e-3
    for name, value in plain.items():
        error = (saving[name] - value).norm()
        assert error <= 1e-3 * value.norm() + 1e-6, name
