_base_ = './rednet50_mask_rcnn_neck.py'

model = dict(
    rpn_head=dict(type='InvolutionRPNHead'),
    roi_head=dict(mask_head=dict(type='InvolutionFCNMaskHead')),
)
optim_wrapper = dict(clip_grad=dict(max_norm=5, norm_type=2))
