# RevCol-H, pre-trained on 168 million private images.
_base_ = './_base_/finetune.py'

model = dict(
    arch='huge',
    drop_path_rate=0.4,
    init_cfg=dict(
        checkpoint='https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/'
        'classification/revcol_huge_megdata.pth'
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=4e-5),
    paramwise_cfg=dict(decay_rate=0.8),
    clip_grad=dict(max_norm=100),
)
max_epochs = 20
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(eta_min=2e-8, end=max_epochs, T_max=max_epochs)
custom_hooks = [*_base_.custom_hooks, dict(type='ShardableEMAHook', momentum=1e-4)]

train_dataloader = _base_.train_dataloader
val_dataloader = _base_.val_dataloader
for dataloader in (train_dataloader, val_dataloader):
    dataloader.dataset.pipeline[1].size = 640
test_dataloader = val_dataloader
del dataloader
