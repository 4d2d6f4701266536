# UPerNet on a small RevCol for the quickstart's digits: minutes on two CPU cores.
_base_ = ['mmseg::_base_/models/upernet_r50.py', 'mmseg::_base_/default_runtime.py']
custom_imports = dict(imports=['revcol_backbone'], allow_failed_imports=False)
custom_hooks = [dict(type='FineTunedCheckpointHook')]

channels = [24, 48, 96, 192]
width = 48
num_classes = 11
max_iters = 1700

norm_cfg = dict(type='BN')
model = _base_.model
model.pretrained = None
model.data_preprocessor.size_divisor = 32
model.backbone = dict(
    type='RevCol',
    arch=dict(channels=channels, layers=(1, 1, 1, 1), columns=2, long_up=False),
    save_memory=True,
    init_cfg=dict(type='Xavier', layer=['Conv2d', 'Linear']),
)
model.decode_head.update(
    in_channels=channels, channels=width, num_classes=num_classes, norm_cfg=norm_cfg
)
model.auxiliary_head.update(
    in_channels=channels[2], channels=width, num_classes=num_classes, norm_cfg=norm_cfg
)
# Digits cover a fifth of the pixels; without weights, classes are learned late.
for head in (model.decode_head, model.auxiliary_head):
    head.loss_decode.class_weight = [0.3] + [1.0] * 10
del head

data_root = 'data/digits/'
dataset_type = 'BaseSegDataset'
metainfo = dict(classes=('background', *(str(digit) for digit in range(10))))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        metainfo=metainfo,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        metainfo=metainfo,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.99), weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        # Blocks start as the identity (layer scale 1e-6); from scratch they should wake up soon.
        custom_keys={'gamma': dict(lr_mult=50.0, decay_mult=0.0), 'alpha': dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=max_iters, begin=0, end=max_iters, by_epoch=False),
]
randomness = dict(seed=0)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # With two, the newest one stays while the next is being written.
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
