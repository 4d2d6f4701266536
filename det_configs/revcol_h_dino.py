# 63.8 box AP was published, after Objects365 (revcol_h_dino_o365.py, whose result this starts
# from); the recipe was not. This is DINO's for its own largest model (arXiv 2203.03605, appendix
# D): 18 epochs, 16 GPUs with one image each, images 1.5 times as large. The step of the learning
# rate at epoch 16 is ours.
_base_ = './_base_/revcol_h_dino.py'

load_from = 'work_dirs/revcol_h_dino_o365/epoch_26.pth'
train_cfg = dict(max_epochs=18)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=18, milestones=[16], gamma=0.1)
]
# Every size of the base, times 1.5.
resize = dict(
    type='RandomChoiceResize',
    scales=[(short_side, 2000) for short_side in range(720, 1201, 48)],
    keep_ratio=True,
)
train_pipeline = _base_.train_pipeline
train_pipeline[3].transforms[0] = [resize]
train_pipeline[3].transforms[1][0].scales = [(side, 6300) for side in (600, 750, 900)]
train_pipeline[3].transforms[1][1].crop_size = (576, 900)
train_pipeline[3].transforms[1][2] = resize
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (2000, 1200)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
tta_pipeline = _base_.tta_pipeline
for view in tta_pipeline[1].transforms[0]:
    view.scale = (3 * view.scale[0] // 2, 3 * view.scale[1] // 2)
del view
