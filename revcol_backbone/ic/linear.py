"""The dense layer of IC networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from revcol_backbone.ic.collision import collide
from revcol_backbone.ic.start import DEFAULT_START, CollisionParameters


class ICLinear(CollisionParameters, nn.Linear):  # type: ignore[misc]  # torch types this bias as a Parameter
    """A dense layer with inter-layer collision, arXiv 1911.08252, in place of ``nn.Linear``.

    ``y = u + relu(u - w' s + b1) + b2``: u is the matrix product, s the sum of the inputs, b2 the
    ordinary ``bias``. Parameters are named as in :class:`~revcol_backbone.ic.ICConv2d`.

    Args:
        in_features, out_features, bias, device, dtype: As of ``nn.Linear``.
        collision_start, collision_gain: As of :class:`~revcol_backbone.ic.ICConv2d`.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        collision_start: float | str = DEFAULT_START,
        collision_gain: bool = False,
    ) -> None:
        for name, value in (('in_features', in_features), ('out_features', out_features)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f'ICLinear {name}={value!r} is not allowed; give a positive integer.'
                )
        super().__init__(in_features, out_features, bias, device, dtype)
        self._add_collision(collision_start, collision_gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features).

        Raises:
            ValueError: The input has another number of features.
        """
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ValueError(
                f'ICLinear got an input of shape {tuple(x.shape)}; its last dimension must be '
                f'{self.in_features}.'
            )
        rows = x.reshape(-1, self.in_features)
        sums = rows.sum(1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        v = nn.functional.linear(rows, self.weight, self.bias)
        out = collide(v, sums, self.collision_weight, self.offset(), self.collision_gain)
        return out.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        gain = ', collision_gain=True' if self.collision_gain is not None else ''
        return f'{super().extra_repr()}, collision_start={self.collision_start}{gain}'
