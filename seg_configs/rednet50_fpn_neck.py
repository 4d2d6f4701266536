_base_ = './_base_/rednet_fpn.py'

model = dict(neck=dict(type='InvolutionFPN'))
