"""One training of ic_digits.py's detector or segmentor, the quickstart's with another backbone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ic_digits_forms import FORMS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from revcol_backbone.analysis.flops import build_on_meta, model_multiply_adds

ROOT = Path(__file__).parents[2]
SCENES = ('--train', '320', '--val', '80')
POINTS = 3  # of a curve
PACKAGES = {'detection': 'det', 'segmentation': 'seg'}
METRICS = {'detection': 'coco/bbox_mAP', 'segmentation': 'mIoU'}
IMAGE_SIZES = {'detection': 128, 'segmentation': 64}
BATCH_SIZES = {'detection': 4, 'segmentation': 8}
STEPS = {'detection': 120, 'segmentation': 600}


def train_downstream(task: str, form: str, seed: int, folder: Path) -> dict:
    """Train on a small set of digits; AP or mIoU at some steps, and the multiply-adds."""
    config = Config.fromfile(ROOT / f'{PACKAGES[task]}_configs/ic_resnet18_quickstart.py')
    import_modules_from_strings(**config.custom_imports)
    settings = FORMS[form]
    config.model.backbone.update(settings or {})
    if settings is None:
        config.model.backbone.type = 'ResNet'
    data = f'{make_scenes(folder, IMAGE_SIZES[task])}/'
    adapt(config, task, data)
    config.merge_from_dict(
        dict(work_dir=str(folder / 'runs' / task), randomness=dict(seed=seed), log_level='ERROR')
    )
    curve = Curve(METRICS[task])
    with DefaultScope.overwrite_default_scope(config.default_scope):
        runner = Runner.from_cfg(config)
        runner.register_hook(curve)
        runner.train()
    count = model_multiply_adds(build_on_meta(config), *(IMAGE_SIZES[task],) * 2)
    return dict(curve=curve.points, multiply_adds=count)


def adapt(config: Config, task: str, data: str) -> None:
    """Shorten a quickstart's schedule, test at some points of it, and write no checkpoints."""
    steps = STEPS[task]
    config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    config.train_dataloader.batch_size = BATCH_SIZES[task]
    config.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=steps, val_interval=steps // POINTS
    )
    config.val_dataloader, config.val_cfg = config.test_dataloader, dict(type='ValLoop')
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.data_root = data
    config.val_evaluator = config.test_evaluator
    if task == 'detection':
        config.val_evaluator.update(ann_file=f'{data}annotations/instances_val.json', metric='bbox')
    config.test_dataloader = config.test_evaluator = config.test_cfg = None
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
        dict(type='CosineAnnealingLR', T_max=steps, begin=0, end=steps, by_epoch=False),
    ]
    config.default_hooks = dict(checkpoint=None, logger=dict(type='LoggerHook', interval=1000))
    config.log_processor = dict(by_epoch=False)


class Curve(Hook):
    """Collects the figures of every validation."""

    def __init__(self, metric: str) -> None:
        self.metric, self.points = metric, []

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.points.append((runner.iter, float(metrics[self.metric])))


def make_scenes(folder: Path, size: int) -> Path:
    """Make the data of the detector or of the segmentor, once."""
    data = folder / f'digits_{size}'
    if not (data / 'dataset.json').exists():
        tool = ROOT / 'tools/make_digits_dataset.py'
        command = [sys.executable, tool, '--out', data, *SCENES, '--size', size]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return data
