# Pre-training on ImageNet-1K with intermediate supervision, for 8 GPUs; the values of RevCol-T.
_base_ = ['./runtime.py', './imagenet.py']

model = dict(
    type='RevColClassifier',
    arch='tiny',
    num_classes=1000,
    drop_path_rate=0.1,
    save_memory=True,
    label_smoothing=0.1,
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
max_epochs = 300
warmup_epochs = 20
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    # In classification alpha decays, as every weight that is no vector.
    paramwise_cfg=dict(decay_rate=1.0, decay_alpha=True),
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-5 / 1e-3,
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [*_base_.custom_hooks, dict(type='ShardableEMAHook', momentum=1e-4)]
