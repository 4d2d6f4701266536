_base_ = './_base_/in22k.py'

model = dict(arch='xlarge', drop_path_rate=0.4)
