# RevCol-T with the published RevCol-B as its teacher over the first half. This combination is ours.
_base_ = './revcol_t_in1k.py'

teacher = dict(_base_.model, arch='base')
model = dict(
    _delete_=True,
    type='WeakLogitDistillation',
    student=_base_.model,
    teacher=teacher,
    teacher_checkpoint=_base_.checkpoints + 'revcol_base_1k.pth',
)
