# 60.4 mIoU (61.0 multi-scale with flips) was published, the recipe was not: one image a GPU, the
# 7x7 kernels and the weights are those of RevCol-H's UPerNet.
_base_ = './_base_/revcol_mask2former_640x640.py'

checkpoint = (
    'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/segmentation/'
    'revcol_huge_k7padded.pth'
)
model = dict(
    backbone=dict(
        arch='huge',
        kernel_size=7,
        save_memory=True,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    decode_head=dict(in_channels=[360, 720, 1440, 2880]),
)
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
