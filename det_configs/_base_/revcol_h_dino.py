# DINO with RevCol-H: what pre-training and fine-tuning share. Drop path and layer decay are
# RevCol-L's, the 7x7 kernels those of the released downstream checkpoint. The 1,000 denoising
# queries and one image a GPU are those of DINO's own largest model (arXiv 2203.03605, appendix D).
_base_ = './revcol_dino.py'

model = dict(
    backbone=dict(arch='huge', kernel_size=7, drop_path_rate=0.5, save_memory=True),
    neck=dict(in_channels=[360, 720, 1440, 2880]),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=1000)),
)
train_dataloader = dict(batch_size=1)
