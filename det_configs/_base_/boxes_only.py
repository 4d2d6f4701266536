# What a detector of boxes without masks changes in the config that it inherits from.
no_mask_head = dict(roi_head=dict(mask_roi_extractor=None, mask_head=None))
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
