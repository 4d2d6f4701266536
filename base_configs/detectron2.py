"""What the LazyConfigs of detectors and segmentors share: the form of images and the optimizer."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

from revcol_backbone.integrations.detectron2 import revcol_lr_factor, revcol_weight_decay_overrides

# Images are RGB with the mean and standard deviation of ImageNet, in 0 to 255.
image_format = 'RGB'
pixel_mean = [123.675, 116.28, 103.53]
pixel_std = [58.395, 57.12, 57.375]

# The detectors' settings; a segmentor changes three of them.
optimizer = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(
        base_lr='${..lr}',
        weight_decay_norm=0.0,
        overrides=revcol_weight_decay_overrides(),
        lr_factor_func=L(revcol_lr_factor)(
            arch='${model.backbone.bottom_up.arch}', decay_rate=0.85
        ),
    ),
    lr=2e-4,
    betas=(0.9, 0.999),
    weight_decay=0.05,
)
