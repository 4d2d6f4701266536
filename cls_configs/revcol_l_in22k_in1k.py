_base_ = './_base_/finetune.py'

model = dict(
    arch='large',
    drop_path_rate=0.3,
    init_cfg=dict(checkpoint=_base_.checkpoints + 'revcol_large_22k.pth'),
)
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(decay_rate=0.8))
