"""IC-ResNet-18 against ResNet-18 on the digits: classification, detection and segmentation.

    python tools/benchmarks/ic_digits.py --out work_dirs/ic_digits
    python tools/benchmarks/ic_digits.py --tasks classification --seeds 2

Both have the same seeds, data and schedule, and a fraction of the usual width. The classifier sees
scikit-learn's 8 x 8 digits, enlarged to 32 x 32: 600 to train, the others to test; it is also
trained with other forms of the unit. Detector and segmentor are those of ic_resnet18_quickstart.py
on a small set of tools/make_digits_dataset.py, with nothing but the backbone's type changed.

Every run is written to --out as it ends, and not repeated; the table and the picture show all that
lies there. A standard deviation is that of the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.backbones.resnet import BasicBlock
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.ic import ICConv2d, measure_active_shares
from revcol_backbone.ic.detection import ICResNet

ROOT = Path(__file__).parents[2]
WIDTH = 16  # base channels of the classifier
TRAIN_IMAGES, IMAGE_SIZE = 600, 32
EPOCHS, BATCH_SIZE = 16, 50
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.05
SCENES = ('--train', '320', '--val', '80', '--size', '128')
DETECTION_EPOCHS, SEGMENTATION_STEPS, POINTS = 6, 320, 4
PLAIN = 'ResNet-18'
# Arguments of ICResNet; None is the basic model.
FORMS: dict[str, dict | None] = {
    PLAIN: None,
    "IC, w' from 0": dict(collision_start=0.0),
    "IC, w' from the mean": dict(collision_start='mean'),
    "IC, w' from 1": dict(collision_start=1.0),
    "IC, one w' a layer, from the mean": dict(collision_start='mean', shared=True),
    "IC, w' from 0, BN before the term": dict(collision_start=0.0, norm_first=True),
    "IC, w' from 0, all convolutions": dict(collision_start=0.0, ic_convolutions='all'),
    "IC, w' from 0, gain from 0": dict(collision_start=0.0, collision_gain=True),
}
# What a trained basic model is loaded into.
LOADING_FORMS = (
    "IC, w' from 0",
    "IC, w' from the mean",
    "IC, w' from 1",
    "IC, w' from 0, gain from 0",
)
TASKS = ('classification', 'detection', 'segmentation')
METRICS = {
    'classification': 'accuracy',
    'detection': 'coco/bbox_mAP',
    'segmentation': 'mIoU',
}


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    MMLogger.get_current_instance().setLevel('ERROR')  # of what is initialized how
    arguments.out.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks:
        for seed in range(arguments.seeds):
            for name in arguments.forms if task == 'classification' else arguments.downstream:
                run_once(task, name, seed, arguments)
    runs = read_runs(arguments.out)
    table = format_tables(runs)
    print(table)
    write_atomically(arguments.out / 'tables.md', lambda path: path.write_text(table + '\n'))
    draw_curves(runs, arguments.out / 'curves.png')


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=TASKS)
    parser.add_argument('--seeds', type=int, default=5, help='runs of each, from seed 0 on')
    parser.add_argument(
        '--forms',
        nargs='+',
        choices=FORMS,
        metavar='FORM',
        default=list(FORMS),
        help='forms that the classifier is trained with',
    )
    parser.add_argument(
        '--downstream',
        nargs='+',
        choices=FORMS,
        metavar='FORM',
        default=[PLAIN, "IC, w' from 0"],
        help='forms that detector and segmentor are trained with',
    )
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ic_digits'))
    return parser.parse_args()


def run_once(task: str, form: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train and test once, unless the result is there."""
    name = ''.join(letter if letter.isalnum() else '_' for letter in form)
    path = arguments.out / f'{task}-{name}-{seed}.json'
    if path.exists():
        return
    train = classify if task == 'classification' else train_downstream
    result = dict(task=task, form=form, seed=seed, **train(task, form, seed, arguments.out))
    write_atomically(path, lambda partial: partial.write_text(json.dumps(result)))
    print(f'{task}, {form}, seed {seed}: {result["curve"][-1][1]:.4f}', file=sys.stderr, flush=True)


