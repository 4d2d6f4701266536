# Faster R-CNN with RedNet-50-FPN, 1x schedule.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    './rednet50.py',
]
model = dict(backbone=dict(_delete_=True, **_base_.rednet50))
