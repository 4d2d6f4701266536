"""Test a published fine-tuned model on its data set, and print the figures beside the published.

The data set is checked first; then the published file is downloaded (an interrupted download goes
on where it stopped) and its size and hash are checked where its server tells them; then mmengine
runs the test. The exit status is 0 if every figure is reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from revcol_backbone.checkpoints.sources import download_verified
from revcol_backbone.cli import report_errors
from revcol_backbone.dataset_check import LAYOUTS, check_dataset
from revcol_backbone.dataset_check.check import DEFAULT_SAMPLE
from revcol_backbone.engine.hooks import FineTunedCheckpointHook
from revcol_backbone.model_zoo import IndexedModel, read_model_index

ROOT = Path(__file__).parents[1]
EXAMPLES = """examples:
  %(prog)s --list
  %(prog)s revcol_t_cascade --data-root data/coco
  %(prog)s revcol_t_upernet --tta
  torchrun --nproc-per-node 8 %(prog)s revcol_l_cascade_in22k --launcher pytorch
"""
DATA_SETS = {'COCO': 'coco', 'ADE20K': 'ade20k', 'Cityscapes': 'cityscapes'}
MULTI_SCALE = '(ms+flip)'
# Where mmdet's and mmseg's metrics put each figure, and what makes a percentage of it.
METRICS = {'box AP': ('coco/bbox_mAP', 100), 'mask AP': ('coco/segm_mAP', 100), 'mIoU': ('mIoU', 1)}
DEFAULT_TOLERANCE = 0.1  # points: one unit of the last published digit


def read_testable(index: Path) -> list[IndexedModel]:
    """Read the detectors and segmentors of an index; classifiers are tested by mmpretrain."""
    return [model for model in read_model_index(index) if model.dataset in DATA_SETS]


def choose_model(name: str, index: Path) -> IndexedModel:
    """Find a model by its name.

    Raises:
        ValueError: There is none; the message has the names.
    """
    models = {model.name: model for model in read_testable(index)}
    if name not in models:
        raise ValueError(f'{name} is unknown; the models are {", ".join(models)}.')
    return models[name]


def published_figures(model: IndexedModel, tta: bool) -> dict[str, float]:
    """The published figures of the single-scale or the multi-scale test, in percent.

    Raises:
        ValueError: There are none.
    """
    figures = {
        metric.removesuffix(MULTI_SCALE): value
        for metric, value in model.figures.items()
        if metric.endswith(MULTI_SCALE) == tta
    }
    if not figures:
        raise ValueError(f'{model.name} has no published multi-scale figures; leave out --tta.')
    return figures


def locate_weights(model: IndexedModel, checkpoint: Path | None) -> Path:
    """The file to test: the given one, or the published one, downloaded if it is not there.

    Raises:
        ValueError: None was published, or it is damaged.
        OSError: It is missing or cannot be downloaded.
    """
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise FileNotFoundError(f'{checkpoint} is not a file; correct --checkpoint.')
        return checkpoint
    if model.weights is None:
        package = 'mmdet' if model.config.startswith('det') else 'mmseg'
        raise ValueError(
            f'no fine-tuned file of {model.name} was published; train it by `mim train {package} '
            f'{model.config}` and give the result by --checkpoint.'
        )
    return download_verified(model.weights)


def make_test_config(path: Path, root: str | None, options: Mapping | None, tta: bool) -> Config:
    """Read a config for a test.

    Args:
        path: The config.
        root: Where its data set is; ``None`` leaves the config's own ``data_root``.
        options: Changes, as of ``--cfg-options``.
        tta: Multi-scale test with flip.
    """
    config = Config.fromfile(path)
    dataset = config.test_dataloader.dataset
    if root is not None:
        if 'ann_file' in config.test_evaluator:
            name = str(config.test_evaluator.ann_file).removeprefix(dataset.data_root)
            config.test_evaluator.ann_file = str(Path(root, name))
        dataset.data_root = root
    config.merge_from_dict(dict(options or {}))
    if tta:
        config.test_dataloader.dataset.pipeline = config.tta_pipeline
        config.model = dict(config.tta_model, module=config.model)
    hook = FineTunedCheckpointHook.__name__
    hooks = config.get('custom_hooks', [])
    if not any(existing['type'] == hook for existing in hooks):
        config.custom_hooks = [*hooks, dict(type=hook)]
    return config


def measured_figures(metrics: Mapping[str, float], published: Mapping[str, float]) -> dict:
    """Pick the measured figures that were published, in percent."""
    return {name: METRICS[name][1] * float(metrics[METRICS[name][0]]) for name in published}


def compare(published: Mapping[str, float], measured: Mapping[str, float], tolerance: float) -> int:
    """Print both figures and their difference; return how many fall short of the published."""
    print(f'{"":<10}{"published":>11}{"measured":>11}{"difference":>12}')
    short = 0
    for name, value in published.items():
        difference = measured[name] - value
        # Both are shown and compared with the published number of digits.
        falls_short = round(difference, 1) < -tolerance
        short += falls_short
        verdict = 'falls short' if falls_short else 'reproduced'
        print(f'{name:<10}{value:>11.1f}{measured[name]:>11.1f}{difference:>+12.1f}  {verdict}')
    return short


def reproduce(args: argparse.Namespace) -> int:
    """Run everything; returns the number of figures that fall short.

    Raises:
        ValueError: Something is missing or does not fit; the message says what to do.
        OSError: A file is missing or cannot be read or downloaded.
        ImportError: A package is missing.
    """
    model = choose_model(args.model, args.index)
    published = published_figures(model, args.tta)
    config = make_test_config(
        args.index.parent / model.config, args.data_root, args.cfg_options, args.tta
    )
    data = DATA_SETS[model.dataset]
    root = Path(args.data_root or config.test_dataloader.dataset.data_root)
    counts = None if args.count is None else [args.count]
    report = check_dataset(data, root, ('val',), args.sample, counts)
    if report.problems:
        raise ValueError(
            f'{LAYOUTS[data].title} is not usable, and {model.name} was not tested: '
            + ' '.join(report.problems)
        )
    config.load_from = str(locate_weights(model, args.checkpoint))
    config.launcher = args.launcher
    config.work_dir = str(args.work_dir or Path('work_dirs', f'reproduce_{model.name}'))
    runner = Runner.from_cfg(config)
    metrics = runner.test()
    if runner.rank != 0:
        return 0
    how = 'multi-scale and flip' if args.tta else 'single scale'
    print(f'\n{model.name} on {report.findings[0]}, {how}, {config.load_from}')
    if args.count is not None:
        print('the published figures are of the whole split; on another set they do not compare')
    return compare(published, measured_figures(metrics, published), args.tolerance)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', nargs='?', metavar='MODEL', help='name of a model in the index')
    parser.add_argument('--list', action='store_true', help='print the names and stop')
    parser.add_argument('--data-root', metavar='DIR', help="data set (default: the config's)")
    parser.add_argument('--checkpoint', type=Path, help='test this file, not the published one')
    parser.add_argument('--tta', action='store_true', help='multi-scale test with flip')
    parser.add_argument('--work-dir', type=Path, help='logs (default: work_dirs/reproduce_MODEL)')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=DEFAULT_TOLERANCE,
        help='points that a figure may be below the published one (default: %(default)s)',
    )
    parser.add_argument(
        '--sample',
        type=int,
        default=DEFAULT_SAMPLE,
        metavar='N',
        help='images to decode before the test (default: %(default)s)',
    )
    parser.add_argument('--count', type=int, metavar='N', help='images in a subset of your own')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
    parser.add_argument(
        '--index', type=Path, default=ROOT / 'model-index.yml', help='index of the models'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(arguments)
    if args.model is None and not args.list:
        parser.error('give a MODEL, or --list')
    return args


@report_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 if every figure is reached."""
    args = parse_arguments(arguments)
    if args.list:
        for model in read_testable(args.index):
            file = model.weights or 'no file was published'
            print(f'{model.name:<30} {model.dataset:<11} {file}')
        return 0
    return 1 if reproduce(args) else 0


if __name__ == '__main__':
    sys.exit(main())
