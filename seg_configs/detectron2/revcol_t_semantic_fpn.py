from revcol_backbone.checkpoints import sources

from .revcol_semantic_fpn import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(
    arch='tiny', drop_path_rate=0.3, pretrained=sources.PUBLISHED['revcol_tiny_1k.pth']
)

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']
