_base_ = './_base_/in22k.py'

model = dict(arch='large')
