"""A training run of a second that has all that a real one has: data, schedule, averages, RevCol."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from revcol_backbone import RevCol

ARCH = dict(channels=(4, 6, 8, 10), layers=(1, 1, 1, 1), columns=2)
IMAGES, BATCH = 12, 2
_numbers = itertools.count()  # mmengine knows one run of a name in a process
HOOK_TYPES = ('ExactResumeHook', 'NonFiniteLossHook', 'TerminationHook', 'HeartbeatHook')


@DATASETS.register_module(force=True)
class TinyImages(BaseDataset):
    """Images of noise whose augmentation draws from all three random generators."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        return [dict(number=number) for number in range(IMAGES)]

    def prepare_data(self, index: int) -> dict:
        image = torch.from_numpy(np.random.default_rng(index).random((3, 32, 32), np.float32))
        noise = torch.tensor(1.5)
        if not self.test_mode:
            noise = random.random() + np.random.random() + torch.rand(1)
        return dict(inputs=image * noise, label=torch.tensor(index % 2))


@MODELS.register_module(force=True)
class TinyClassifier(BaseModel):
    """A RevCol with a linear layer."""

    def __init__(self, drop_path_rate: float = 0.3) -> None:
        super().__init__()
        self.backbone = RevCol(ARCH, drop_path_rate=drop_path_rate, save_memory=True)
        for name, parameter in self.backbone.named_parameters():
            if name.endswith('gamma'):
                parameter.data.fill_(0.5)
        self.head = nn.Linear(ARCH['channels'][-1], 2)

    def forward(self, inputs: list[Tensor], label: list[Tensor], mode: str) -> dict | list:
        features = self.backbone(torch.stack(list(inputs)))[-1].mean((2, 3))
        scores = self.head(features)
        if mode == 'predict':
            return list(scores)
        return {'loss_cls': nn.functional.cross_entropy(scores, torch.stack(list(label)))}


@METRICS.register_module(force=True)
class TinyMetric(BaseMetric):
    """The mean score, after taking numbers out of the random generators as a real one may."""

    default_prefix = 'tiny'

    def process(self, data_batch: object, data_samples: list[Tensor]) -> None:
        torch.rand(3), np.random.random(), random.random()
        self.results += [float(scores[0]) for scores in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'score': float(np.mean(results))}


@HOOKS.register_module(force=True)
class SignalAt(Hook):
    """Sends this process a signal before an iteration, counted from 1."""

    def __init__(self, iteration: int, number: int) -> None:
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner: Runner, **_: object) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


def make_config(folder: Path, by_epoch: bool, total: int, interval: int = 1) -> Config:
    """The config of a run.

    Args:
        folder: The work directory.
        by_epoch: Whether epochs of ``IMAGES // BATCH`` iterations are counted.
        total: Number of epochs or iterations.
        interval: Of checkpoints and validation, in the same unit.
    """
    dataset = dict(type='TinyImages', lazy_init=False, serialize_data=False)
    loader = dict(batch_size=BATCH, num_workers=0, dataset=dataset)
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
    train_cfg = dict(by_epoch=by_epoch, val_interval=interval)
    train_cfg['max_epochs' if by_epoch else 'max_iters'] = total
    return Config(
        dict(
            model=dict(type='TinyClassifier'),
            work_dir=str(folder),
            train_dataloader=dict(loader, sampler=sampler),
            val_dataloader=dict(
                loader,
                dataset=dict(dataset, test_mode=True),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_evaluator=dict(type='TinyMetric'),
            train_cfg=train_cfg,
            val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2), clip_grad=dict(max_norm=1.0)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8),
                dict(type='CosineAnnealingLR', by_epoch=by_epoch, begin=0, end=total),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook',
                    interval=interval,
                    by_epoch=by_epoch,
                    max_keep_ckpts=2,
                )
            ),
            custom_hooks=[
                dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1),
                *(dict(type=name) for name in HOOK_TYPES),
            ],
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            default_scope='mmengine',
            randomness=dict(seed=0),
            log_level='WARNING',
        )
    )


def train(config: Config, resume: bool = False) -> Runner:
    """Run a config in this process."""
    config = Config(config.to_dict())
    config.update(resume=resume, experiment_name=f'tiny_{next(_numbers)}')
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def load(path: Path) -> dict:
    """Read a checkpoint."""
    return torch.load(path, map_location='cpu', weights_only=True)
