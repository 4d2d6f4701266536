# This recipe is ours: none was published for RevCol-H with Cascade Mask R-CNN. It follows RevCol-L,
# with the 7x7 kernels of the released downstream checkpoint and the memory-saving backward.
_base_ = './revcol_l_cascade_in22k.py'

model = dict(
    backbone=dict(
        arch='huge',
        kernel_size=7,
        save_memory=True,
        init_cfg=dict(checkpoint=_base_.huge_checkpoint),
    ),
    neck=dict(in_channels=[360, 720, 1440, 2880]),
)
