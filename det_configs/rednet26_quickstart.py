# The digits of the quickstart with involutions in RedNet-26, the FPN, the RPN and the mask head.
_base_ = './quickstart_cascade.py'
custom_imports = dict(imports=['revcol_backbone.involution.detection'], allow_failed_imports=False)

width = _base_.width
model = dict(
    backbone=dict(_delete_=True, type='RedNet', depth=26, norm_eval=False),
    neck=dict(type='InvolutionFPN', in_channels=[256, 512, 1024, 2048]),
    rpn_head=dict(type='InvolutionRPNHead'),
    roi_head=dict(mask_head=dict(type='InvolutionFCNMaskHead', conv_out_channels=width)),
)
