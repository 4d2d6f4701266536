from revcol_backbone.checkpoints import sources

from .revcol_cascade import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(
    arch='base', drop_path_rate=0.4, pretrained=sources.PUBLISHED['revcol_base_1k.pth']
)
optimizer.params.lr_factor_func.decay_rate = 0.9

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']
