_base_ = './_base_/rednet_mask_rcnn.py'

model = dict(neck=dict(type='InvolutionFPN'))
param_scheduler = _base_.long_warmup
