_base_ = './_base_/rednet_retinanet.py'

model = dict(neck=dict(type='InvolutionFPN'))
optim_wrapper = dict(clip_grad=dict(max_norm=40, norm_type=2))
