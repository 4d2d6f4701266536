# IC-ResNet-50 with the ordinary ResNet-50 of mmpretrain as its teacher, as in the paper's abstract.
_base_ = './ic_resnet50_in1k.py'

teacher = _base_.model
teacher.backbone = dict(teacher.backbone, type='ResNet')
model = dict(
    _delete_=True,
    type='WeakLogitDistillation',
    student=dict(_base_.model, backbone=dict(teacher.backbone, type='ICResNet')),
    teacher=teacher,
    teacher_checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    data_preprocessor=dict(_base_.data_preprocessor, type='ClsDataPreprocessor'),
)
