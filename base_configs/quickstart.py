# What the quickstart's detector and segmentor share: a small RevCol that trains in minutes on two
# CPU cores, the digits' folder, loaders and the optimizer.
_base_ = './reliable_training.py'
custom_imports = dict(imports=['revcol_backbone'], allow_failed_imports=False)

channels = [24, 48, 96, 192]
width = 48
backbone = dict(
    type='RevCol',
    arch=dict(channels=channels, layers=(1, 1, 1, 1), columns=2, long_up=False),
    save_memory=True,
    init_cfg=dict(type='Xavier', layer=['Conv2d', 'Linear']),
)

data_root = 'data/digits/'
train_dataloader = dict(num_workers=0)
test_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)
)
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', betas=(0.9, 0.99)),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        # Blocks start as the identity (layer scale 1e-6); from scratch they should wake up soon.
        custom_keys={'gamma': dict(lr_mult=50.0, decay_mult=0.0), 'alpha': dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=10.0),
)
randomness = dict(seed=0)
