# No file of RevCol-XL was published: it starts from what revcol_xl_in22k.py trains.
_base_ = './_base_/finetune.py'

model = dict(
    arch='xlarge',
    drop_path_rate=0.4,
    init_cfg=dict(checkpoint='work_dirs/revcol_xl_in22k/epoch_90.pth'),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(decay_rate=0.8))
custom_hooks = [*_base_.custom_hooks, dict(type='ShardableEMAHook', momentum=1e-4)]

train_dataloader = _base_.train_dataloader
val_dataloader = _base_.val_dataloader
for dataloader in (train_dataloader, val_dataloader):
    dataloader.dataset.pipeline[1].size = 384
test_dataloader = val_dataloader
del dataloader
