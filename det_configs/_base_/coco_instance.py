# COCO instances as in mmdet (2 images a GPU, test at 1333x800) with the augmentation of DETR.
_base_ = ['mmdet::_base_/datasets/coco_instance.py', './detr_augmentation.py']

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    *_base_.detr_augmentation,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
