# Objects365 pre-training of revcol_h_dino.py. Its recipe was not published; this is DINO's for its
# own largest model: 26 epochs of steps of 64 images, most of the validation set in training.
# Ours: the learning rate 1e-4, mmdet's for 16 images, as DINO names none; its step at epoch 24,
# after the same part of the schedule as in mmdet's DINO of 12 epochs.
_base_ = ['./_base_/revcol_h_dino.py', './_base_/objects365.py']

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=_base_.huge_checkpoint)),
    bbox_head=dict(num_classes=365),
)
training = dict(pipeline=_base_.train_pipeline, filter_cfg=dict(filter_empty_gt=False))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(_base_.objects365_train, **training),
            dict(_base_.objects365_folded_val, **training),
        ],
    )
)
val_dataloader = dict(dataset=_base_.objects365_val)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_base_.objects365_root + _base_.objects365_val.ann_file)
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=26)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=26, milestones=[24], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=64)
