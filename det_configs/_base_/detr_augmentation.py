# Training augmentation of DETR and Sparse R-CNN: a flip, then either a resize to one of eleven
# short sides, or a resize, a crop and that same resize. Sizes are (short side, longest side).
detr_resize = dict(
    type='RandomChoiceResize',
    scales=[(short_side, 1333) for short_side in range(480, 801, 32)],
    keep_ratio=True,
)
detr_augmentation = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [detr_resize],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(short_side, 1333) for short_side in (400, 500, 600)],
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                detr_resize,
            ],
        ],
    ),
]
