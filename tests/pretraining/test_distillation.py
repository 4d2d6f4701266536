"""Weak logit distillation: the loss, its schedule, and what is trained and saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope

from revcol_backbone.pretraining.distillation import distillation_loss, falling
from tests.golden import image

TINY = dict(channels=(8, 16, 24, 32), layers=(1, 1, 1, 1), columns=4)
REVCOL = dict(type='RevColClassifier', arch=TINY, num_classes=3)
RESNET = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
)
STUDENTS = {'RevCol': REVCOL, 'ResNet': dict(RESNET, backbone=dict(RESNET['backbone'], depth=34))}


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / 'teacher.pth'
    torch.save({'state_dict': MODELS.build(RESNET).state_dict()}, path)
    return path


@pytest.fixture(params=STUDENTS)
def wrapper(request: pytest.FixtureRequest, checkpoint: Path):
    return MODELS.build(wrapping(STUDENTS[request.param], checkpoint))


def wrapping(student: dict, checkpoint: Path, **settings) -> dict:
    return dict(
        type='WeakLogitDistillation',
        student=student,
        teacher=RESNET,
        teacher_checkpoint=str(checkpoint),
        **settings,
    )


def batch() -> tuple[torch.Tensor, list]:
    from mmpretrain.structures import DataSample

    return image((2, 3, 64, 64)), [DataSample().set_gt_label(label) for label in (0, 2)]


def at(iteration: int) -> None:
    hub = MessageHub.get_current_instance()
    hub.update_info('max_iters', 100)
    hub.update_info('iter', iteration)


def test_loss_is_the_divergence_from_the_teacher_in_numbers() -> None:
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    # softmax([0, 1]) = 0.268941, 0.731059: (0.731059 - 0.268941) * 1 * T**2 for T = 2
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(1.848469, abs=1e-5)
    assert distillation_loss(student, student, 2.0).item() == pytest.approx(0, abs=1e-7)


def test_coefficient_falls_in_a_line_to_zero() -> None:
    assert [falling(i, 100, 0.5) for i in (0, 25, 50, 99)] == [1, 0.5, 0, 0]
    assert falling(50, 100, 1.0) == 0.5


def test_the_teacher_adds_its_term_until_it_is_silent(wrapper) -> None:
    at(25)
    losses = wrapper(*batch(), mode='loss')
    assert losses['distillation_coefficient'] == 0.5
    assert losses['loss_distillation'] > 0
    at(50)
    losses = wrapper(*batch(), mode='loss')
    assert 'loss_distillation' not in losses
    assert any(key.startswith('loss') for key in losses)


def test_gradients_reach_the_student_alone(wrapper) -> None:
    at(0)
    wrapper.train()
    wrapper(*batch(), mode='loss')['loss_distillation'].backward()
    assert any(parameter.grad is not None for parameter in wrapper.student.parameters())
    assert all(parameter.grad is None for parameter in wrapper.teacher.parameters())
    assert not wrapper.teacher.training
    assert {id(p) for p in wrapper.parameters()} == {id(p) for p in wrapper.student.parameters()}


def test_its_state_dict_is_the_students(wrapper) -> None:
    state = wrapper.state_dict()
    assert state.keys() == wrapper.student.state_dict().keys()
    wrapper.load_state_dict({key: torch.zeros_like(value) for key, value in state.items()})
    assert not any(value.any() for value in wrapper.student.state_dict().values())


def test_another_dtype_takes_the_teacher_along(wrapper) -> None:
    wrapper.double()
    assert {p.dtype for p in wrapper.teacher.parameters()} == {torch.float64}


def test_a_teacher_of_another_network_is_refused(checkpoint: Path) -> None:
    config = wrapping(REVCOL, checkpoint)
    config['teacher'] = dict(RESNET, backbone=dict(RESNET['backbone'], depth=34))
    with pytest.raises(ValueError, match='does not fit the teacher ImageClassifier'):
        MODELS.build(config)


def test_a_teacher_of_other_classes_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match='the teacher knows 3 classes and the student 5'):
        MODELS.build(wrapping(dict(REVCOL, num_classes=5), checkpoint))


@pytest.mark.parametrize('setting', [dict(temperature=0), dict(coefficient=-1), dict(fraction=1.5)])
def test_numbers_out_of_range_are_refused(checkpoint: Path, setting: dict) -> None:
    with pytest.raises(ValueError, match='is not allowed; give a number above 0'):
        MODELS.build(wrapping(REVCOL, checkpoint, **setting))


def test_an_ic_resnet_learns_from_its_basic_model(checkpoint: Path) -> None:
    from revcol_backbone.ic import ICConv2d, classification  # noqa: F401

    config = wrapping(dict(RESNET, backbone=dict(RESNET['backbone'], type='ICResNet')), checkpoint)
    wrapper = MODELS.build(config)
    assert any(isinstance(module, ICConv2d) for module in wrapper.student.modules())
    assert not any(isinstance(module, ICConv2d) for module in wrapper.teacher.modules())
    at(0)
    assert wrapper(*batch(), mode='loss')['loss_distillation'] > 0
