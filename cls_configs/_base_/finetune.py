# Fine-tuning on ImageNet-1K at 224 pixels, for 8 GPUs with 64 images; the values of RevCol-B.
_base_ = ['./runtime.py', './imagenet.py']

model = dict(
    type='RevColClassifier',
    arch='base',
    num_classes=1000,
    intermediate_supervision=False,
    head_init_scale=0.001,
    drop_path_rate=0.2,
    save_memory=True,
    label_smoothing=0.1,
    init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_base_22k.pth'),
)
train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=64)
test_dataloader = dict(batch_size=64)
max_epochs = 30
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.9, decay_alpha=True),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-7,
        by_epoch=True,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
