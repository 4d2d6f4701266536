"""The numbers that were published with RevCol and RedNet, typed in by hand.

Nothing here is computed or read from the package or its configs: arXiv 2212.11696 and 2103.06255,
and the configs of their releases (megvii-research/RevCol, d-li14/involution). The tests hold the
configs, the metafiles and the built models against these tables.
"""

from typing import NamedTuple

# Variant: channels, blocks per level, columns, kernel size, parameters of the backbone.
BACKBONES = {
    'tiny': ((64, 128, 256, 512), (2, 2, 4, 2), 4, 3, 29_942_144),
    'small': ((64, 128, 256, 512), (2, 2, 4, 2), 8, 3, 60_054_400),
    'base': ((72, 144, 288, 576), (1, 1, 3, 2), 16, 3, 138_038_256),
    'large': ((128, 256, 512, 1024), (1, 2, 6, 2), 8, 3, 272_068_352),
    'xlarge': ((224, 448, 896, 1792), (1, 2, 6, 2), 8, 3, 832_010_816),
    'huge': ((360, 720, 1440, 2880), (1, 2, 6, 2), 8, 3, 2_154_713_400),
}

# ImageNet at 224 x 224: parameters with the classifier, FLOPs, top-1.
CLASSIFIERS = {
    'RevCol-T': ('30M', '4.5G', 82.2),
    'RevCol-S': ('60M', '9.0G', 83.5),
    'RevCol-B': ('138M', '16.6G', 84.1),
    'RevCol-L': ('273M', '39G', 86.6),
    'RevCol-H': ('2.1B', None, 90.0),
    'RedNet-26': ('9.23M', '1.73G', 75.96),
    'RedNet-38': ('12.39M', '2.22G', 77.48),
    'RedNet-50': ('15.54M', '2.71G', 78.35),
    'RedNet-101': ('25.65M', '4.74G', 78.92),
    'RedNet-152': ('33.99M', '6.79G', 79.12),
}
# Pre-trained on ImageNet-22K or private images: top-1 on ImageNet-1K.
PRETRAINED_CLASSIFIERS = {
    'revcol_b_in22k_in1k': 85.6,
    'revcol_b_in22k_in1k_384': 86.7,
    'revcol_l_in22k_in1k': 86.6,
    'revcol_l_in22k_in1k_384': 87.6,
    'revcol_xl_in22k_in1k_384': 88.2,
    'revcol_h_in1k_640': 90.0,
}

RELEASE = 'https://github.com/megvii-research/RevCol/releases/download/checkpoint/'
HUB = 'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/'
HUGE_WEIGHTS = HUB + 'segmentation/revcol_huge_k7padded.pth'


class Cascade(NamedTuple):
    """Cascade Mask R-CNN on COCO."""

    arch: str
    weights: str
    drop_path: float
    lr: float
    layer_decay: float
    box_ap: float
    mask_ap: float
    parameters: str
    flops: str
    fine_tuned: str


CASCADE = {
    'revcol_t_cascade': Cascade(
        *('tiny', 'revcol_tiny_1k.pth', 0.3, 0.0002, 0.85, 50.8, 44.0, '88M', '741G'),
        'cmr_tiny_3x_in1k_AP508.pth',
    ),
    'revcol_s_cascade': Cascade(
        *('small', 'revcol_small_1k.pth', 0.4, 0.0002, 0.85, 52.6, 45.5, '118M', '833G'),
        'cmr_revcol_small_3x_in1k.pth',
    ),
    'revcol_b_cascade': Cascade(
        *('base', 'revcol_base_1k.pth', 0.4, 0.0002, 0.90, 53.0, 45.9, '196M', '988G'),
        'cmr_base_3x_in1k.pth',
    ),
    'revcol_b_cascade_in22k': Cascade(
        *('base', 'revcol_base_22k.pth', 0.4, 0.0001, 0.90, 55.0, 47.5, '196M', '988G'),
        'cmr_base_3x_in22k_AP55.pth',
    ),
    'revcol_l_cascade_in22k': Cascade(
        *('large', 'revcol_large_22k.pth', 0.5, 0.0001, 0.85, 55.9, 48.4, '330M', '1453G'),
        'cmr_large_3x_in22k_AP559.pth',
    ),
}
CASCADE_TARGET_STDS = [
    [0.1, 0.1, 0.2, 0.2],
    [0.05, 0.05, 0.1, 0.1],
    [0.033, 0.033, 0.067, 0.067],
]


