# A small RevCol that is pre-trained on digits in minutes on a CPU; its backbone is that of the
# quickstart's detector and segmentor with twice the columns, so that they have quarters.
_base_ = ['./_base_/runtime.py', './_base_/imagenet.py']

num_classes = 10
size = 64
model = dict(
    type='RevColClassifier',
    arch=dict(channels=(24, 48, 96, 192), layers=(1, 1, 1, 1), columns=4, long_up=False),
    num_classes=num_classes,
    save_memory=True,
    label_smoothing=0.1,
    init_cfg=dict(type='Xavier', layer=['Conv2d', 'Linear']),
)
train_dataloader = _base_.train_dataloader
val_dataloader = _base_.val_dataloader
for split, dataloader in (('train', train_dataloader), ('val', val_dataloader)):
    dataloader.update(batch_size=32, num_workers=0, persistent_workers=False)
    pipeline = dataloader.dataset.pipeline
    dataloader.dataset = dict(
        type='CustomDataset', data_root='data/digit_crops', data_prefix=split, pipeline=pipeline
    )
    pipeline[1].size = size
# Digits have no mirror image, and fill their crops.
train_dataloader.dataset.pipeline[1].update(
    auto_augment=None, hflip=0.0, scale=(0.6, 1.0), re_prob=0.0
)
test_dataloader = val_dataloader
del split, dataloader, pipeline

max_epochs = 3
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        # Blocks start as the identity (layer scale 1e-6); from scratch they should wake up soon.
        custom_keys={'gamma': dict(lr_mult=50.0, decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False)
default_hooks = dict(logger=dict(interval=20))
