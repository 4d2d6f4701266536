# Mask2Former with RevCol in crops of 512x512. Only its mIoU was published; every value below says
# whose it is.
# mmseg's Mask2Former (the base; the same for all its Swin): heads, 160k iterations, learning rate
# 1e-4, weight decay 0.05, gradients clipped at 0.01, poly power 0.9, its augmentation, whole images
# in the test.
# RevCol's published UPerNet: seed 0, drop path 0.3, mixed precision, and the layer decay 0.9 of its
# larger models in place of the base's 0.1 for the whole backbone.
_base_ = [
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
    '../../base_configs/revcol_weights.py',
    '../../base_configs/reliable_training.py',
]
# RevCol first: where mmcv has no compiled operators, it brings those that mmdet imports.
custom_imports = dict(
    imports=['revcol_backbone', 'revcol_backbone.engine.cudnn_determinism', 'mmdet.models'],
    allow_failed_imports=False,
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
custom_hooks = [*_base_.custom_hooks, dict(type='CudnnDeterminismHook')]
randomness = dict(seed=0, deterministic=True)

model = dict(backbone=dict(_delete_=True, type='RevCol', drop_path_rate=0.3))
optim_wrapper = dict(
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, decay_rate=0.9),
)

# Multi-scale test (`--tta`) scales the test size, as in this project's UPerNet configs.
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(int(2048 * ratio), int(512 * ratio)), keep_ratio=True)
    for ratio in _base_.img_ratios
]
