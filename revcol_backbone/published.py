"""Published parameters and FLOPs of RevCol (arXiv 2212.11696) and RedNet (arXiv 2103.06255).

Figures stand as they were printed: their digits say how exact they are. FLOPs are multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UNITS = {'': 1, 'M': 10**6, 'G': 10**9, 'B': 10**9}


@dataclass(frozen=True)
class Impossible:
    """Why a published number of parameters cannot be right, and what was counted instead."""

    counted: str
    reason: str


@dataclass(frozen=True)
class PublishedModel:
    """One row of a published table.

    Args:
        name: Name and what tells it from its neighbours.
        model: A config of this project, or the config of a backbone.
        size: Height and width of the image that FLOPs were counted for, in pixels; ``None`` for a
            backbone whose FLOPs stand in its classifier's row.
        parameters: As printed, such as ``'88M'``; ``None`` where none was published.
        flops: As printed, such as ``'741G'``; ``None`` where none was published.
        impossible: Set where the published number of parameters cannot be right.
    """

    name: str
    model: str | dict = field(repr=False)
    size: tuple[int, int] | None
    parameters: str | None
    flops: str | None
    impossible: Impossible | None = None


def parse_figure(text: str) -> tuple[float, float]:
    """Read a figure as its value and half of its last digit: ``'4.5G'`` gives 4.5e9 and 5e7."""
    unit = text[-1] if text[-1] in UNITS else ''
    number = text.removesuffix(unit).replace(',', '')
    decimals = len(number.partition('.')[2])
    return float(number) * UNITS[unit], 0.5 * UNITS[unit] / 10**decimals


def _revcol(arch: str) -> dict:
    return dict(type='RevCol', arch=arch)


def _rednet(depth: int) -> dict:
    return dict(type='RedNet', depth=depth)


IMAGENET, COCO, CITYSCAPES = (224, 224), (800, 1280), (1024, 2048)
# The table of Cityscapes names its training crop, 512 x 1024; its FLOPs are those of a whole image.
# That of ADE20K gives the width first: 2048 x 512 and 2560 x 640.
ADE20K, ADE20K_LARGE = (512, 2048), (640, 2560)

_BELOW_BACKBONE = Impossible('168.9M', 'the backbone alone has 138.0M')
_CUT_OFF = Impossible('2157.6M', 'the backbone alone has 2.155B: 2.1B is cut, not rounded')

BACKBONES = (
    PublishedModel('RevCol-T', _revcol('tiny'), None, '29,942,144', None),
    PublishedModel('RevCol-S', _revcol('small'), None, '60,054,400', None),
    PublishedModel('RevCol-B', _revcol('base'), None, '138,038,256', None),
    PublishedModel('RevCol-L', _revcol('large'), None, '272,068,352', None),
    PublishedModel('RevCol-XL', _revcol('xlarge'), None, '832,010,816', None),
    PublishedModel('RevCol-H', _revcol('huge'), None, '2,154,713,400', None),
)
CLASSIFIERS = (
    PublishedModel('RevCol-T', _revcol('tiny'), IMAGENET, '30M', '4.5G'),
    PublishedModel('RevCol-S', _revcol('small'), IMAGENET, '60M', '9.0G'),
    PublishedModel('RevCol-B', _revcol('base'), IMAGENET, '138M', '16.6G'),
    PublishedModel('RevCol-L', _revcol('large'), IMAGENET, '273M', '39G'),
    PublishedModel('RevCol-XL', _revcol('xlarge'), IMAGENET, None, None),
    PublishedModel('RevCol-H', _revcol('huge'), IMAGENET, '2.1B', None, _CUT_OFF),
    PublishedModel('RedNet-26', _rednet(26), IMAGENET, '9.23M', '1.73G'),
    PublishedModel('RedNet-38', _rednet(38), IMAGENET, '12.39M', '2.22G'),
    PublishedModel('RedNet-50', _rednet(50), IMAGENET, '15.54M', '2.71G'),
    PublishedModel('RedNet-101', _rednet(101), IMAGENET, '25.65M', '4.74G'),
    PublishedModel('RedNet-152', _rednet(152), IMAGENET, '33.99M', '6.79G'),
)
DETECTORS = tuple(
    PublishedModel(name, f'det_configs/{config}.py', COCO, parameters, flops)
    for name, config, parameters, flops in (
        ('Cascade Mask R-CNN, RevCol-T', 'revcol_t_cascade', '88M', '741G'),
        ('Cascade Mask R-CNN, RevCol-S', 'revcol_s_cascade', '118M', '833G'),
        ('Cascade Mask R-CNN, RevCol-B', 'revcol_b_cascade', '196M', '988G'),
        ('Cascade Mask R-CNN, RevCol-B 22K', 'revcol_b_cascade_in22k', '196M', '988G'),
        ('Cascade Mask R-CNN, RevCol-L 22K', 'revcol_l_cascade_in22k', '330M', '1453G'),
        ('Faster R-CNN, RedNet-50', 'rednet50_faster_rcnn', '31.6M', '177.9G'),
        ('  involution neck', 'rednet50_faster_rcnn_neck', '29.5M', '135.0G'),
        ('  involution neck, head', 'rednet50_faster_rcnn_neck_head', '29.0M', '91.5G'),
        ('Mask R-CNN, RedNet-50', 'rednet50_mask_rcnn', '34.2M', '224.2G'),
        ('  involution neck', 'rednet50_mask_rcnn_neck', '32.2M', '181.3G'),
        ('  involution neck, head', 'rednet50_mask_rcnn_neck_head', '29.5M', '104.6G'),
        ('RetinaNet, RedNet-50', 'rednet50_retinanet', '27.8M', '210.1G'),
        ('  involution neck', 'rednet50_retinanet_neck', '26.3M', '199.9G'),
    )
)
SEGMENTORS = tuple(
    PublishedModel(name, f'seg_configs/{config}.py', size, parameters, flops, impossible)
    for name, config, size, parameters, flops, impossible in (
        ('UPerNet, RevCol-T', 'revcol_t_upernet', ADE20K, '60M', '937G', None),
        ('UPerNet, RevCol-S', 'revcol_s_upernet', ADE20K, '90M', '1031G', None),
        ('UPerNet, RevCol-B', 'revcol_b_upernet', ADE20K, '122M', '1169G', _BELOW_BACKBONE),
        (
            *('UPerNet, RevCol-B 22K', 'revcol_b_upernet_in22k', ADE20K_LARGE),
            *('122M', '1827G', _BELOW_BACKBONE),
        ),
        ('UPerNet, RevCol-L 22K', 'revcol_l_upernet_in22k', ADE20K_LARGE, '306M', '2610G', None),
        ('UPerNet, RevCol-H', 'revcol_h_upernet', ADE20K_LARGE, '2421M', None, None),
        ('Semantic FPN, RedNet-50', 'rednet50_fpn', CITYSCAPES, '18.5M', '293.9G', None),
        ('  involution neck', 'rednet50_fpn_neck', CITYSCAPES, '16.4M', '205.2G', None),
        ('UPerNet, RedNet-50', 'rednet50_upernet', CITYSCAPES, '56.4M', '1825.6G', None),
    )
)
