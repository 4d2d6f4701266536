"""Cutting a picture that is larger than a model was made for into overlapping tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from revcol_backbone.revcol import SMALLEST_INPUT


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; right and bottom are excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)


@dataclass(frozen=True)
class Tiling:
    """Square tiles; as in mmseg's sliding test, the last ones are moved back into the picture.

    Args:
        size: Side of a tile in pixels, at least 32. A picture that is smaller is one tile.
        overlap: Pixels that neighbours share at least; as much as most objects are large, so that
            some tile sees each of them whole.

    Raises:
        ValueError: They are not allowed.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < SMALLEST_INPUT:
            raise ValueError(
                f'a tile of {self.size} pixels is not allowed; give at least {SMALLEST_INPUT}.'
            )
        if not 0 <= self.overlap < self.size:
            raise ValueError(
                f'tiles of {self.size} pixels cannot overlap by {self.overlap}; give 0 to '
                f'{self.size - 1}.'
            )

    def bands(self, height: int, width: int) -> Iterator[list[Window]]:
        """Cover a picture of this size: bands from top to bottom, each from left to right."""
        for top, bottom in self._intervals(height):
            yield [Window(left, top, right, bottom) for left, right in self._intervals(width)]

    def _intervals(self, length: int) -> list[tuple[int, int]]:
        if length <= self.size:
            return [(0, length)]
        last = length - self.size
        starts = [*range(0, last, self.size - self.overlap), last]
        return [(start, start + self.size) for start in starts]
