# UPerNet on a small RevCol for the quickstart's digits: minutes on two CPU cores.
_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    'mmseg::_base_/default_runtime.py',
    '../base_configs/quickstart.py',
]
channels = _base_.channels
width = _base_.width
num_classes = 11
max_iters = 1700

norm_cfg = dict(type='BN')
model = _base_.model
model.pretrained = None
model.data_preprocessor.size_divisor = 32
model.backbone = _base_.backbone
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

data_root = _base_.data_root
dataset_type = 'BaseSegDataset'
metainfo = dict(classes=('background', *(str(digit) for digit in range(10))))
train_dataloader = dict(
    batch_size=8,
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
optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=max_iters, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
