# This recipe is ours: none was published for RevCol-H with Cascade Mask R-CNN. It follows RevCol-L.
from revcol_backbone.checkpoints import sources

from .revcol_cascade import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(
    arch='huge',
    kernel_size=7,
    save_memory=True,
    drop_path_rate=0.5,
    pretrained=sources.PUBLISHED['revcol_huge_k7padded.pth'],
)
optimizer.lr = 1e-4

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']
