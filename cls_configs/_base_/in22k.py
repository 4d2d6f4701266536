# Pre-training on ImageNet-22K with intermediate supervision, for 8 GPUs; the values of RevCol-B.
_base_ = ['./runtime.py', './imagenet.py']

model = dict(
    type='RevColClassifier',
    arch='base',
    num_classes=21841,  # of the release of fall 2011
    drop_path_rate=0.3,
    save_memory=True,
    label_smoothing=0.1,
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
max_epochs = 90
warmup_epochs = 5
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
optim_wrapper = dict(
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=1.0, decay_alpha=True),
    optimizer=dict(type='AdamW', lr=1.25e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-5 / 1.25e-4,
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-7,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]

# One subfolder of images for each class. There is no split for validation: the measure is what
# fine-tuning on ImageNet-1K reaches.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/imagenet22k',
        pipeline=_base_.train_dataloader.dataset.pipeline,
    )
)
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
