# Cascade Mask R-CNN with RevCol, 3x schedule, mixed precision: everything the variants share.
# A variant names a data set beside this file and sets `arch`, `init_cfg` and the neck's channels.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    './multi_scale_test.py',
    '../../base_configs/revcol_weights.py',
    '../../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=[
        'revcol_backbone',
        'revcol_backbone.engine.annotation_check',
        'revcol_backbone.engine.instance_tta',
    ],
    allow_failed_imports=False,
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
custom_hooks = [*_base_.custom_hooks, dict(type='AnnotationCheckHook')]

model = dict(
    backbone=dict(_delete_=True, type='RevCol'),
    roi_head=dict(
        bbox_head=[
            dict(
                type='ConvFCBBoxHead',
                num_shared_convs=4,
                num_shared_fcs=1,
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=target_stds,
                ),
                reg_class_agnostic=False,
                reg_decoded_bbox=True,
                norm_cfg=dict(type='SyncBN', requires_grad=True),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
            )
            for target_stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ],
    ),
)

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
steps = dict(
    type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=[27, 33], gamma=0.1
)
param_scheduler = [warmup, steps]
optim_wrapper = dict(
    _delete_=True,
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.85),
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
