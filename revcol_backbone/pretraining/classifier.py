"""The pre-training network as a model that mmengine's Runner trains and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from revcol_backbone.pretraining.loss import (
    LABEL_WEIGHT,
    PICTURE_WEIGHT,
    loss_terms,
    picture_target,
)
from revcol_backbone.pretraining.network import RevColPretraining
from revcol_backbone.variants import Architecture

# Of ImageNet's pictures in [0, 1], as in timm.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@MODELS.register_module()
class RevColClassifier(RevColPretraining, BaseModel):
    """:class:`RevColPretraining` as a classifier of mmpretrain.

    Its state dict is still that of the published files: checkpoints of a training with it are
    files that a detector's ``init_cfg`` takes, and published files are checkpoints of it.

    Args:
        arch: As of :class:`RevColPretraining`, like ``num_classes`` and ``**kwargs``.
        num_classes: Number of classes.
        picture_weight: Weight of the first decoder's loss. Default 3.
        label_weight: Weight that the losses of the classifiers before the last rise to. Default
            0.7.
        label_smoothing: Share of the probability that is spread over all classes. Default 0.
        mean: What the pipeline subtracts from pictures in [0, 1]. Default ImageNet's.
        std: What it divides them by. Default ImageNet's.
        train_cfg: mmpretrain's ``dict(augments=[...])`` to mix images and labels of a batch.
        data_preprocessor: Config of the data preprocessor. Default mmpretrain's
            ``ClsDataPreprocessor`` without normalization.
        init_cfg: As of :class:`RevColPretraining`.
        **kwargs: More arguments of :class:`RevColPretraining`.
    """

    picture_mean: Tensor
    picture_std: Tensor

    def __init__(
        self,
        arch: str | dict | Architecture,
        num_classes: int,
        picture_weight: float = PICTURE_WEIGHT,
        label_weight: float = LABEL_WEIGHT,
        label_smoothing: float = 0.0,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, num_classes, init_cfg=init_cfg, **kwargs)
        self.picture_weight, self.label_weight = picture_weight, label_weight
        self.label_smoothing = label_smoothing
        for name, values in (('picture_mean', mean), ('picture_std', std)):
            # Not part of the published layout.
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.data_preprocessor = MODELS.build(
            {
                'type': 'ClsDataPreprocessor',
                'num_classes': num_classes,
                'batch_augments': train_cfg,
                **(data_preprocessor or {}),
            }
        )

    def forward(  # type: ignore[override]  # as mmengine calls a model
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list:
        """Do what mmengine asks a model for.

        Args:
            inputs: Normalized images of shape (B, 3, H, W).
            data_samples: mmpretrain's samples with the labels; needed but for ``'tensor'``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            Every weighted term of the loss; or the samples with predictions; or the last
            classifier's logits (B, classes).

        Raises:
            RuntimeError: The mode is another one.
        """
        if mode == 'loss':
            return self.loss_and_logits(inputs, data_samples or ())[0]
        if mode not in ('predict', 'tensor'):
            raise RuntimeError(f"mode={mode!r} is not allowed; use 'loss', 'predict' or 'tensor'.")
        logits = self.classify(inputs)
        return logits if mode == 'tensor' else _predict(logits, data_samples or ())

    def loss_and_logits(
        self, inputs: Tensor, data_samples: Sequence[Any]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Compute every weighted term of the loss, and the last classifier's logits."""
        logits, pictures = RevColPretraining.forward(self, inputs)
        terms = loss_terms(
            logits,
            pictures,
            labels_of(data_samples).to(inputs.device),
            picture_target(inputs, self.picture_mean, self.picture_std),
            self.picture_weight,
            self.label_weight,
            self.label_smoothing,
        )
        return terms, logits[-1]

    def reconstruct(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Rebuild the pictures behind normalized images from the supervised columns.

        Args:
            inputs: Normalized images of shape (B, 3, H, W), both sides multiples of 32.

        Returns:
            Of every decoder the picture, (B, 3, H, W) in [0, 1].
        """
        return tuple(logits.sigmoid() for logits in RevColPretraining.forward(self, inputs)[1])


def labels_of(data_samples: Sequence[Any]) -> Tensor:
    """The labels of mmpretrain's samples: probabilities where images were mixed, else classes."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


def _predict(logits: Tensor, data_samples: Sequence[Any]) -> list:
    for sample, scores in zip(data_samples, logits.float().softmax(dim=1), strict=True):
        sample.set_pred_score(scores).set_pred_label(scores.argmax(dim=0, keepdim=True))
    return list(data_samples)
