# Multi-scale test with flips (`--tta`) for boxes and masks. The sizes that were used for the
# published figures are not known; these are ours, around the single-scale 1333 x 800. The merging
# is that of mmdet's tools/test.py: NMS at 0.5, 100 boxes.
tta_model = dict(
    type='InstanceTTAModel',
    tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
)
tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(2 * short_side, short_side), keep_ratio=True)
                for short_side in (600, 800, 1000, 1200, 1400)
            ],
            [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
                        *('flip', 'flip_direction'),
                    ),
                )
            ],
        ],
    ),
]
