"""The RevCol backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

import torch
from mmengine.model import BaseModule, initialize
from mmengine.registry import MODELS
from torch import Tensor, nn

from revcol_backbone.checkpoints.pretrained import load_pretrained
from revcol_backbone.column import Block, ChannelsFirstLayerNorm, Column, Features, Level
from revcol_backbone.deploy import DeployedColumn
from revcol_backbone.reversible import DEFAULT_ANCHOR_EVERY, run_reversibly
from revcol_backbone.variants import LEVELS, Architecture, resolve_architecture

DEFAULT_KERNEL_SIZE = 3
SMALLEST_INPUT = 32
INIT_STD = 0.02


@MODELS.register_module()
class RevCol(BaseModule):
    """Reversible Column Network, arXiv 2212.11696, as a backbone.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, ``'xlarge'``, ``'huge'``, or
            ``dict(channels=(4 ints), layers=(4 ints), columns=int, long_up=bool)``.
        kernel_size: Odd size of the depthwise kernels; ``None`` means 3. A published 3x3
            checkpoint loads into a larger size by zero-padding.
        drop_path_rate: Stochastic depth rate of the last block of each column, at least 0 and
            below 1; it rises linearly from 0 over the blocks of a column. Default 0.
        out_indices: Levels of the last column to return, of 0, 1, 2, 3. Default all. Levels that
            none of these needs are in the state dict, but not trained.
        save_memory: Recompute the columns in the backward pass instead of keeping them, so that
            training memory does not grow with their number. Evaluation is not affected.
        anchor_every: With ``save_memory``, the outputs of every ``anchor_every``-th column are
            kept, and those between are recomputed backwards from them: 1 keeps every column's
            outputs, 0 only the last one's. Rounding grows with every column undone.
        frozen_columns: -1 freezes nothing, 0 the stem, n the stem and the first n columns:
            they stay in evaluation mode and get no gradients.
        deploy: Build the network as :meth:`switch_to_deploy` leaves it, to load weights that were
            saved after it. Default ``False``.
        in_channels: Channels of the images. Default 3.
        block: Makes a block from its width and ``kernel_size``; called with features
            (B, C, H, W) and drop path factors (B,) or ``None``, a block gives features of the same
            shape. Default :class:`~revcol_backbone.column.Block`.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` loads published weights,
            and fails if they do not fit; other types as in mmengine.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        arch: str | dict | Architecture,
        kernel_size: int | None = None,
        drop_path_rate: float = 0.0,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        save_memory: bool = False,
        anchor_every: int = DEFAULT_ANCHOR_EVERY,
        frozen_columns: int = -1,
        deploy: bool = False,
        in_channels: int = 3,
        block: Callable[[int, int], nn.Module] = Block,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.arch = resolve_architecture(arch)
        self.kernel_size = _check_kernel_size(kernel_size)
        self.out_indices = _check_out_indices(out_indices)
        self.save_memory = _check_flag('save_memory', save_memory)
        self.anchor_every = _check_integer('anchor_every', anchor_every, 0, None)
        self.frozen_columns = _check_integer(
            'frozen_columns', frozen_columns, -1, self.arch.columns
        )
        self.in_channels = _check_integer('in_channels', in_channels, 1, None)
        rates = _drop_path_rates(drop_path_rate, sum(self.arch.layers))

        self.stem = nn.Sequential(
            nn.Conv2d(self.in_channels, self.arch.channels[0], kernel_size=4, stride=4),
            ChannelsFirstLayerNorm(self.arch.channels[0]),
        )
        for index in range(self.arch.columns):
            self.add_module(f'subnet{index}', self._make_column(index == 0, rates, block))
        self.apply(initialize_weights)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self._freeze_unneeded_levels()
        self.deploy = False
        if _check_flag('deploy', deploy):
            self.switch_to_deploy()

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.arch.columns

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the chosen levels of the last column.

        Args:
            x: Images of shape (B, in_channels, H, W), H and W at least 32. Sizes that are not
                multiples of 32 are fine: every stride rounds down.

        Returns:
            For each of ``out_indices`` a tensor (B, C[l], H / s, W / s), s = 4, 8, 16, 32.

        Raises:
            ValueError: The input has another shape.
        """
        check_input(x, self.in_channels)
        if self.deploy:
            return self._forward_deployed(x)
        (features,) = self.run_columns(self.stem(x))
        return tuple(features[index] for index in self.out_indices)

    def run_columns(self, stem: Tensor, outputs: Sequence[int] | None = None) -> list[Features]:
        """Run the columns on the stem's output, with ``save_memory`` as set.

        Args:
            stem: The stem's output, (B, C[0], H / 4, W / 4).
            outputs: Positions of the columns to return, as for intermediate supervision; with
                ``save_memory`` this costs no memory beyond what the caller holds on to. ``None``
                returns the last column.

        Returns:
            The levels of each of these columns; of the last columns those alone that
            ``out_indices`` needs.
        """
        columns = [getattr(self, f'subnet{index}') for index in range(self.columns)]
        keep = [column.draw_drop_path(stem) for column in columns]
        outputs = [self.columns - 1] if outputs is None else outputs
        counts = self.arch.needed_levels(max(self.out_indices) + 1)
        # A trace holds what is computed, not how to differentiate it.
        if self.save_memory and torch.is_grad_enabled() and not torch.jit.is_tracing():
            return run_reversibly(columns, stem, keep, self.anchor_every, outputs, counts)
        features, found = None, {}
        for position, column in enumerate(columns):
            features = column(stem, features, keep[position], counts[position])
            if position in outputs:
                found[position] = features
        return [found[position] for position in outputs]

    def _forward_deployed(self, x: Tensor) -> tuple[Tensor, ...]:
        # Without the moves of channels between convolutions and linear layers.
        stem, features = self.stem(x.contiguous(memory_format=torch.channels_last)), None
        for index in range(self.columns):
            features = getattr(self, f'subnet{index}')(stem, features)
        return tuple(features[index] for index in self.out_indices)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the trained network into a faster one for inference alone; again changes nothing.

        LayerNorm's affine part goes into the first linear layer of every block and the layer
        scale into the second; ``alpha`` is bounded once; the unused ``alpha`` of the first column,
        drop path and the memory-saving backward pass are dropped. Outputs are equal up to rounding
        and come in ``channels_last`` memory; the state dict has fewer keys, which a model built
        with ``deploy=True`` loads. The model cannot be trained afterwards.
        """
        if self.deploy:
            return
        for index in range(self.columns):
            column = DeployedColumn(getattr(self, f'subnet{index}'), is_first_column=index == 0)
            self.add_module(f'subnet{index}', column)
        self.deploy, self.save_memory = True, False
        self.requires_grad_(False).to(memory_format=torch.channels_last).eval()

    def prune_levels(self, highest: int) -> None:
        """Return the levels from 0 to ``highest``, and remove what they do not need.

        The state dict then lacks the removed levels. A checkpoint is loaded before.

        Raises:
            RuntimeError: The network was switched to deploy.
        """
        if self.deploy:
            raise RuntimeError('this RevCol was switched to deploy and cannot be pruned.')
        self.out_indices = tuple(range(highest + 1))
        for index, count in enumerate(self.arch.needed_levels(highest + 1)):
            getattr(self, f'subnet{index}').remove_levels(count)

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
                f'RevCol init_cfg={self.init_cfg!r} names no file; add checkpoint=FILE_OR_URL.'
            )
        initialize(self, [cfg for cfg in given if cfg not in pretrained])
        for cfg in pretrained:
            load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
        self._is_init = True

    def train(self, mode: bool = True) -> RevCol:
        """Switch between training and evaluation; frozen parts stay in evaluation mode.

        Raises:
            RuntimeError: Training is asked of a deployed model.
        """
        if mode and self.deploy:
            raise RuntimeError(
                'this RevCol was switched to deploy and cannot be trained; build it anew with '
                'deploy=False and load the trained checkpoint.'
            )
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _make_column(
        self,
        is_first_column: bool,
        rates: Iterable[float],
        block: Callable[[int, int], nn.Module],
    ) -> Column:
        make_block = partial(block, kernel_size=self.kernel_size)
        rates = iter(rates)
        return Column(
            [
                Level(self.arch, index, is_first_column, make_block)
                for index in range(len(self.arch.channels))
            ],
            alpha_shapes=[(1, channels, 1, 1) for channels in self.arch.channels],
            drop_path_rates=[list(islice(rates, blocks)) for blocks in self.arch.layers],
        )

    def _freeze_unneeded_levels(self) -> None:
        # Data-parallel training waits for the gradient of everything that is trained.
        for index, count in enumerate(self.arch.needed_levels(max(self.out_indices) + 1)):
            column = getattr(self, f'subnet{index}')
            for level, alpha in zip(column.levels[count:], column.alphas[count:], strict=True):
                level.requires_grad_(False)
                alpha.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_columns < 0:
            return []
        return [self.stem, *(getattr(self, f'subnet{i}') for i in range(self.frozen_columns))]


def initialize_weights(module: nn.Module) -> None:
    """Draw a convolution's or linear layer's weights; other modules stay. For ``Module.apply``."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _drop_path_rates(rate: float, blocks: int) -> list[float]:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
        raise ValueError(f'RevCol drop_path_rate={rate!r} is not allowed; give 0 <= rate < 1.')
    return [rate * index / max(blocks - 1, 1) for index in range(blocks)]


def _check_kernel_size(kernel_size: int | None) -> int:
    kernel_size = DEFAULT_KERNEL_SIZE if kernel_size is None else kernel_size
    is_integer = isinstance(kernel_size, int) and not isinstance(kernel_size, bool)
    if not is_integer or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f'RevCol kernel_size={kernel_size!r} is not allowed; give a positive odd integer, '
            'such as 3 or 7.'
        )
    return kernel_size


def _check_out_indices(out_indices: tuple[int, ...]) -> tuple[int, ...]:
    is_sequence = isinstance(out_indices, (tuple, list))
    if not is_sequence or not out_indices or not all(map(_is_level, out_indices)):
        raise ValueError(
            f'RevCol out_indices={out_indices!r} is not allowed; give one or more of 0, 1, 2, 3.'
        )
    if len(set(out_indices)) != len(out_indices):
        raise ValueError(f'RevCol out_indices={out_indices!r} names a level twice.')
    return tuple(out_indices)


def _is_level(index: object) -> bool:
    return isinstance(index, int) and not isinstance(index, bool) and index in range(LEVELS)


def _check_flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f'RevCol {name}={value!r} is not allowed; give True or False.')
    return value


def _check_integer(name: str, value: int, low: int, high: int | None) -> int:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        allowed = f'at least {low}' if high is None else f'from {low} to {high}'
        raise ValueError(f'RevCol {name}={value!r} is not allowed; give an integer {allowed}.')
    return value


def check_input(x: Tensor, channels: int) -> None:
    """Raise ``ValueError`` where :meth:`RevCol.forward` does not take images of this shape."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f'RevCol got an input of shape {tuple(x.shape)}; it takes images of shape '
            f'(batch, {channels}, height, width).'
        )
    if min(x.shape[-2:]) < SMALLEST_INPUT:
        raise ValueError(
            f'RevCol got an image of {x.shape[-2]} x {x.shape[-1]} pixels; the height and the '
            f'width must be at least {SMALLEST_INPUT}.'
        )