class SharedValue(nn.Module):
    """Makes one value of all channels' values, their mean."""

    def forward(self, values: Tensor) -> Tensor:
        return values.mean().expand_as(values)


class NormFirst(nn.Module):
    """A unit whose batch norm stands between the convolution and the collision term."""

    def __init__(self, unit: ICConv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.unit, self.norm = unit, norm

    def forward(self, x: Tensor) -> Tensor:
        unit = self.unit
        u = self.norm(unit._conv_forward(x, unit.weight, None))
        ones = torch.ones(1, 1, *unit.kernel_size)
        sums = F.conv2d(x.sum(1, keepdim=True), ones, None, unit.stride, unit.padding)
        weight, bias = (p.view(1, -1, 1, 1) for p in (unit.collision_weight, unit.collision_bias))
        return u + torch.relu(u - weight * sums + bias)


def build_classifier(form: str) -> nn.Sequential:
    """A ResNet-18 for digits in one of the forms."""
    settings = dict(FORMS[form] or {})
    is_shared, is_norm_first = settings.pop('shared', False), settings.pop('norm_first', False)
    backbone = ICResNet(
        18, base_channels=WIDTH, norm_eval=False, out_indices=(3,), in_channels=1, **settings
    )
    if FORMS[form] is None:
        make_plain(backbone)
    backbone.init_weights()
    for module in list(backbone.modules()):
        if is_shared and isinstance(module, ICConv2d):
            parametrize.register_parametrization(module, 'collision_weight', SharedValue())
        if is_norm_first and isinstance(module, BasicBlock):
            for conv, norm in (('conv1', module.norm1_name), ('conv2', module.norm2_name)):
                setattr(module, conv, NormFirst(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    head = nn.Linear(8 * WIDTH, 10)
    return nn.Sequential(backbone, Last(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def make_plain(model: nn.Module) -> None:
    """Turn units back into ordinary convolutions with the same weights."""
    for name, unit in list(model.named_modules()):
        if isinstance(unit, ICConv2d):
            conv = nn.Conv2d(
                unit.in_channels,
                unit.out_channels,
                unit.kernel_size,
                unit.stride,
                unit.padding,
                bias=False,
            )
            conv.weight = unit.weight
            parent, _, own = name.rpartition('.')
            setattr(model.get_submodule(parent), own, conv)


class Last(nn.Module):
    """Takes the last of a backbone's outputs."""

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[-1]


def classify(task: str, form: str, seed: int, folder: Path) -> dict:
    """Train on the 8 x 8 digits; the accuracy after every epoch, and the shares at both ends."""
    images, labels = read_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TRAIN_IMAGES], order[TRAIN_IMAGES:]
    torch.manual_seed(seed)
    model = build_classifier(form)
    multiply_adds = count_multiply_adds(model)
    shares = [measure_shares(model, images[train])]
    steps = EPOCHS * TRAIN_IMAGES // BATCH_SIZE
    optimizer = torch.optim.AdamW(group_parameters(model), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    batches = torch.Generator().manual_seed(seed)
    curve = []
    for epoch in range(EPOCHS):
        model.train()
        for batch in train[torch.randperm(len(train), generator=batches)].split(BATCH_SIZE):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            found = torch.cat([model(part).argmax(1) for part in images[test].split(200)])
        curve.append((epoch + 1, float((found == labels[test]).float().mean())))
    shares.append(measure_shares(model, images[train]))
    result = dict(curve=curve, multiply_adds=multiply_adds, shares=shares)
    if form == PLAIN:
        result['loaded'] = measure_loading(model, images[test], labels[test])
    return result


@torch.no_grad()
def measure_loading(basic: nn.Module, images: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """How far the features move, and the accuracy, where units take a trained basic model over.

    The distance is that of the last features, relative to their own length.
    """
    basic.eval()
    expected = torch.cat([basic[0](part)[-1] for part in images.split(200)])
    found = {}
    for form in LOADING_FORMS:
        model = build_classifier(form)
        model.load_state_dict(basic.state_dict(), strict=False)
        for module in model.modules():
            if isinstance(module, ICConv2d):
                module.reset_collision()  # to the mean of the loaded weights
        model.eval()
        features = torch.cat([model[0](part)[-1] for part in images.split(200)])
        logits = torch.cat([model(part) for part in images.split(200)])
        distance = float((features - expected).norm() / expected.norm())
        found[form] = [distance, float((logits.argmax(1) == labels).float().mean())]
    return found


def read_digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1
    images = F.interpolate(images, size=(IMAGE_SIZE,) * 2, mode='bilinear')
    return images, torch.from_numpy(digits.target).long()


def group_parameters(model: nn.Module) -> list[dict]:
    """Weight decay for weights, none for biases, norms and collision parameters."""
    groups = defaultdict(list)
    for parameter in model.parameters():
        groups[WEIGHT_DECAY if parameter.ndim > 1 else 0.0].append(parameter)
    return [dict(params=params, weight_decay=decay) for decay, params in groups.items()]


def count_multiply_adds(model: nn.Module) -> int:
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE))
    return counter.get_total_flops() // 2


def measure_shares(model: nn.Module, images: Tensor) -> dict[str, float]:
    """The shares of active terms, with the statistics of the batch as in training."""
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    try:
        return measure_active_shares(model, lambda: model(images[:100]))
    except ValueError:
        return {}
    finally:
        model.load_state_dict(kept)


class Curve(Hook):
    """Collects the figures of every validation."""

    def __init__(self, metric: str) -> None:
        self.metric, self.points = metric, []

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.points.append((runner.iter, float(metrics[self.metric])))


def train_downstream(task: str, form: str, seed: int, folder: Path) -> dict:
    """Train the detector or segmentor of the quickstart; AP or mIoU at some points of it."""
    package = 'det' if task == 'detection' else 'seg'
    config = Config.fromfile(ROOT / f'{package}_configs/ic_resnet18_quickstart.py')
    import_modules_from_strings(**config.custom_imports)
    settings = FORMS[form]
    config.model.backbone.update(settings or {})
    if settings is None:
        config.model.backbone.type = 'ResNet'
    config.merge_from_dict(
        dict(
            work_dir=str(folder / 'runs' / f'{task}-{seed}-{config.model.backbone.type}'),
            randomness=dict(seed=seed),
            val_dataloader=config.test_dataloader,
            val_evaluator=config.test_evaluator,
            val_cfg=dict(),
            log_level='ERROR',
            default_hooks=dict(checkpoint=None, logger=dict(interval=1000)),
        )
    )
    data = str(make_scenes(folder)) + '/'
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = data
    if task == 'detection':
        config.train_cfg.update(
            max_epochs=DETECTION_EPOCHS,
            val_interval=DETECTION_EPOCHS // POINTS or 1,
        )
        for evaluator in (config.val_evaluator, config.test_evaluator):
            evaluator.ann_file = f'{data}annotations/instances_val.json'
            evaluator.metric = 'bbox'
    else:
        config.train_cfg.update(
            max_iters=SEGMENTATION_STEPS, val_interval=SEGMENTATION_STEPS // POINTS
        )
    for scheduler in config.param_scheduler:
        if scheduler.type == 'CosineAnnealingLR':
            end = DETECTION_EPOCHS if task == 'detection' else SEGMENTATION_STEPS
            scheduler.update(T_max=end, end=end)
    curve = Curve(METRICS[task])
    with DefaultScope.overwrite_default_scope(config.default_scope):
        runner = Runner.from_cfg(config)
        runner.register_hook(curve)
        runner.train()
    return dict(curve=curve.points)


def make_scenes(folder: Path) -> Path:
    """The detector's and segmentor's data, made once."""
    data = folder / 'digits'
    if not (data / 'dataset.json').exists():
        command = [sys.executable, str(ROOT / 'tools/make_digits_dataset.py'), '--out', str(data)]
        subprocess.run([*command, *SCENES], check=True, stdout=subprocess.DEVNULL)
    return data


def read_runs(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob('*-*-*.json'))]


def collect(runs: list[dict], task: str) -> dict[str, list[dict]]:
    """The runs of a task by form, in the order of the forms."""
    found = {
        form: [run for run in runs if (run['task'], run['form']) == (task, form)] for form in FORMS
    }
    return {form: of_form for form, of_form in found.items() if of_form}


def format_tables(runs: list[dict]) -> str:
    """The figures of each task, and the shares of active terms by layer."""
    lines = []
    for task, metric in METRICS.items():
        forms = collect(runs, task)
        if not forms:
            continue
        plain = {run['seed']: last(run) for run in forms.get(PLAIN, [])}
        lines += [
            f'{task}: {metric}, in percent',
            '',
            '| form | seeds | mean | deviation | less the plain one, same seed | multiply-adds |',
            '|---|---|---|---|---|---|',
        ]
        for form, of_form in forms.items():
            values = np.array([last(run) for run in of_form])
            pairs = [last(run) - plain[run['seed']] for run in of_form if run['seed'] in plain]
            difference = f'{np.mean(pairs):+.2f} ± {deviation(pairs)}' if pairs else ''
            count = of_form[0].get('multiply_adds')
            lines.append(
                f'| {form} | {len(values)} | {values.mean():.2f} | {deviation(values)} '
                f'| {difference if form != PLAIN else ""} '
                f'| {f"{count / 1e6:.3f}M" if count else ""} |'
            )
        lines.append('')
    classifiers = collect(runs, 'classification')
    lines += format_loading([run for run in classifiers.get(PLAIN, []) if 'loaded' in run])
    return '\n'.join([*lines, *format_shares(classifiers)])


def format_loading(runs: list[dict]) -> list[str]:
    if not runs:
        return []
    plain = np.mean([last(run) for run in runs])
    lines = [
        f'Units that take over a trained basic model of {plain:.2f}% accuracy, {len(runs)} seeds',
        '',
        '| form | features move by | accuracy |',
        '|---|---|---|',
    ]
    for form in LOADING_FORMS:
        distance, accuracy = np.mean([run['loaded'][form] for run in runs], axis=0)
        lines.append(f'| {form} | {distance:.2g} | {100 * accuracy:.2f} |')
    return [*lines, '']


def format_shares(forms: dict[str, list[dict]]) -> list[str]:
    wanted = {form: of for form, of in forms.items() if of[0]['shares'][0]}
    if not wanted:
        return []
    lines = [
        'Active collision terms by layer, in percent, at the start / after training, mean of seeds',
        '',
        f'| layer | {" | ".join(wanted)} |',
        f'|---|{"---|" * len(wanted)}',
    ]
    layers = dict.fromkeys(name for of in wanted.values() for name in of[0]['shares'][0])
    for layer in layers:
        cells = []
        for of_form in wanted.values():
            both = [[run['shares'][end].get(layer, np.nan) for run in of_form] for end in (0, 1)]
            start, end = (100 * float(np.mean(values)) for values in both)
            cells.append('' if np.isnan(start) else f'{start:.0f} / {end:.0f}')
        lines.append(f'| {layer.partition(".")[2]} | {" | ".join(cells)} |')
    return lines


def last(run: dict) -> float:
    """The final figure, in percent; mIoU is given in percent already."""
    value = run['curve'][-1][1]
    return value if run['task'] == 'segmentation' else 100 * value


def deviation(values: list[float] | np.ndarray) -> str:
    """The standard deviation over the seeds; one seed has none."""
    return f'{np.std(values, ddof=1):.2f}' if len(values) > 1 else '-'


def draw_curves(runs: list[dict], path: Path) -> None:
    """Draw mean and deviation of each form over training."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    tasks = [task for task in TASKS if collect(runs, task)]
    figure, axes = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 4), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for form, of_form in collect(runs, task).items():
            points = np.array([run['curve'] for run in of_form])
            scale = 1 if task == 'segmentation' else 100
            steps, values = points[0, :, 0], scale * points[:, :, 1]
            mean, spread = values.mean(0), values.std(0, ddof=1 if len(values) > 1 else 0)
            (line,) = axis.plot(steps, mean, label=form, marker='.')
            color = line.get_color()
            axis.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.12)
        axis.set_title(f'{task}: {METRICS[task].removeprefix("coco/")}, percent')
        axis.set_xlabel('epoch' if task == 'classification' else 'step')
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        figure.savefig(partial, dpi=110)
        os.replace(partial, path)


if __name__ == '__main__':
    main()
