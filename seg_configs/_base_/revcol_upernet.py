# UPerNet with RevCol, 160k iterations, mixed precision: everything the variants share.
# A variant names a data set beside this file and sets `arch`, `init_cfg`, the heads' channels,
# the crop and its stride.
_base_ = [
    'mmseg::_base_/models/upernet_swin.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]
checkpoints = 'https://github.com/megvii-research/RevCol/releases/download/checkpoint/'
custom_imports = dict(imports=['revcol_backbone'], allow_failed_imports=False)
custom_hooks = [dict(type='FineTunedCheckpointHook')]

model = dict(
    backbone=dict(_delete_=True, type='RevCol', drop_path_rate=0.3),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(mode='slide'),
)

warmup_iters = 1500
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=160000),
]
optim_wrapper = dict(
    _delete_=True,
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=1.0),
    optimizer=dict(type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
