_base_ = './revcol_l_in22k_in1k.py'

train_dataloader = _base_.train_dataloader
val_dataloader = _base_.val_dataloader
for dataloader in (train_dataloader, val_dataloader):
    dataloader.dataset.pipeline[1].size = 384
test_dataloader = val_dataloader
del dataloader
