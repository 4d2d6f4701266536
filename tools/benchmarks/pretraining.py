"""What pre-training on crops of digits brings to the quickstart's detector and segmentor.

    python tools/benchmarks/pretraining.py
    python tools/benchmarks/pretraining.py --seeds 0

Trains cls_configs/quickstart_digits.py on crops, with intermediate supervision and without, then
detectors and segmentors from each of them and from scratch: the same few images, steps, seeds and
learning rate, constant after the warm-up, so that every point of a curve is what a training of so
many steps reaches. Each start has its own rule for the backbone's learning rate: pre-trained ones
layer decay, as the published fine-tuning, and those from scratch layer scales that learn 50 times
as fast, as in the quickstart, because they start at 1e-6. The crops are of scenes and digits that
the validation images do not have. Finished trainings are kept: run again, it resumes. Writes a
table and a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from revcol_backbone.checkpoints.writing import write_atomically

ROOT = Path(__file__).resolve().parents[2]
STARTS = ('from scratch', 'pre-trained', 'pre-trained without supervision')
TASKS = {'detection': 'coco/bbox_mAP', 'segmentation': 'mIoU'}
EVALUATIONS = 4  # points of a curve
TRAIN_IMAGES, VAL_IMAGES = 100, 80
STEPS = {'detection': 160, 'segmentation': 160}
LEARNING_RATES = {'detection': 1e-3, 'segmentation': 2e-3}
LAYER_DECAY = 0.8
PRETRAINING = ROOT / 'cls_configs/quickstart_digits.py'

COLUMNS = 'model = dict(backbone=dict(arch=dict(columns=4), save_memory=False))\n'
SETTINGS = """
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters={steps}, val_interval={steps} // {points}
)
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30)]
optim_wrapper = _base_.optim_wrapper
optim_wrapper.optimizer.lr = {lr}
val_cfg = dict(type='ValLoop')
val_dataloader = _base_.test_dataloader
val_dataloader.dataset.indices = {val_images}
val_evaluator = _base_.test_evaluator
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dict(indices={train_images})
)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval={steps}),
)
randomness = dict(seed={seed})
"""
DETECTION = """
val_dataloader.dataset.ann_file = {annotations!r}
val_evaluator.update(ann_file={annotations!r}, metric='bbox')
"""
PRETRAINED = """
model['backbone']['init_cfg'] = dict(_delete_=True, type='Pretrained', checkpoint={checkpoint!r})
optim_wrapper.constructor = 'RevColLayerDecayOptimWrapperConstructor'
optim_wrapper.paramwise_cfg = dict(_delete_=True, decay_rate={decay})
"""


@dataclass(frozen=True)
class Training:
    """One training: a config in its folder, run by ``mim train``."""

    folder: Path
    package: str
    config: str

    def run(self) -> None:
        """Train unless it is done; a training that fails shows the end of its log."""
        if (self.folder / 'done').exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        config, log = self.folder / 'config.py', self.folder / 'log.txt'
        config.write_text(self.config)
        command = [sys.executable, '-W', 'ignore', '-m', 'mim', 'train', self.package, str(config)]
        command += ['--gpus', '0', '--work-dir', str(self.folder / 'run')]
        environment = {'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', **os.environ}
        with log.open('w') as output:
            ended = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        if ended.returncode:
            raise RuntimeError(f'{config} failed:\n{log.read_text()[-2000:]}')
        (self.folder / 'done').touch()
        print(f'trained {self.folder.name}', flush=True)

    def curve(self, metric: str) -> list[float]:
        """The metric at every evaluation, in percent."""
        path = max((self.folder / 'run').glob('*/vis_data/scalars.json'))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        scale = 100 if 'mAP' in metric else 1
        return [scale * line[metric] for line in lines if metric in line]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything from the command line."""
    args = parse_arguments(arguments)
    out = args.out.resolve()
    for tool in ('make_digits_dataset.py', 'make_digit_crops.py'):
        subprocess.run([sys.executable, str(ROOT / 'tools' / tool)], cwd=ROOT, check=True)
    annotations = out / f'instances_val_{VAL_IMAGES}.json'
    write_subset(ROOT / 'data/digits/annotations/instances_val.json', annotations)
    pretraining = {
        start: Training(out / start.replace(' ', '_'), 'mmpretrain', pretraining_config(start))
        for start in STARTS[1:]
    }
    downstream = {
        (task, start, seed): Training(
            out / f'{task}_{start.replace(" ", "_")}_{seed}',
            'mmdet' if task == 'detection' else 'mmseg',
            downstream_config(task, pretraining.get(start), seed, annotations),
        )
        for seed in args.seeds
        for start in STARTS
        for task in TASKS
    }
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(Training.run, pretraining.values()))
        list(pool.map(Training.run, downstream.values()))
    curves = {key: training.curve(TASKS[key[0]]) for key, training in downstream.items()}
    text = table(curves)
    text += ''.join(
        f'\nTop-1 on crops of validation scenes, {start}: {training.curve("accuracy/top1")[-1]:.1f}'
        for start, training in pretraining.items()
    )
    print(text)
    write_atomically(out / 'results.md', lambda path: path.write_text(text + '\n'))
    draw(curves, out / 'curves.png')


