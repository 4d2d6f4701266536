"""A column of RevCol: levels that each add a scaled shortcut from the column before.

Top down: the column with its equation and inverse, the level, its fusion, its blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.block_function import apply_block
from revcol_backbone.variants import Architecture

ALPHA_INIT = 0.5
ALPHA_MIN = 1e-3
EPSILON = 1e-6
EXPANSION = 4
LAYER_SCALE_INIT = 1e-6

Features = tuple[Tensor, ...]
Keep = Sequence[Sequence[Tensor | None]] | None


class Column(nn.Module):
    """One column (paper, equation 4):  c[l,i] = F[l,i](c[l-1,i], c[l+1,i-1]) + alpha * c[l,i-1].

    Args:
        levels: F of each level, the lowest first: modules that are called with the level below
            (the stem's output at level 0), the tuple of all levels above in the column before
            (empty in the first column), and the level's drop path factors or ``None``.
        alpha_shapes: Shape of each level's shortcut parameter ``alpha``, which is multiplied with
            that level; (1, C, 1, 1) gives each channel of a feature map its own.
        drop_path_rates: For each level the rates for which :meth:`draw_drop_path` draws factors;
            ``None`` for none at all.
    """

    def __init__(
        self,
        levels: Sequence[nn.Module],
        alpha_shapes: Sequence[tuple[int, ...]],
        drop_path_rates: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        for index, (level, shape) in enumerate(zip(levels, alpha_shapes, strict=True)):
            alpha = nn.Parameter(torch.full(shape, ALPHA_INIT))
            self.register_parameter(f'alpha{index}', alpha)
            self.add_module(f'level{index}', level)
        self.num_levels = len(levels)
        self.drop_path_rates = tuple(tuple(rates) for rates in drop_path_rates or ())

    @property
    def levels(self) -> tuple[nn.Module, ...]:
        """The levels, the lowest first."""
        return tuple(getattr(self, f'level{index}') for index in range(self.num_levels))

    @property
    def alphas(self) -> Features:
        """Their shortcut parameters; the first column has them without using them."""
        return tuple(getattr(self, f'alpha{index}') for index in range(self.num_levels))

    def forward(
        self,
        stem: Tensor,
        previous: Features | None = None,
        keep: Keep = None,
        count: int | None = None,
        constants: Sequence[object] = (),
        compute: Callable[[Tensor, Features | None], Features] | None = None,
    ) -> Features:
        """Run the column.

        Args:
            stem: The stem's output, which is below level 0.
            previous: The levels of the column before; ``None`` for the first column.
            keep: Drop path factors from :meth:`draw_drop_path`; ``None`` drops nothing.
            count: How many levels to compute, from the lowest; ``None`` for all.
            constants: Further arguments of every level, such as masks.
            compute: Computes the levels in place of this method, from ``stem`` and ``previous``,
                so that hooks on the column surround a computation that saves memory.

        Returns:
            The levels of this column.
        """
        if compute is not None:
            return compute(stem, previous)
        below, outputs = stem, []
        pairs = list(zip(self.levels, self.alphas, strict=True))[:count]
        for index, (level, alpha) in enumerate(pairs):
            above = () if previous is None else previous[index + 1 :]
            below = level(below, above, keep[index] if keep else None, *constants)
            if previous is not None:
                below = add_shortcut(below, alpha, previous[index])
            elif torch.is_grad_enabled() and alpha.requires_grad and not torch.jit.is_tracing():
                # Data-parallel training wants every parameter in the graph.
                below = below + 0 * alpha
            outputs.append(below)
        return tuple(outputs)

    def remove_levels(self, first: int) -> None:
        """Remove the levels from index ``first`` on, with their ``alpha``."""
        for index in range(first, self.num_levels):
            delattr(self, f'level{index}')
            delattr(self, f'alpha{index}')
        self.num_levels = min(first, self.num_levels)

    def draw_drop_path(self, x: Tensor) -> list[list[Tensor | None]] | None:
        """Draw which samples of the batch ``x`` skip which blocks; ``None`` if nothing drops.

        The factors are drawn ahead of the column so that it is a function of its inputs alone
        and can be computed again, with the same factors, in the backward pass.
        """
        if not self.training or not any(rate for rates in self.drop_path_rates for rate in rates):
            return None
        dtype = self.alphas[0].dtype
        return [
            [_draw_keep(len(x), rate, x.device, dtype) for rate in rates]
            for rates in self.drop_path_rates
        ]


def add_shortcut(fused: Tensor, alpha: Tensor, previous: Tensor) -> Tensor:
    """The equation: c[l,i] from F[l,i](.), alpha and c[l,i-1]."""
    return fused + bounded_alpha(alpha) * previous


def invert_shortcut(output: Tensor, fused: Tensor, alpha: Tensor) -> Tensor:
    """Its inverse: c[l,i-1] from c[l,i], F[l,i](.) and alpha."""
    return (output - fused).div_(bounded_alpha(alpha))


def bounded_alpha(alpha: Tensor) -> Tensor:
    """The shortcut factor that is used: ``alpha``, kept at least 1e-3 away from 0.

    The sign stays, and 0 counts as positive, so that the inverse can always divide. A channel that
    has reached the bound gets no gradient that would push it through to the other sign, while one
    that leads away from 0 passes. This is the published training in effect, where the parameter
    itself is put back onto the bound before every forward pass: a published alpha that rests there
    does so because its gradient pushes against the bound, and let through, fine-tuning would do in
    its first steps what pre-training never allowed. Unlike there the parameter is never written,
    which would change a model by using it, and 0 does not stay 0.
    """
    if torch.is_grad_enabled() and alpha.requires_grad and not torch.jit.is_tracing():
        return _BoundedAlpha.apply(alpha)
    return _bound(alpha)


def bounded_alpha_gradient(alpha: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of ``alpha`` from that of :func:`bounded_alpha`."""
    # A step of descent goes against the gradient.
    is_stopped = (alpha.abs() <= ALPHA_MIN) & torch.where(alpha < 0, gradient < 0, gradient > 0)
    return gradient.masked_fill(is_stopped, 0)


class _BoundedAlpha(torch.autograd.Function):
    @staticmethod
    def forward(ctx, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(alpha)
        return _bound(alpha)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (alpha,) = ctx.saved_tensors
        return bounded_alpha_gradient(alpha, gradient)


def _bound(alpha: Tensor) -> Tensor:
    return torch.where(alpha < 0, alpha.clamp(max=-ALPHA_MIN), alpha.clamp(min=ALPHA_MIN))


class Level(nn.Module):
    """F[l,i] of RevCol: the fusion of what is below and above, and a chain of blocks.

    Args:
        architecture: The network's widths and depths.
        index: Index of the level, 0 to 3.
        is_first_column: The first column has no column before it, hence no ``up`` branches.
        make_block: Makes one block from the width.
    """

    def __init__(
        self,
        architecture: Architecture,
        index: int,
        is_first_column: bool,
        make_block: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.fusion = Fusion(architecture, index, is_first_column)
        self.blocks = nn.ModuleList(
            make_block(architecture.channels[index]) for _ in range(architecture.layers[index])
        )

    def forward(
        self,
        below: Tensor,
        above: Sequence[Tensor] = (),
        keep: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Fuse and run the blocks; arguments as for :class:`Fusion` and :class:`Block`."""
        x = self.fusion(below, above)
        for index, block in enumerate(self.blocks):
            x = block(x, keep[index] if keep else None)
        return x


class Fusion(nn.Module):
    """Sum of the ``down`` branch and, past the first column, the ``up`` branches (figure 2c).

    Args:
        architecture: Widths of all levels, and whether there is a long ``up2`` branch.
        level: Index of the level that is entered, 0 to 3.
        is_first_column: The first column has no column before it, hence no ``up`` branches.
    """

    def __init__(self, architecture: Architecture, level: int, is_first_column: bool) -> None:
        super().__init__()
        channels = architecture.channels
        top = len(channels) - 1
        if level > 0:
            self.down = nn.Sequential(
                nn.Conv2d(channels[level - 1], channels[level], kernel_size=2, stride=2),
                ChannelsFirstLayerNorm(channels[level]),
            )
        if not is_first_column and level < top:
            self.up = UpBranch(channels[level + 1], channels[level])
        if not is_first_column and level == 0 and architecture.long_up:
            self.up2 = UpBranch(channels[top], channels[level])

    def forward(self, below: Tensor, above: Sequence[Tensor] = ()) -> Tensor:
        """Fuse.

        Args:
            below: The level below in the same column, (B, C[l-1], 2H, 2W) or one more in height
                or width; at level 0 the stem's output, (B, C[0], H, W).
            above: The levels above in the column before: the next one is taken by ``up``, the
                last one by ``up2``.

        Returns:
            Features of shape (B, C[l], H, W).
        """
        fused = self.down(below) if hasattr(self, 'down') else below
        size = fused.shape[-2:]
        if hasattr(self, 'up'):
            fused = fused + self.up(above[0], size)
        if hasattr(self, 'up2'):
            fused = fused + self.up2(above[-1], size)
        return fused


class UpBranch(nn.Module):
    """Linear and LayerNorm over channels, then nearest-neighbor upsampling to a given size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.channel_reschedule = nn.Sequential(
            nn.Linear(in_channels, out_channels), nn.LayerNorm(out_channels, eps=EPSILON)
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring x of shape (B, in, h, w) to (B, out, *size)."""
        x = self.channel_reschedule(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.interpolate(x, size=size, mode='nearest')


class Block(nn.Module):
    """Depthwise convolution and a two-layer perceptron on a residual branch (figure 2c).

    Args:
        channels: Width C of the input and of the output.
        kernel_size: Odd size of the depthwise kernel; the padding keeps height and width.
        expansion: Width of the perceptron's hidden layer over C. Default 4.
    """

    def __init__(self, channels: int, kernel_size: int, expansion: int = EXPANSION) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(
            channels, channels, kernel_size, padding=(kernel_size - 1) // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, expansion * channels)
        self.pwconv2 = nn.Linear(expansion * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE_INIT))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Apply the block to features (B, C, H, W).

        ``keep`` holds drop path factors of shape (B,), 0 for a dropped sample and 1 / (1 - rate)
        for a kept one; ``None`` keeps all.
        """
        return apply_block(self, x, keep)


class ChannelsFirstLayerNorm(nn.LayerNorm):
    """LayerNorm over dimension 1 of a (B, C, H, W) tensor, at every position by itself.

    The normalized dimension is moved last, so that PyTorch's fused kernel does the work, and
    back; on a ``channels_last`` input both moves are views.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def _draw_keep(batch: int, rate: float, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    if rate == 0:
        return None
    kept = torch.empty(batch, device=device, dtype=dtype).bernoulli_(1 - rate)
    return kept / (1 - rate)
