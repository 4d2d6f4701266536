_base_ = './_base_/rednet_mask_rcnn.py'
