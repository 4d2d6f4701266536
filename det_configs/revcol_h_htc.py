# 61.1 box AP and 53.0 mask AP were published, the recipe was not: drop path, learning rate and
# layer decay are those of RevCol-L, the 7x7 kernels those of the released downstream checkpoint.
# HTC++ by its definition (Swin, arXiv 2103.14030, appendix A2.2): 72 epochs, steps at 63 and 69.
_base_ = './_base_/revcol_htc.py'

model = dict(
    backbone=dict(
        arch='huge',
        kernel_size=7,
        drop_path_rate=0.5,
        save_memory=True,
        init_cfg=dict(type='Pretrained', checkpoint=_base_.huge_checkpoint),
    ),
    neck=dict(in_channels=[360, 720, 1440, 2880]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
max_epochs = 72
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [_base_.warmup, dict(_base_.steps, end=max_epochs, milestones=[63, 69])]
