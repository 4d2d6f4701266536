# Your own COCO-format data set. Copy this file beside itself, fill in the first block, and run
# `mim train mmdet FILE --gpus 1`. Boxes without masks: `_base_ = './revcol_t_cascade_boxes.py'`.
_base_ = './revcol_t_cascade.py'
from revcol_backbone.engine.custom_data import read_classes, set_num_classes  # noqa: E402

data_root = 'data/my_dataset/'
train = dict(ann_file='train.json', data_prefix=dict(img='train/'))
val = dict(ann_file='val.json', data_prefix=dict(img='val/'))
classes = read_classes(data_root + train['ann_file'])  # or type them: ('cat', 'dog')
load_from = _base_.fine_tuned + 'detection/cmr_tiny_3x_in1k_AP508.pth'

model = set_num_classes(_base_.model, len(classes))
model.backbone.init_cfg = None  # `load_from` has its weights
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dict(**dataset, **train))
val_dataloader = dict(dataset=dict(**dataset, **val))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val['ann_file'])
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=True)  # the learning rate fits the number of GPUs; the log says how
