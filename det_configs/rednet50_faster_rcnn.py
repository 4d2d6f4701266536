_base_ = './_base_/rednet_faster_rcnn.py'
