"""Weak logit distillation: a teacher that speeds up the start and does not bound the end.

After "IC Networks", arXiv 2102.03495, of which only the abstract could be read: the loss and its
schedule are our reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from revcol_backbone.checkpoints.reading import list_first, read_weights
from revcol_backbone.checkpoints.sources import locate_checkpoint
from revcol_backbone.checkpoints.state_dict import shapes_of
from revcol_backbone.pretraining.classes import number_of_classes

STUDENT = 'student.'


@MODELS.register_module()
class WeakLogitDistillation(BaseModel):
    """Train a classifier with a frozen teacher whose weight falls to 0 in the course of training.

    The loss is the student's own plus ``c(t) * T**2 * KL(teacher / T || student / T)``, where
    ``c(t) = coefficient * (1 - t / (fraction * iterations))`` until it is 0; from then on the
    teacher is not run. The state dict is the student's alone: its checkpoints know of no teacher.

    Args:
        student: Config of the classifier to train: ``RevColClassifier``, or mmpretrain's
            ``ImageClassifier`` with any backbone.
        teacher: Config of a trained classifier with the same classes.
        teacher_checkpoint: The teacher's weights, all of them: a path, or an ``http(s)`` address
            that is downloaded once.
        temperature: T, above 0. Default 1.
        coefficient: c(0), above 0. Default 1.
        fraction: Share of the training after which the teacher is silent, above 0 and at most 1.
            Default 0.5.
        data_preprocessor: Default the student's.
        init_cfg: Of the wrapper itself, which has no weights.

    Raises:
        ValueError: A number is out of range, or the teacher fits its checkpoint or the student's
            classes not.
        FileNotFoundError: There is no such checkpoint.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        teacher_checkpoint: str,
        temperature: float = 1.0,
        coefficient: float = 1.0,
        fraction: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        built: BaseModel = MODELS.build(student)
        super().__init__(data_preprocessor or built.data_preprocessor, init_cfg)
        self.temperature = _check_above_zero('temperature', temperature)
        self.coefficient = _check_above_zero('coefficient', coefficient)
        self.fraction = _check_above_zero('fraction', fraction, most=1)
        self.student = built
        loaded = load_teacher(teacher, teacher_checkpoint)
        _check_classes(number_of_classes(loaded), number_of_classes(built))
        # No child module: it is neither trained nor saved.
        object.__setattr__(self, 'teacher', loaded)
        self._register_state_dict_hook(_drop_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = 'tensor'
    ) -> Any:
        """As of the student; in mode ``'loss'`` with the terms of the distillation."""
        if mode != 'loss':
            return self.student(inputs, data_samples, mode)
        losses, logits = _losses_and_logits(self.student, inputs, data_samples)
        coefficient = self.coefficient * falling(*_progress(), self.fraction)
        losses['distillation_coefficient'] = logits.new_tensor(coefficient)
        if coefficient:
            with torch.no_grad():
                taught = self.teacher(inputs, mode='tensor')
            losses['loss_distillation'] = coefficient * distillation_loss(
                logits, taught, self.temperature
            )
        return losses

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Take the teacher along to another device or dtype."""
        if hasattr(self, 'teacher'):
            self.teacher._apply(function, recurse)
        return super()._apply(function, recurse)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T**2 * KL(softmax(teacher / T) || softmax(student / T))`` of logits (B, classes)."""
    _check_classes(teacher.shape[-1], student.shape[-1])
    divergence = F.kl_div(
        F.log_softmax(student.float() / temperature, dim=1),
        F.log_softmax(teacher.float() / temperature, dim=1),
        reduction='batchmean',
        log_target=True,
    )
    return temperature**2 * divergence


def falling(iteration: int, iterations: int, fraction: float) -> float:
    """1 at the first iteration, falling in a line to 0 at ``fraction`` of all iterations."""
    return max(0.0, 1 - iteration / (fraction * iterations))


def load_teacher(config: dict, checkpoint: str) -> nn.Module:
    """Build a classifier with the weights of a file, frozen and in evaluation mode.

    Args:
        config: Of the classifier.
        checkpoint: A path, or an ``http(s)`` address that is downloaded once.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It could not be downloaded.
        ValueError: It is not a checkpoint, or not of this classifier.
    """
    teacher = MODELS.build(config)
    weights = read_weights(locate_checkpoint(checkpoint))
    found, expected = shapes_of(weights), shapes_of(teacher.state_dict())
    if found != expected:
        wrong = [key for key in found | expected if found.get(key) != expected.get(key)]
        raise ValueError(
            f'{checkpoint} does not fit the teacher {type(teacher).__name__}: missing, unexpected '
            f'or of another shape are {list_first(wrong)}; give the checkpoint of the config in '
            '`teacher`.'
        )
    teacher.load_state_dict(weights)
    return teacher.requires_grad_(False).eval()


def _losses_and_logits(
    student: BaseModel, inputs: Tensor, data_samples: Sequence[Any] | None
) -> tuple[dict[str, Tensor], Tensor]:
    if hasattr(student, 'loss_and_logits'):
        return student.loss_and_logits(inputs, data_samples)
    features = student.extract_feat(inputs)
    return student.head.loss(features, data_samples), student.head(features)


def _progress() -> tuple[int, int]:
    """Iterations done and in all, as mmengine's Runner keeps them, also over a resume."""
    hub = MessageHub.get_current_instance()
    return hub.get_info('iter', 0), hub.get_info('max_iters', 1)


def _check_above_zero(name: str, value: float, most: float = float('inf')) -> float:
    if not 0 < value <= most:
        limit = '' if most == float('inf') else f' and at most {most}'
        raise ValueError(
            f'WeakLogitDistillation {name}={value!r} is not allowed; give a number above 0{limit}.'
        )
    return value


def _check_classes(teacher: int | None, student: int | None) -> None:
    if None not in (teacher, student) and teacher != student:
        raise ValueError(
            f'the teacher knows {teacher} classes and the student {student}; give a teacher that '
            "was trained on the student's classes."
        )


def _drop_prefix(module: nn.Module, state: dict, prefix: str, _: Any) -> None:
    for key in list(state):
        if key.startswith(prefix + STUDENT):
            state[prefix + key.removeprefix(prefix + STUDENT)] = state.pop(key)


def _add_prefix(module: nn.Module, state: dict, prefix: str, *_: Any) -> None:
    for key in list(state):
        if key.startswith(prefix):
            state[prefix + STUDENT + key.removeprefix(prefix)] = state.pop(key)
