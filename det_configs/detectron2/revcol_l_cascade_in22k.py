from revcol_backbone.checkpoints.sources import PUBLISHED

from .revcol_cascade import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(
    arch='large', drop_path_rate=0.5, pretrained=PUBLISHED['revcol_large_22k.pth']
)
optimizer.lr = 1e-4

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']
