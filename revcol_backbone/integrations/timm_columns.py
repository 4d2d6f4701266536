"""Reversible columns of the stages of any timm model that has four of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from revcol_backbone.argument_checks import check_integer
from revcol_backbone.column import Column
from revcol_backbone.columns_backbone import ColumnsBackbone
from revcol_backbone.integrations.timm_stages import Stages, split_stages
from revcol_backbone.level import UpBranch
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from revcol_backbone.revcol import initialize_weights
from revcol_backbone.transformers.repeatable_attention import repeatable_attention

# How timm calls what is added to the scores of attention.
BIAS_OF_POSITIONS = 'relative_position_bias'


def columns_of(model: str, columns: int = 4, **arguments: Any) -> TimmColumns:
    """Build reversible columns from a timm model's own stages; arguments of :class:`TimmColumns`.

    Example:
        >>> network = columns_of('convnextv2_atto', columns=4)
        >>> [level.shape[1] for level in network(torch.rand(1, 3, 224, 224))]
        [40, 80, 160, 320]
    """
    return TimmColumns(model, columns, **arguments)


@MODELS.register_module()
class TimmColumns(ColumnsBackbone):
    """Reversible columns whose levels are the stages of a timm model, as a backbone.

    The model's stem feeds level 0 of every column, and every column has four stages of its own. F
    of a level is the model's stage, applied to the level below plus, past the first column, the
    next level of the column before: that one goes through a linear layer and LayerNorm and is
    enlarged to the size of the level below. Weights are new: pre-trained ones of one chain of
    stages do not make columns.

    Args:
        model: Name of a timm model that calls a stem and then stages in turn, the last four of
            which halve the resolution each: ``'convnextv2_atto'``, ``'resnet50'``,
            ``'regnety_004'``, ``'swin_tiny_patch4_window7_224'``.
        columns: Number of columns.
        save_memory: Recompute the columns in the backward pass instead of keeping them, so that
            training memory does not grow with their number.
        anchor_every: With ``save_memory``, keep the outputs of every so-many-th column; 0 keeps
            only the last one's.
        frozen_columns: -1 freezes nothing, 0 the stem, n the stem and the first n columns.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` loads a checkpoint of this
            network, and fails if it does not fit; other types as in mmengine.
        **arguments: Further arguments of ``timm.create_model``, such as ``drop_path_rate``,
            ``in_chans`` or ``img_size``.

    Attributes:
        channels: Width of each of the four levels.
        strides: Stride of each of the four levels.

    Raises:
        ValueError: timm has no such model, or it is not made of such stages; the message says why.
    """

    def __init__(
        self,
        model: str,
        columns: int = 4,
        save_memory: bool = True,
        anchor_every: int = DEFAULT_ANCHOR_EVERY,
        frozen_columns: int = -1,
        init_cfg: dict | list[dict] | None = None,
        **arguments: Any,
    ) -> None:
        check_integer(type(self).__name__, 'columns', columns, 1)
        if arguments.get('pretrained'):
            raise ValueError(
                f'columns of {model} cannot start from its pre-trained weights, which are those '
                'of one chain of stages; omit pretrained.'
            )
        copies = [split_stages(model, **arguments) for _ in range(columns)]
        first = copies[0]
        super().__init__(
            [_column(copy, is_first_column=copy is first) for copy in copies],
            first.stem,
            save_memory=save_memory,
            anchor_every=anchor_every,
            frozen_columns=frozen_columns,
            init_cfg=init_cfg,
        )
        self.arch = StageLayers((1,) * len(first.stages))
        self.channels, self.strides = first.channels[1:], first.strides
        self._channels_last = first.channels_last

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Compute the four levels of the last column.

        Args:
            x: Images of shape (B, in_chans, H, W), of the sizes that the timm model takes.

        Returns:
            For each level a tensor (B, C[l], H / s, W / s), s as in ``strides``.
        """
        levels = super().forward(x)
        return tuple(_channels_first(level) for level in levels) if self._channels_last else levels


@dataclass(frozen=True)
class StageLayers:
    """For layer decay every stage is one layer.

    Args:
        layers: 1 for each level of a column.
    """

    layers: tuple[int, ...]

    def layer_id(self, name: str) -> int | None:
        """How far a parameter is from the stem: 1 + i + l for level l of column i."""
        if name.startswith('stem.'):
            return 0
        match = re.match(r'subnet(\d+)\.(?:level|alpha)(\d+)', name)
        return 1 + int(match[1]) + int(match[2]) if match else None


class StageLevel(nn.Module):
    """F of a level: a stage, applied to the level below plus the next one of the column before.

    Args:
        stage: Computes the level from one of the level below's shape.
        channels: Width of the level below.
        above_channels: Width of the next level; ``None`` where there is none to add.
        channels_last: Whether maps are (B, H, W, C) instead of (B, C, H, W).
    """

    def __init__(
        self, stage: nn.Module, channels: int, above_channels: int | None, channels_last: bool
    ) -> None:
        super().__init__()
        self.up = None if above_channels is None else UpBranch(above_channels, channels)
        self.stage = stage
        self.channels_last = channels_last
        names = [name for name, _ in stage.named_parameters()]
        self.learns_bias = any(BIAS_OF_POSITIONS in name for name in names)

    def forward(self, below: Tensor, above: Sequence[Tensor] = (), keep: None = None) -> Tensor:
        """Compute the level from what is below and above."""
        if self.up is not None:
            if self.channels_last:
                up = self.up(_channels_first(above[0]), below.shape[1:3]).permute(0, 2, 3, 1)
            else:
                up = self.up(above[0], below.shape[2:])
            below = below + up
        with repeatable_attention(below, self.training) if self.learns_bias else nullcontext():
            return self.stage(below)


def _column(stages: Stages, is_first_column: bool) -> Column:
    widths, levels = stages.channels, []
    for index, stage in enumerate(stages.stages):
        has_up = not is_first_column and index < len(stages.stages) - 1
        above = widths[index + 2] if has_up else None
        level = StageLevel(stage, widths[index], above, stages.channels_last)
        if level.up is not None:
            level.up.apply(initialize_weights)
        levels.append(level)
    return Column(
        levels,
        [(width,) if stages.channels_last else (1, width, 1, 1) for width in widths[1:]],
    )


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
