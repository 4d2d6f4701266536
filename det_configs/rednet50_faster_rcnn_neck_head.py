_base_ = './rednet50_faster_rcnn_neck.py'

model = dict(rpn_head=dict(type='InvolutionRPNHead'))
optim_wrapper = dict(clip_grad=dict(max_norm=5, norm_type=2))
