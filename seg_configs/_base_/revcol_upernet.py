# UPerNet with RevCol, 160k iterations, mixed precision, seed 0: everything the variants share.
# A variant names a data set beside this file and sets `arch`, `init_cfg`, the heads' channels,
# the crop and its stride.
_base_ = [
    'mmseg::_base_/models/upernet_swin.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
    '../../base_configs/revcol_weights.py',
    '../../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=['revcol_backbone', 'revcol_backbone.engine.cudnn_determinism'],
    allow_failed_imports=False,
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
custom_hooks = [*_base_.custom_hooks, dict(type='CudnnDeterminismHook')]

# The release trains with `--seed 0 --deterministic`.
randomness = dict(seed=0, deterministic=True)

model = dict(
    backbone=dict(_delete_=True, type='RevCol', drop_path_rate=0.3),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(mode='slide'),
)

# The rate decays from iteration 0 on, lr * (1 - t / 160000), with the warm-up multiplied on top.
# mmengine reaches the end of a schedule one iteration early, hence the ones.
max_iters = 160000
poly = dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=max_iters + 1)
warmup = dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500 + 1)
param_scheduler = [warmup, poly]
optim_wrapper = dict(
    _delete_=True,
    type='PortableAmpOptimWrapper',
    loss_scale='dynamic',
    constructor='RevColLayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=1.0),
    optimizer=dict(type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
