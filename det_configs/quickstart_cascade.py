# Cascade Mask R-CNN on a small RevCol for the quickstart's digits: minutes on two CPU cores.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['revcol_backbone'], allow_failed_imports=False)
custom_hooks = [dict(type='FineTunedCheckpointHook')]

channels = [24, 48, 96, 192]
width = 48
num_classes = 10
max_epochs = 2

# Digits are narrow and about 25 to 80 pixels tall: anchors of one shape, half an octave apart.
model = _base_.model
model.backbone = dict(
    type='RevCol',
    arch=dict(channels=channels, layers=(1, 1, 1, 1), columns=2, long_up=False),
    save_memory=True,
    init_cfg=dict(type='Xavier', layer=['Conv2d', 'Linear']),
)
model.neck.update(in_channels=channels, out_channels=width, num_outs=4)
model.rpn_head.update(in_channels=width, feat_channels=width)
model.rpn_head.anchor_generator.update(scales=[5.7, 8], ratios=[1.5], strides=[4, 8, 16, 32])
model.roi_head.bbox_roi_extractor.update(out_channels=width)
model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio = 1
model.roi_head.mask_roi_extractor.roi_layer.sampling_ratio = 1
model.roi_head.mask_roi_extractor.update(out_channels=width)
for head in model.roi_head.bbox_head:
    head.update(in_channels=width, fc_out_channels=256, num_classes=num_classes)
model.roi_head.mask_head.update(
    num_convs=2, in_channels=width, conv_out_channels=32, num_classes=num_classes
)
model.train_cfg.rpn.sampler.num = 64
model.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=64)
for stage in model.train_cfg.rcnn:
    stage.sampler.num = 48
model.test_cfg.rpn.update(nms_pre=200, max_per_img=50)
model.test_cfg.rcnn.max_per_img = 30
del head, stage

data_root = 'data/digits/'
metainfo = dict(classes=tuple(str(digit) for digit in range(num_classes)))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/train/'),
        metainfo=metainfo,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs'),
        ],
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale_factor=1.0, keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/instances_val.json',
    metric=['bbox', 'segm'],
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'gamma': dict(lr_mult=50.0, decay_mult=0.0), 'alpha': dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
randomness = dict(seed=0)
# With two, the newest one stays while the next is being written.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
