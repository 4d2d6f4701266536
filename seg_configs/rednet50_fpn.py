_base_ = './_base_/rednet_fpn.py'
