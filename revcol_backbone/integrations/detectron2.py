"""RevCol, RedNet and IC-ResNet as backbones of Detectron2, for LazyConfig and for yacs configs.

Importing this module registers ``build_revcol_backbone`` and ``build_revcol_fpn_backbone``. Nothing
else in the package imports Detectron2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.model import BaseModule
from PIL import Image
from torch import Tensor

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.ic.resnet import CollisionUnits
from revcol_backbone.ic.torchvision_resnet import StagedResNet
from revcol_backbone.involution.bottleneck import EXPANSION
from revcol_backbone.involution.rednet import WIDTHS, RedNet
from revcol_backbone.revcol import RevCol
from revcol_backbone.variants import resolve_architecture

try:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
except ImportError as error:
    raise ImportError(
        f'revcol_backbone.integrations.detectron2 needs Detectron2, which cannot be imported '
        f'({error}); install it as its own documentation says.'
    ) from error

FEATURES = ('res2', 'res3', 'res4', 'res5')
STRIDES = (4, 8, 16, 32)


class BackboneFeatures(BaseModule):
    """What turns a backbone of this package into one of Detectron2; placed before it as a base.

    Args:
        *args: The backbone's own arguments, but for ``out_indices`` and ``init_cfg``.
        out_features: Levels to return: any of ``'res2'`` to ``'res5'``, strides 4 to 32.
        pretrained: File or address of published weights, loaded whole or not at all; ``None``
            keeps the initial weights.
        **kwargs: More of the backbone's own arguments.

    Raises:
        ValueError: An argument is out of range, or the weights do not fit.
    """

    def __init__(
        self,
        *args: Any,
        out_features: Sequence[str] = FEATURES,
        pretrained: str | None = None,
        **kwargs: Any,
    ) -> None:
        names = list(out_features)
        if not names or not set(names) <= set(FEATURES) or len(set(names)) < len(names):
            raise ValueError(
                f'{type(self).__name__} out_features={names!r} is not allowed; give one or more '
                f'of {", ".join(FEATURES)}, each once.'
            )
        # OmegaConf hands over its own lists.
        indices = tuple(FEATURES.index(name) for name in names)
        super().__init__(*args, out_indices=indices, **kwargs)
        self._out_features = names
        self._is_initialized = False
        if pretrained:
            self.init_cfg = {'type': 'Pretrained', 'checkpoint': pretrained}
        if self.init_cfg:
            self.init_weights()
        self._is_initialized = True

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of this, so that FPN's sizes match."""
        return STRIDES[-1]

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The same for Detectron2's ``ImageList``; no square is needed."""
        return {'size_divisibility': STRIDES[-1]}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every returned level."""
        return {
            name: ShapeSpec(
                channels=self._channels()[FEATURES.index(name)],
                stride=STRIDES[FEATURES.index(name)],
            )
            for name in self._out_features
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the levels by name, from images of shape (B, 3, H, W)."""
        return dict(zip(self._out_features, super().forward(x), strict=True))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # Detectron2's checkpointer drops what does not fit and continues. `pretrained` has been
        # checked, and may lack what an ordinary ResNet does not have.
        expected = self.state_dict() if self._is_initialized else {}
        missing = [name for name in expected if prefix + name not in state_dict]
        missing += [
            name
            for name, value in expected.items()
            if name not in missing and state_dict[prefix + name].shape != value.shape
        ]
        if missing:
            raise ValueError(
                f'the checkpoint does not fit {type(self).__name__}, and its backbone was not '
                f'loaded: it lacks {list_first(prefix + name for name in missing)}, or has them in '
                'another shape; load backbone weights with `pretrained=FILE`, and convert whole '
                'detectors with `python tools/convert_checkpoint.py --to detectron2`.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _channels(self) -> Sequence[int]:
        raise NotImplementedError


class RevColBackbone(BackboneFeatures, RevCol, Backbone):  # type: ignore[misc]  # levels by name
    """RevCol for Detectron2; arguments of :class:`~revcol_backbone.RevCol`.

    Below ``FPN`` its weights are ``backbone.bottom_up.stem...``; see :class:`BackboneFeatures` for
    ``out_features`` and ``pretrained``.
    """

    def _channels(self) -> Sequence[int]:
        return self.arch.channels


class RedNetBackbone(BackboneFeatures, RedNet, Backbone):  # type: ignore[misc]  # levels by name
    """RedNet for Detectron2; arguments of :class:`~revcol_backbone.involution.RedNet`."""

    def _channels(self) -> Sequence[int]:
        return [EXPANSION * width for width in WIDTHS]


class ICResNetBackbone(  # type: ignore[misc]  # levels by name
    BackboneFeatures, CollisionUnits, StagedResNet, Backbone
):
    """IC-ResNet 18, 34, 50, 101 or 152 for Detectron2, made from torchvision's ResNet.

    ``pretrained`` takes an IC-ResNet, or an ordinary ResNet as the basic model. Other arguments are
    those of :class:`~revcol_backbone.ic.torchvision_resnet.StagedResNet`, and ``ic_convolutions``,
    ``collision_start``, ``collision_gain`` and ``deploy`` of the IC-ResNet of mmdet.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train(self.training)  # freezes the units that took the place of frozen convolutions

    def _channels(self) -> Sequence[int]:
        return self.channels


def revcol_lr_factor(arch: str | dict, decay_rate: float) -> Callable[[str], float]:
    """Layer-wise learning-rate decay, for ``lr_factor_func`` of Detectron2's optimizer defaults.

    Args:
        arch: The backbone's architecture.
        decay_rate: Factor from one layer to the one before it, such as 0.85.

    Returns:
        A function from a parameter's name in the detector to the factor of its learning rate, equal
        to that of ``RevColLayerDecayOptimWrapperConstructor``.
    """
    architecture = resolve_architecture(arch)
    layers = sum(architecture.layers) + architecture.columns

    def factor(name: str) -> float:
        _, found, own = name.partition('backbone.bottom_up.')
        layer = architecture.layer_id(own) if found else None
        return 1.0 if layer is None else decay_rate ** (layers - layer)

    return factor


def revcol_weight_decay_overrides(levels: int = 4) -> dict[str, dict[str, float]]:
    """``overrides`` of Detectron2's optimizer defaults: no weight decay where RevCol has none."""
    names = ['gamma', 'bias', *(f'alpha{level}' for level in range(levels))]
    return {name: {'weight_decay': 0.0} for name in names}


def read_label_map(filename: str, copy: bool = True, dtype: Any = None) -> np.ndarray:
    """Read a label map, for ``sem_seg_loading_fn`` of Detectron2's ``SemSegEvaluator``.

    Its default asks NumPy for an array without a copy, which NumPy 2 refuses for pictures.
    """
    with Image.open(filename) as picture:
        return np.array(picture, dtype=dtype)


def add_revcol_config(cfg: CfgNode) -> None:
    """Add the node ``MODEL.REVCOL`` to a yacs config, with the defaults of RevCol-T."""
    cfg.MODEL.REVCOL = CfgNode()
    cfg.MODEL.REVCOL.ARCH = 'tiny'
    cfg.MODEL.REVCOL.KERNEL_SIZE = 3
    cfg.MODEL.REVCOL.DROP_PATH_RATE = 0.0
    cfg.MODEL.REVCOL.SAVE_MEMORY = False
    cfg.MODEL.REVCOL.FROZEN_COLUMNS = -1
    cfg.MODEL.REVCOL.OUT_FEATURES = list(FEATURES)
    cfg.MODEL.REVCOL.PRETRAINED = ''


@BACKBONE_REGISTRY.register()
def build_revcol_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> RevColBackbone:
    """Build RevCol from ``cfg.MODEL.REVCOL``."""
    own = cfg.MODEL.REVCOL
    return RevColBackbone(
        arch=own.ARCH,
        kernel_size=own.KERNEL_SIZE,
        drop_path_rate=own.DROP_PATH_RATE,
        save_memory=own.SAVE_MEMORY,
        frozen_columns=own.FROZEN_COLUMNS,
        out_features=own.OUT_FEATURES,
        pretrained=own.PRETRAINED or None,
    )


@BACKBONE_REGISTRY.register()
def build_revcol_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build RevCol below a feature pyramid, from ``cfg.MODEL.REVCOL`` and ``cfg.MODEL.FPN``."""
    return FPN(
        bottom_up=build_revcol_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
