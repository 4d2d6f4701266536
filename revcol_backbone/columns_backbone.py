"""Columns as a backbone of mmengine: weights from a checkpoint, and ids for layer decay."""

from __future__ import annotations

from typing import Protocol

from mmengine.model import BaseModule, initialize

from revcol_backbone.checkpoints.pretrained import load_pretrained
from revcol_backbone.reversible_columns import ReversibleColumns


class LayeredArchitecture(Protocol):
    """Numbers of a network from which the layer ids of its parameters follow."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks in each level of one column."""

    def layer_id(self, name: str) -> int | None:
        """How far a parameter is from the stem; ``None`` for one that is not of the columns."""


class ColumnsBackbone(ReversibleColumns, BaseModule):
    """Reversible columns that a detector or segmentor builds from its config.

    Attributes:
        arch: The numbers of the network.
    """

    arch: LayeredArchitecture

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer id of a parameter and the number of ids, as mmpretrain's layer decay asks for them.

        Args:
            param_name: The parameter's name in the whole model. Those of heads have the last id.
            prefix: What the names of the backbone's parameters begin with.
        """
        heads = sum(self.arch.layers) + self.columns
        layer = None
        if param_name.startswith(prefix):
            layer = self.arch.layer_id(param_name.removeprefix(prefix))
        return heads if layer is None else layer, heads + 1

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``; without one the initial weights stay."""
        given = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        pretrained = [cfg for cfg in given if cfg.get('type') == 'Pretrained']
        if not pretrained:
            super().init_weights()
            return
        if not all(cfg.get('checkpoint') for cfg in pretrained):
            raise ValueError(
                f'{type(self).__name__} init_cfg={self.init_cfg!r} names no file; add '
                'checkpoint=FILE_OR_URL.'
            )
        initialize(self, [cfg for cfg in given if cfg not in pretrained])
        for cfg in pretrained:
            load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
        self._is_init = True
