# 63.8 box AP was published, after Objects365 (revcol_h_dino_o365.py, whose result this starts
# from); the recipe was not: drop path and layer decay are RevCol-L's. For the four scales of
# revcol_t_dino.py, change the same settings.
_base_ = './_base_/revcol_dino.py'

model = dict(
    backbone=dict(arch='huge', kernel_size=7, drop_path_rate=0.5, save_memory=True),
    neck=dict(in_channels=[360, 720, 1440, 2880]),
)
load_from = 'work_dirs/revcol_h_dino_o365/epoch_12.pth'
