"""What the tests of detection and segmentation configs share."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from revcol_backbone import VARIANTS, RevCol
from tests.device import DEVICE

ROOT = Path(__file__).parents[1]
TINY = dict(channels=[8, 16, 24, 32], layers=[1, 1, 1, 1], columns=2)
_load_once = functools.cache(load)


@functools.cache
def _load(path: str) -> Config:
    # mmengine reads all of a project's metafiles for every inherited file.
    with mock.patch('mmengine.config.utils.load', _load_once):
        return Config.fromfile(path)


def load_config(path: str) -> Config:
    """A copy of a config of this project, which the caller may change."""
    return copy.deepcopy(_load(str(ROOT / path)))


def build_model(config: Config, device: str = 'cpu') -> nn.Module:
    """The config's model, with its initial weights unless the device is ``'meta'``."""
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device(device):
        model = MODELS.build(config.model)
        if device != 'meta':
            model.init_weights()
    return model


def use_tiny_backbone(config: Config) -> None:
    """Narrow the backbone; its consumers' input widths are the caller's business."""
    backbone = config.model.backbone
    variant = VARIANTS[backbone.arch]
    backbone.update(arch=dict(TINY, long_up=variant.long_up), init_cfg=None)


def millions(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def assert_groups_follow_the_rule(config: Config, model: nn.Module) -> None:
    """Check every parameter's learning rate and weight decay against the spec's rule."""
    rate = config.optim_wrapper.paramwise_cfg.decay_rate
    optimizer = config.optim_wrapper.optimizer
    arch = next(module.arch for module in model.modules() if isinstance(module, RevCol))
    found = {
        parameter: group
        for group in build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
        for parameter in group['params']
    }
    assert len(found) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        last = sum(arch.layers) + arch.columns
        layer = last
        if name.startswith('backbone.'):
            layer = expected_layer_id(name.removeprefix('backbone.'), arch.layers)
        exempt = parameter.ndim == 1 or name.endswith('bias') or '.alpha' in name
        group = found[parameter]
        assert abs(group['lr'] / (optimizer.lr * rate ** (last - layer)) - 1) < 1e-9, name
        assert group['weight_decay'] == (0 if exempt else optimizer.weight_decay), name


def expected_layer_id(name: str, layers: tuple[int, ...]) -> int:
    """The spec's rule, from the parameter's name within the backbone."""
    parts = name.split('.')
    if parts[0] == 'stem':
        return 0
    column = int(parts[0].removeprefix('subnet'))
    if parts[1].startswith('alpha'):
        return 1 + column
    level = int(parts[1].removeprefix('level'))
    block = int(parts[3]) if parts[2] == 'blocks' else 0
    return 1 + column + sum(layers[:level]) + block


def light_loaders(side: int) -> list[str]:
    """Options for images of one size in a test, loaded by the process itself."""
    loaders = [f'{split}_dataloader' for split in ('train', 'val', 'test')]
    options = [f'{loader}.num_workers=0' for loader in loaders]
    options += [f'{loader}.persistent_workers=False' for loader in loaders]
    return options + [
        f'{loader}.dataset.pipeline.1.scale=({side},{side})' for loader in loaders[1:]
    ]


def mim(*arguments: object, cwd: Path, succeeds: bool = True) -> str:
    """Run a mim command as a user would, which has to succeed or fail; returns what it printed.

    One process computes on the device of the tests, several that a launcher starts on CPUs.
    """
    command = [sys.executable, '-W', 'ignore', '-m', 'mim', *map(str, arguments)]
    result = run_as_user(command, cwd, hides_gpus=DEVICE.type == 'cpu' or '--launcher' in arguments)
    assert (result.returncode == 0) == succeeds, result.stdout[-4000:]
    return result.stdout


def run_as_user(
    command: list[str], cwd: Path, hides_gpus: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment's programs, on one thread of the CPU unless on a GPU."""
    environment = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHONPATH=str(ROOT),  # for what configs of tests import
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    )
    if hides_gpus:
        environment['CUDA_VISIBLE_DEVICES'] = ''
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
