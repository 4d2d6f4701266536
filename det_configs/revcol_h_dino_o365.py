# Objects365 pre-training of revcol_h_dino.py. Its recipe was not published: the data set and its
# classes are mmdet's Objects365 v2, the 12 epochs those of mmdet's shortest DINO on COCO.
_base_ = './revcol_h_dino.py'

checkpoint = (
    'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/segmentation/'
    'revcol_huge_k7padded.pth'
)
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    bbox_head=dict(num_classes=365),
)
load_from = None
train_dataloader = dict(dataset=_base_.objects365_train)
val_dataloader = dict(dataset=_base_.objects365_val)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_base_.objects365_root + _base_.objects365_val.ann_file)
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=12)
param_scheduler = _base_.schedule_12_epochs