def pretraining_config(start: str) -> str:
    """The quickstart's pre-training, with intermediate supervision or without."""
    return (
        f"_base_ = '{PRETRAINING}'\n"
        f'model = dict(save_memory=False, intermediate_supervision={"without" not in start})\n'
    )


def downstream_config(task: str, pretraining: Training | None, seed: int, annotations: Path) -> str:
    """The quickstart's config with four columns, from scratch or from a pre-training."""
    base = 'det_configs/quickstart_cascade.py'
    if task == 'segmentation':
        base = 'seg_configs/quickstart_upernet.py'
    config = f"_base_ = '{ROOT / base}'\n{COLUMNS}"
    config += SETTINGS.format(
        steps=STEPS[task],
        points=EVALUATIONS,
        lr=LEARNING_RATES[task],
        val_images=VAL_IMAGES,
        train_images=TRAIN_IMAGES,
        seed=seed,
    )
    if task == 'detection':
        config += DETECTION.format(annotations=str(annotations))
    if pretraining is not None:
        last = f'epoch_{Config.fromfile(PRETRAINING).max_epochs}.pth'
        checkpoint = str(pretraining.folder / 'run' / last)
        config += PRETRAINED.format(checkpoint=checkpoint, decay=LAYER_DECAY)
    return config


def write_subset(source: Path, target: Path) -> None:
    """Write the annotations of the first images alone."""
    content = json.loads(source.read_text())
    content['images'] = content['images'][:VAL_IMAGES]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content))


def table(curves: dict[tuple, list[float]]) -> str:
    """Mean and range over the seeds after half of the steps and after all."""
    heads = [
        f'{name}, {steps // part} steps'
        for name, steps in (('box AP', STEPS['detection']), ('mIoU', STEPS['segmentation']))
        for part in (2, 1)
    ]
    lines = [f'| start | {" | ".join(heads)} |', '|---' * (len(heads) + 1) + '|']
    for start in STARTS:
        cells = []
        for task in TASKS:
            runs = [curve for (t, s, _), curve in curves.items() if (t, s) == (task, start)]
            for point in (EVALUATIONS // 2 - 1, EVALUATIONS - 1):
                values = [run[point] for run in runs]
                cells.append(
                    f'{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})'
                )
        lines.append(f'| {start} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def draw(curves: dict[tuple, list[float]], path: Path) -> None:
    """Draw every seed's curve thin and the mean bold."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(TASKS), figsize=(9, 3.6))
    for axis, (task, label) in zip(axes, zip(TASKS, ('box AP', 'mIoU'), strict=True), strict=True):
        x = [STEPS[task] * point // EVALUATIONS for point in range(1, EVALUATIONS + 1)]
        for start, color in zip(STARTS, ('#888888', '#1f77b4', '#d9822b'), strict=True):
            runs = [curve for (t, s, _), curve in curves.items() if (t, s) == (task, start)]
            for run in runs:
                axis.plot(x, run, color=color, alpha=0.35, linewidth=0.8)
            mean = [statistics.mean(values) for values in zip(*runs, strict=True)]
            axis.plot(x, mean, color=color, linewidth=2, marker='o', markersize=4, label=start)
        axis.set(title=task, xlabel='training steps', ylabel=label, xticks=x)
        axis.set_ylim(bottom=0)
        axis.spines[['top', 'right']].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/pretraining')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=2, help='trainings at a time')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    main()
