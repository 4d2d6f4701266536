# HTC++ with RevCol. Only its AP was published; every value below says whose it is.
# RevCol's published Cascade Mask R-CNN recipe (the base): box heads, optimizer, 3x schedule.
# mmdet's HTC: interleaved cascade, mask information flow, semantic branch, losses, thresholds.
# mmdet's strongest HTC (X-101-64x4d DCN): training at short sides 400 to 1400 under 1600.
# HTC++ by its definition (Swin, arXiv 2103.14030, appendix A2.2): soft-NMS; revcol_h_htc.py follows
# its schedule. Left out: InstaBoost, whose library is no longer maintained, and the global
# self-attention layer that was added to the largest model.
_base_ = ['./revcol_cascade.py', 'mmdet::_base_/datasets/coco_instance.py']

mask_head = dict(
    type='HTCMaskHead',
    num_convs=4,
    in_channels=256,
    conv_out_channels=256,
    num_classes=80,
    loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
)
model = dict(
    type='HybridTaskCascade',
    data_preprocessor=dict(pad_seg=True),
    roi_head=dict(
        type='HybridTaskCascadeRoIHead',
        interleaved=True,
        mask_info_flow=True,
        semantic_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[8],
        ),
        semantic_head=dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            seg_scale_factor=1 / 8,
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=183,
            loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2),
        ),
        mask_head=[dict(mask_head, with_conv_res=False), mask_head, mask_head],
    ),
    test_cfg=dict(
        rcnn=dict(score_thr=0.001, nms=dict(type='soft_nms', iou_threshold=0.5)),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(type='RandomResize', scale=[(1600, 400), (1600, 1400)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img='train2017/', seg='stuffthingmaps/train2017/'),
        pipeline=train_pipeline,
    )
)
tta_model = dict(tta_cfg=dict(nms=dict(type='soft_nms')))
