# DINO with RevCol. Only its AP was published; every value below says whose it is.
# mmdet's DINO with Swin-L (the base): five feature scales, 36 epochs, learning rate 1e-4, weight
# decay 1e-4, gradients clipped at 0.1, its augmentation.
# RevCol-L's published Cascade Mask R-CNN: layer decay in place of the base's 0.1 for the whole
# backbone, and mixed precision.
_base_ = [
    'mmdet::dino/dino-5scale_swin-l_8xb2-36e_coco.py',
    './multi_scale_test.py',
    '../../base_configs/revcol_weights.py',
    '../../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=['revcol_backbone', 'revcol_backbone.engine.instance_tta'], allow_failed_imports=False
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))

model = dict(backbone=dict(_delete_=True, type='RevCol'))
optim_wrapper = dict(
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, decay_rate=0.85),
)
# mmdet's DINO keeps 300 boxes of an image, and its queries are not suppressed by one another.
tta_model = dict(tta_cfg=dict(nms=dict(iou_threshold=0.7), max_per_img=300))
