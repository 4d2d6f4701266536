_base_ = './revcol_b_cascade.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint=_base_.checkpoints + 'revcol_base_22k.pth')))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
