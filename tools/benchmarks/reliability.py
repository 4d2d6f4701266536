"""Measure what a long training run costs beside its steps: growth of memory and files, and hooks.

Trains a small classifier with a RevCol on random images through mmengine's runner, with every hook
of docs/reliability.md, checkpoints and validation among them. `soak` prints a table over the steps;
`cost` measures which share of a step the hooks take in a larger network.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from revcol_backbone import RevCol
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors

HOOKS = ('ExactResumeHook', 'NonFiniteLossHook', 'TerminationHook', 'HeartbeatHook')
TINY = dict(channels=(8, 12, 16, 20), layers=(1, 1, 1, 1), columns=3)


class RandomImages(Dataset):
    """Images of noise with a class each."""

    def __init__(self, side: int, images: int) -> None:
        self.side, self.images = side, images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(inputs=torch.rand(3, self.side, self.side), label=torch.tensor(index % 2))


class Classifier(BaseModel):
    """A RevCol with a linear layer."""

    def __init__(self, backbone: RevCol) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.arch.channels[-1], 2)

    def forward(self, inputs: list[Tensor], label: list[Tensor], mode: str) -> Any:
        scores = self.head(self.backbone(torch.stack(list(inputs)))[-1].mean((2, 3)))
        if mode == 'loss':
            return {'loss': nn.functional.cross_entropy(scores, torch.stack(list(label)))}
        return list(scores)


class MeanScore(BaseMetric):
    """The mean of the first class's scores."""

    default_prefix = 'benchmark'

    def process(self, data_batch: object, data_samples: list[Tensor]) -> None:
        self.results += [float(scores[0]) for scores in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'mean_score': sum(results) / len(results)}


class Sampler(Hook):
    """Measures the process every so many steps."""

    priority = 'LOWEST'

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.rows: list[dict[str, int]] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, **_: object) -> None:
        """Measure after the step, when its features are free again."""
        step = runner.iter + 1
        if step % self.interval == 0:
            self.rows.append(
                dict(
                    step=step,
                    live_bytes=live_bytes(),
                    resident_kb=resident_kb(),
                    files=len(os.listdir('/proc/self/fd')),
                )
            )
            print(f'| {" | ".join(f"{value:,}" for value in self.rows[-1].values())} |', flush=True)


def live_bytes() -> int:
    """Bytes of all tensors that this process can reach, each storage once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if issubclass(type(item), Tensor):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def resident_kb() -> int:
    """The resident set of this process, in KiB."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') // 1024


def make_runner(
    backbone: RevCol, side: int, batch: int, steps: int, folder: Path, hooks: Sequence[Hook] = ()
) -> Runner:
    """A run of so many steps with a checkpoint and a validation at every tenth part."""
    interval = max(steps // 10, 1)
    loader = dict(batch_size=batch, num_workers=0)
    return Runner(
        model=Classifier(backbone),
        work_dir=str(folder),
        train_dataloader=dict(
            loader, dataset=RandomImages(side, 64), sampler=dict(type='InfiniteSampler')
        ),
        val_dataloader=dict(
            loader, dataset=RandomImages(side, 4), sampler=dict(type='DefaultSampler')
        ),
        val_evaluator=dict(type=MeanScore),
        train_cfg=dict(by_epoch=False, max_iters=steps, val_interval=interval),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-4), clip_grad=dict(max_norm=1.0)),
        default_hooks=dict(
            checkpoint=dict(
                type='AtomicCheckpointHook', by_epoch=False, interval=interval, max_keep_ckpts=2
            ),
            logger=dict(type='LoggerHook', interval=interval),
        ),
        custom_hooks=[
            dict(type='EMAHook'),
            *(dict(type=name) for name in HOOKS),
            *hooks,
        ],
        randomness=dict(seed=0),
        cfg=Config(),
        log_level='ERROR',
        experiment_name=f'reliability_{steps}_{side}',
    )


def soak(steps: int) -> list[dict[str, int]]:
    """Train and measure the process at every twentieth part of the steps."""
    sampler = Sampler(max(steps // 20, 1))
    with tempfile.TemporaryDirectory() as folder:
        make_runner(
            RevCol(TINY, drop_path_rate=0.1, save_memory=True),
            32,
            2,
            steps,
            Path(folder),
            [sampler],
        ).train()
    return sampler.rows


def measure_cost(steps: int, side: int) -> dict[str, float]:
    """Share of each hook in the time of the steps, checkpoints and validation left out."""
    spent: Counter[str] = Counter()

    def timed(name: str, call: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begin

        return run

    class Clock(Hook):
        priority = 'LOWEST'
        begin = 0.0

        def before_train_iter(self, runner: Runner, **_: object) -> None:
            if runner.iter == 2:  # after the first steps, which warm up
                spent.clear()
                self.begin = time.perf_counter()

        def after_train_iter(self, runner: Runner, **_: object) -> None:
            if runner.iter == steps - 2:  # before the last step, which writes a checkpoint
                spent['total'] = time.perf_counter() - self.begin
                self.rows = dict(spent)

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        runner = make_runner(RevCol('tiny'), side, 2, steps, Path(folder), [clock])
        runner._train_loop['val_interval'] = steps
        for hook in runner.hooks:
            name = type(hook).__name__
            if name == 'AtomicCheckpointHook':
                hook.interval = steps
            if name in HOOKS:
                for method in ('before_train_iter', 'after_train_iter', '_see', '_check'):
                    if hasattr(hook, method) and not (method == '_check' and name != HOOKS[1]):
                        setattr(hook, method, timed(name, getattr(hook, method)))
        runner.train()
    total = clock.rows.pop('total')
    return {name: clock.rows.get(name, 0.0) / total for name in HOOKS} | {
        'step_seconds': total / (steps - 3)
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('part', choices=('soak', 'cost'))
    parser.add_argument('--steps', type=int, help='default 2000 for soak, 15 for cost')
    parser.add_argument('--side', type=int, default=224, help='of the images of cost, in pixels')
    parser.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    return parser.parse_args(arguments)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    if args.part == 'soak':
        print('| step | live tensors, bytes | resident, KiB | open files |')
        print('|-----:|-----:|-----:|-----:|')
        content: Any = soak(args.steps or 2000)
    else:
        content = measure_cost(args.steps or 15, args.side)
        seconds = content['step_seconds']
        print(f'a step of RevCol-T, 2 images of {args.side} x {args.side}: {seconds:.2f} s')
        for name in HOOKS:
            print(f'{name}: {content[name]:.3%}')
    if args.out:
        text = json.dumps(content, indent=2) + '\n'
        write_atomically(args.out, lambda partial: partial.write_text(text))


if __name__ == '__main__':
    sys.exit(main())
