# Cascade Mask R-CNN with IC-ResNet-50-FPN, 1x schedule. Ours: nothing is published.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    './_base_/ic_resnet50.py',
]
model = dict(backbone=_base_.ic_resnet50)
