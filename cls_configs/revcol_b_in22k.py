_base_ = './_base_/in22k.py'
