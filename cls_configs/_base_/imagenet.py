# ImageNet-1K at 224 pixels, 128 images a GPU: a subfolder of images for each class in train and
# val, or flat folders beside meta/train.txt and meta/val.txt.
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='train',
        pipeline=[
            dict(
                type='LoadImageFromFile',
                imdecode_backend='pillow',
                color_type='color_ignore_orientation',
            ),
            dict(
                type='PretrainingAugmentation',
                size=224,
                auto_augment='rand-m9-mstd0.5-inc1',
                color_jitter=0.4,
                interpolation='bicubic',
                re_prob=0.25,
                re_mode='pixel',
                re_count=1,
            ),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=[
            dict(
                type='LoadImageFromFile',
                imdecode_backend='pillow',
                color_type='color_ignore_orientation',
            ),
            dict(type='EvaluationTransform', size=224),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
