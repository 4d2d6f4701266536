# Cascade Mask R-CNN on a small RevCol for the quickstart's digits: minutes on two CPU cores.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../base_configs/quickstart.py',
]
channels = _base_.channels
width = _base_.width
num_classes = 10
max_epochs = 2

# Digits are narrow and about 25 to 80 pixels tall: anchors of one shape, half an octave apart.
model = _base_.model
model.backbone = _base_.backbone
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

data_root = _base_.data_root
metainfo = dict(classes=tuple(str(digit) for digit in range(num_classes)))
train_dataloader = dict(
    batch_size=4,
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
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.05))
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
# With two, the newest one stays while the next is being written.
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=2))
