# ADE20K as in mmseg, with 2 images a GPU. Multi-scale test (`--tta`) scales the test size, as
# mmseg 0.x did when the figures were published; the base of mmseg 1.x scales the raw image.
_base_ = 'mmseg::_base_/datasets/ade20k_640x640.py'

train_dataloader = dict(batch_size=2)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(int(2560 * ratio), int(640 * ratio)), keep_ratio=True)
    for ratio in _base_.img_ratios
]
