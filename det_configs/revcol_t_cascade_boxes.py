# revcol_t_cascade.py without masks (Cascade R-CNN), for data sets that have boxes alone.
_base_ = ['./revcol_t_cascade.py', './_base_/boxes_only.py']

model = _base_.no_mask_head
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[1] = _base_.load_boxes
test_pipeline[2] = _base_.load_boxes
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
