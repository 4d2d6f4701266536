_base_ = './_base_/rednet_retinanet.py'
