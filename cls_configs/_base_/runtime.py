# What every training on image classification shares.
_base_ = ['mmpretrain::_base_/default_runtime.py', '../../base_configs/reliable_training.py']
custom_imports = dict(
    imports=['revcol_backbone', 'revcol_backbone.pretraining'], allow_failed_imports=False
)
checkpoints = 'https://github.com/megvii-research/RevCol/releases/download/checkpoint/'

custom_hooks = [
    dict(type='PublishedWeightsHook'),
    *_base_.custom_hooks,
    dict(type='ImageDatasetCheckHook'),
    dict(type='ProgressBarHook'),
]
# With two, the newest one stays while the next is being written.
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=2))
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)
# Every learning rate is for 1,024 images in a step and follows the real number.
auto_scale_lr = dict(base_batch_size=1024, enable=True)
randomness = dict(seed=0)
