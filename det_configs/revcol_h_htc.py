# 61.1 box AP and 53.0 mask AP were published, the recipe was not: drop path, learning rate and
# layer decay are those of RevCol-L, the 7x7 kernels those of the released downstream checkpoint.
_base_ = './_base_/revcol_htc.py'

checkpoint = (
    'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/segmentation/'
    'revcol_huge_k7padded.pth'
)
model = dict(
    backbone=dict(
        arch='huge',
        kernel_size=7,
        drop_path_rate=0.5,
        save_memory=True,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    neck=dict(in_channels=[360, 720, 1440, 2880]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
