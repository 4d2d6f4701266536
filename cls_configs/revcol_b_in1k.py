_base_ = './_base_/in1k.py'

model = dict(arch='base', drop_path_rate=0.4)
optim_wrapper = dict(clip_grad=dict(max_norm=5))
param_scheduler = _base_.param_scheduler
param_scheduler[1].eta_min = 1e-8
