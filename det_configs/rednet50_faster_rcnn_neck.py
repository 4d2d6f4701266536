_base_ = './_base_/rednet_faster_rcnn.py'

model = dict(neck=dict(type='InvolutionFPN'))
param_scheduler = _base_.long_warmup
