_base_ = './_base_/in1k.py'

model = dict(arch='small', drop_path_rate=0.3)
