"""The RevCol backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from revcol_backbone.argument_checks import (
    check_flag,
    check_indices,
    check_integer,
    drop_path_rates,
)
from revcol_backbone.column import Column
from revcol_backbone.columns_backbone import ColumnsBackbone
from revcol_backbone.level import Block, ChannelsFirstLayerNorm, Level
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from revcol_backbone.native.compiling import native_library
from revcol_backbone.native.network import make_native
from revcol_backbone.variants import LEVELS, Architecture, resolve_architecture

DEFAULT_KERNEL_SIZE = 3
SMALLEST_INPUT = 32
INIT_STD = 0.02


@MODELS.register_module()
class RevCol(ColumnsBackbone):
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
            shape. Default :class:`~revcol_backbone.level.Block`.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` loads published weights,
            and fails if they do not fit; other types as in mmengine.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    arch: Architecture

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
        block: Callable[..., nn.Module] = Block,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = resolve_architecture(arch)
        kernel_size = _check_kernel_size(kernel_size)
        out_indices = check_indices('RevCol', 'out_indices', out_indices, LEVELS)
        in_channels = check_integer('RevCol', 'in_channels', in_channels, 1)
        rates = drop_path_rates('RevCol', drop_path_rate, sum(arch.layers))
        stem = nn.Sequential(
            nn.Conv2d(in_channels, arch.channels[0], kernel_size=4, stride=4),
            ChannelsFirstLayerNorm(arch.channels[0]),
        )
        make_block = partial(block, kernel_size=kernel_size)
        columns = [
            _make_column(arch, index == 0, rates, make_block) for index in range(arch.columns)
        ]
        super().__init__(
            columns, stem, save_memory, anchor_every, frozen_columns, init_cfg=init_cfg
        )
        self.arch, self.kernel_size = arch, kernel_size
        self.out_indices, self.in_channels = out_indices, in_channels
        self.apply(initialize_weights)
        self._freeze_unneeded_levels()
        if check_flag('RevCol', 'deploy', deploy):
            self.switch_to_deploy()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # images alone
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
            # Without the moves of channels between convolutions and linear layers.
            x = x.contiguous(memory_format=torch.channels_last)
        features = super().forward(x)
        return tuple(features[index] for index in self.out_indices)

    def level_counts(self) -> list[int]:
        """How many levels of each column ``out_indices`` needs, from the lowest."""
        return self.arch.needed_levels(max(self.out_indices) + 1)

    def switch_to_deploy(self, native: bool = False) -> None:
        """Fold the trained network into a faster one for inference alone; again changes nothing.

        LayerNorm's affine part goes into the first linear layer of every block and the layer
        scale into the second; ``alpha`` is bounded once; the unused ``alpha`` of the first column,
        drop path and the memory-saving backward pass are dropped. Outputs are equal up to rounding
        and come in ``channels_last`` memory; the state dict has fewer keys, which a model built
        with ``deploy=True`` loads. The model cannot be trained afterwards.

        Args:
            native: Compile blocks and fusions with this machine's C++ compiler, for inference in
                float32 on an x86 CPU under Linux. Hooks on layers inside of them do not run then.
                Default ``False``.

        Raises:
            RuntimeError: With ``native``, the machine is another, has no compiler, or it fails.
        """
        if native:
            native_library()
        super().switch_to_deploy()
        self.to(memory_format=torch.channels_last)
        if native:
            make_native(self)

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

    def _freeze_unneeded_levels(self) -> None:
        # Data-parallel training waits for the gradient of everything that is trained.
        for index, count in enumerate(self.arch.needed_levels(max(self.out_indices) + 1)):
            column = getattr(self, f'subnet{index}')
            for level, alpha in zip(column.levels[count:], column.alphas[count:], strict=True):
                level.requires_grad_(False)
                alpha.requires_grad_(False)


def _make_column(
    arch: Architecture,
    is_first_column: bool,
    rates: Iterable[float],
    make_block: Callable[[int], nn.Module],
) -> Column:
    rates = iter(rates)
    return Column(
        [Level(arch, index, is_first_column, make_block) for index in range(len(arch.channels))],
        alpha_shapes=[(1, channels, 1, 1) for channels in arch.channels],
        drop_path_rates=[list(islice(rates, blocks)) for blocks in arch.layers],
    )


def initialize_weights(module: nn.Module) -> None:
    """Draw a convolution's or linear layer's weights; other modules stay. For ``Module.apply``."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_kernel_size(kernel_size: int | None) -> int:
    kernel_size = DEFAULT_KERNEL_SIZE if kernel_size is None else kernel_size
    is_integer = isinstance(kernel_size, int) and not isinstance(kernel_size, bool)
    if not is_integer or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f'RevCol kernel_size={kernel_size!r} is not allowed; give a positive odd integer, '
            'such as 3 or 7.'
        )
    return kernel_size


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
