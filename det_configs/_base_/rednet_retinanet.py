# RetinaNet with RedNet-50-FPN, 1x schedule at half the learning rate.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    './rednet50.py',
]
model = dict(backbone=dict(_delete_=True, **_base_.rednet50))
param_scheduler = _base_.long_warmup
optim_wrapper = dict(optimizer=dict(lr=0.01))
