from revcol_backbone.checkpoints import sources

from .revcol_cascade import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(
    arch='large', drop_path_rate=0.5, pretrained=sources.PUBLISHED['revcol_large_22k.pth']
)
optimizer.lr = 1e-4

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']
