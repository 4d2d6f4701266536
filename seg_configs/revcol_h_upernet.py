_base_ = './revcol_l_upernet_in22k.py'

model = dict(
    backbone=dict(
        arch='huge',
        kernel_size=7,
        save_memory=True,
        init_cfg=dict(checkpoint=_base_.huge_checkpoint),
    ),
    decode_head=dict(in_channels=[360, 720, 1440, 2880], channels=1440),
    auxiliary_head=dict(in_channels=1440),
)
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
