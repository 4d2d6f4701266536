"""The quickstart's digits in Detectron2's catalogs, and a small RevCol with its optimizer."""

import os

from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg, register_coco_instances
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from .detectron2 import optimizer

data = os.environ.get('DIGITS', 'data/digits')
digits = [str(digit) for digit in range(10)]


def _label_maps(split: str) -> list[dict]:
    return load_sem_seg(f'{data}/annotations/{split}', f'{data}/images/{split}')


for split in ('train', 'val'):
    if f'digits_{split}' not in DatasetCatalog.list():
        annotations = f'{data}/annotations/instances_{split}.json'
        register_coco_instances(f'digits_{split}', {}, annotations, f'{data}/images/{split}')
        DatasetCatalog.register(f'digits_maps_{split}', lambda split=split: _label_maps(split))
        MetadataCatalog.get(f'digits_maps_{split}').set(
            stuff_classes=['background', *digits], ignore_label=255, evaluator_type='sem_seg'
        )

width = 48
bottom_up = dict(
    arch=dict(channels=(24, 48, 96, 192), layers=(1, 1, 1, 1), columns=2),
    drop_path_rate=0.0,
    save_memory=True,
)

optimizer.lr = 2e-3
optimizer.betas = (0.9, 0.99)
optimizer.params.lr_factor_func.decay_rate = 1.0
# Blocks start as the identity (layer scale 1e-6); from scratch they should wake up soon.
optimizer.params.overrides.gamma.lr = 50 * optimizer.lr
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=1 / 6,
    warmup_factor=0.001,
    warmup_method='linear',
)