class UPerNet(NamedTuple):
    """UPerNet on ADE20K."""

    arch: str
    weights: str
    crop: int
    stride: int
    drop_path: float
    lr: float
    layer_decay: float
    warmup: int
    images_per_gpu: int
    miou: float
    miou_multi_scale: float
    parameters: str
    flops: str | None
    fine_tuned: str


UPERNET = {
    'revcol_t_upernet': UPerNet(
        *('tiny', RELEASE + 'revcol_tiny_1k.pth', 512, 341, 0.3, 6e-5, 1.0, 1500, 2),
        *(47.4, 47.6, '60M', '937G', 'upernet_revcol_tiny_fp16_512x512_160k_ade20k.pth'),
    ),
    'revcol_s_upernet': UPerNet(
        *('small', RELEASE + 'revcol_small_1k.pth', 512, 341, 0.3, 4e-5, 1.0, 1500, 2),
        *(47.9, 49.0, '90M', '1031G', 'upernet_revcol_small_fp16_512x512_160k_ade20k.pth'),
    ),
    # 122M is less than the backbone alone has: as published.
    'revcol_b_upernet': UPerNet(
        *('base', RELEASE + 'revcol_base_1k.pth', 512, 426, 0.3, 4e-5, 1.0, 1500, 2),
        *(49.0, 50.1, '122M', '1169G', 'upernet_revcol_base_512x512_160k_ade20k.pth'),
    ),
    'revcol_b_upernet_in22k': UPerNet(
        *('base', RELEASE + 'revcol_base_22k.pth', 640, 426, 0.3, 4e-5, 0.9, 1500, 2),
        *(52.7, 53.3, '122M', '1827G', 'upernet_revcol_base_640x640_160k_ade20k.pth'),
    ),
    'revcol_l_upernet_in22k': UPerNet(
        *('large', RELEASE + 'revcol_large_22k.pth', 640, 426, 0.3, 4e-5, 0.9, 3000, 2),
        *(53.4, 53.7, '306M', '2610G', 'upernet_revcol_large_fp16_640x640_160k_ade20k.pth'),
    ),
    'revcol_h_upernet': UPerNet(
        *('huge', HUGE_WEIGHTS, 640, 426, 0.3, 4e-5, 0.9, 3000, 1),
        *(57.8, 58.0, '2421M', None, 'upernet_revcol_huge_fp16_640x640_160k_ade20k.pth'),
    ),
}

# Only the figures of these were published: metrics, parameters.
HEADLINES = {
    'revcol_h_htc': ({'box AP': 61.1, 'mask AP': 53.0}, None),
    'revcol_h_dino': ({'box AP': 63.8}, None),
    'revcol_h_mask2former': ({'mIoU': 60.4, 'mIoU(ms+flip)': 61.0}, '2439M'),
}

# RedNet-50: parameters, FLOPs, metrics and, on COCO, the learning rate.
REDNET_DETECTORS = {
    'rednet50_faster_rcnn': ('31.6M', '177.9G', {'box AP': 39.5}, 0.02),
    'rednet50_faster_rcnn_neck': ('29.5M', '135.0G', {'box AP': 40.2}, 0.02),
    'rednet50_faster_rcnn_neck_head': ('29.0M', '91.5G', {'box AP': 39.2}, 0.02),
    'rednet50_mask_rcnn': ('34.2M', '224.2G', {'box AP': 39.9, 'mask AP': 35.7}, 0.02),
    'rednet50_mask_rcnn_neck': ('32.2M', '181.3G', {'box AP': 40.8, 'mask AP': 36.4}, 0.02),
    'rednet50_mask_rcnn_neck_head': ('29.5M', '104.6G', {'box AP': 39.6, 'mask AP': 35.1}, 0.02),
    'rednet50_retinanet': ('27.8M', '210.1G', {'box AP': 38.2}, 0.01),
    'rednet50_retinanet_neck': ('26.3M', '199.9G', {'box AP': 38.2}, 0.01),
}
REDNET_SEGMENTORS = {
    'rednet50_fpn': ('18.5M', '293.9G', {'mIoU': 78.0}),
    'rednet50_fpn_neck': ('16.4M', '205.2G', {'mIoU': 79.1}),
    'rednet50_upernet': ('56.4M', '1825.6G', {'mIoU': 80.6}),
}
