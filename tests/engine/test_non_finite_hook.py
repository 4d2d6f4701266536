"""Training stops at the first number that is not finite, before it reaches the weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from revcol_backbone.engine.stopping import TrainingStoppedError
from tests.engine.tiny_training import TinyImages, load, make_config, train


@HOOKS.register_module(force=True)
class Sabotage(Hook):
    """Multiplies a parameter before the given iteration, counted from 1."""

    def __init__(self, iteration: int, parameter: str, factor: float) -> None:
        self.iteration, self.parameter, self.factor = iteration, parameter, factor

    def before_train_iter(self, runner: object, **_: object) -> None:
        if runner.iter + 1 == self.iteration:
            runner.model.get_parameter(self.parameter).data.mul_(self.factor)


def stopped(config) -> str:
    with pytest.raises(TrainingStoppedError) as error:
        train(config)
    return str(error.value)


def assert_finite(path: Path) -> None:
    checkpoint = load(path)
    for entry in ('state_dict', 'ema_state_dict'):
        for name, value in checkpoint[entry].items():
            assert value.isfinite().all(), name


def test_a_level_that_overflows_stops_training_with_its_name_and_good_checkpoints(tmp_path):
    config = make_config(tmp_path, True, 4)
    gamma = 'backbone.subnet1.level2.blocks.0.gamma'
    config.custom_hooks.append(dict(type='Sabotage', iteration=15, parameter=gamma, factor=1e39))
    message = stopped(config)
    assert message.startswith('the loss is not finite at iteration 15 (loss_cls nan); ')
    assert 'the weights are not finite already: backbone.subnet1.level2.blocks.0.gamma' in message
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth', 'epoch_2.pth']
    assert_finite(tmp_path / 'epoch_2.pth')


def test_the_first_output_that_is_not_finite_is_named(tmp_path):
    config = make_config(tmp_path, False, 20, 5)
    weight = 'backbone.subnet1.level2.blocks.0.pwconv2.weight'
    config.custom_hooks.append(dict(type='Sabotage', iteration=9, parameter=weight, factor=1e38))
    config.custom_hooks.append(
        dict(type='Sabotage', iteration=9, parameter=weight[:-14] + 'gamma', factor=1e38)
    )
    message = stopped(config)
    assert re.match(r'the loss is not finite at iteration 9 \(loss_cls (nan|inf)\); ', message)
    assert 'is that of backbone.subnet1.level2.blocks.0' in message
    assert_finite(tmp_path / 'iter_5.pth')


def test_an_image_that_is_not_finite_is_named(tmp_path, monkeypatch):
    config = make_config(tmp_path, True, 1)
    broken = dict(inputs=torch.full((3, 32, 32), torch.inf), label=torch.tensor(0))
    monkeypatch.setattr(TinyImages, 'prepare_data', lambda self, index: broken)
    assert 'at iteration 1 (loss_cls nan); the input images are not finite' in stopped(config)


def test_a_loss_that_is_not_finite_by_itself_is_said(tmp_path):
    config = make_config(tmp_path, True, 1)
    config.custom_hooks.append(
        dict(type='Sabotage', iteration=3, parameter='head.weight', factor=3e38)
    )
    message = stopped(config)
    assert 'is that of head.' in message or 'it comes from the loss itself' in message


def test_a_gradient_that_is_not_finite_stops_training_where_its_norm_is_measured(
    tmp_path, monkeypatch
):
    config = make_config(tmp_path, True, 1)
    # The derivative of the square root at 0 is infinite.
    forward = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        torch.nn.functional,
        'cross_entropy',
        lambda scores, labels: forward(scores, labels) + (0 * scores.sum()).sqrt(),
    )
    message = stopped(config)
    assert message.startswith('the gradient is not finite at iteration 1 (loss_cls 0.')
    assert 'all outputs of modules are finite' in message


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    config = make_config(tmp_path, True, 2)
    config.custom_hooks = [
        dict(type='Sabotage', iteration=8, parameter='head.weight', factor=float('nan'))
    ]
    message = stopped(config)
    assert 'no checkpoint was written at step 2: The model holds weights that are NaN' in message
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth']
    assert Path((tmp_path / 'last_checkpoint').read_text()) == tmp_path / 'epoch_1.pth'


def test_a_sound_training_is_left_alone(tmp_path):
    config = make_config(tmp_path / 'with', False, 6, 3)
    train(config)
    config = make_config(tmp_path / 'without', False, 6, 3)
    config.custom_hooks = [hook for hook in config.custom_hooks if 'NonFinite' not in hook.type]
    train(config)
    torch.testing.assert_close(
        load(tmp_path / 'with/iter_6.pth')['state_dict'],
        load(tmp_path / 'without/iter_6.pth')['state_dict'],
        rtol=0,
        atol=0,
    )
