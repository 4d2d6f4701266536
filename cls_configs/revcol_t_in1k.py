_base_ = './_base_/in1k.py'
