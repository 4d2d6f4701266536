# The quickstart's digits with involutions: RedNet-26 and the FPN below UPerNet's head.
_base_ = './quickstart_upernet.py'
custom_imports = dict(
    imports=['revcol_backbone.involution.segmentation'], allow_failed_imports=False
)

width = _base_.width
model = dict(
    backbone=dict(_delete_=True, type='RedNet', depth=26, norm_eval=False),
    neck=dict(
        type='InvolutionFPN', in_channels=[256, 512, 1024, 2048], out_channels=width, num_outs=4
    ),
    decode_head=dict(in_channels=[width] * 4),
    auxiliary_head=dict(in_channels=width),
)
