# Tree crowns in aerial photographs, boxes alone (tools/make_trees_dataset.py): the quickstart's
# detector without masks, started from what it learned on digits. See docs/custom_data.md.
_base_ = ['./quickstart_cascade.py', './_base_/boxes_only.py']
load_from = 'work_dirs/quickstart/cascade/epoch_2.pth'

# Crowns are about as wide as tall, 10 to 110 pixels, and up to 60 in a tile.
model = _base_.model
model.roi_head.mask_roi_extractor = model.roi_head.mask_head = None
model.rpn_head.anchor_generator.update(scales=[4, 5.7], ratios=[1.0])
for head in model.roi_head.bbox_head:
    head.num_classes = 1
model.train_cfg.rpn.sampler.num = 128
model.train_cfg.rpn_proposal.update(nms_pre=500, max_per_img=200)
for stage in model.train_cfg.rcnn:
    stage.sampler.num = 96
model.test_cfg.rpn.update(nms_pre=500, max_per_img=200)
model.test_cfg.rcnn.max_per_img = 100
del head, stage

data_root = 'data/trees/'
metainfo = dict(classes=('Tree',))
# From above there is no up: every flip is another photograph.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    _base_.load_boxes,
    dict(type='RandomResize', scale=(400, 400), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(224, 224)),
    dict(type='RandomFlip', prob=[0.25] * 3, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=4,
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='annotations/train.json',
            data_prefix=dict(img='images/train/'),
            metainfo=metainfo,
            pipeline=train_pipeline,
        ),
    )
)
test_pipeline = _base_.test_dataloader.dataset.pipeline
test_pipeline[2] = _base_.load_boxes
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    )
)
test_evaluator = dict(ann_file=data_root + 'annotations/val.json', metric='bbox')

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs)
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
