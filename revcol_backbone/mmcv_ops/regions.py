"""Checks of regions of interest, which kernels on CPUs read without looking."""

import torch
from torch import Tensor

# A bin of so many samples is 4096 cells wide and high: no feature map has regions of this size.
LARGEST_BIN = 2**24


def check_regions(operator: str, rois: Tensor, images: int) -> None:
    """Refuse regions that would crash the process; on GPUs nothing is checked, to save the wait.

    Args:
        operator: Name for the message.
        rois: (R, 5) as image index, x1, y1, x2, y2.
        images: Images in the batch.

    Raises:
        ValueError: A coordinate is NaN or infinite, or there is no such image.
    """
    if rois.is_cuda or not len(rois):
        return
    finite = rois.isfinite().all(dim=1)
    if not finite.all():
        index = int(finite.logical_not().nonzero()[0])
        raise ValueError(
            f'{operator} got a region that is not finite, the first at index {index}: '
            f'{rois[index].tolist()}; the training has probably diverged.'
        )
    lowest, highest = rois[:, 0].aminmax()
    if lowest < 0 or highest >= images:
        raise ValueError(
            f'{operator} got regions of images {int(lowest)} to {int(highest)}; the batch has '
            f'images 0 to {images - 1}.'
        )


def check_bins(operator: str, bin_size: Tensor) -> None:
    """Refuse regions too large to be sampled once per feature cell.

    Args:
        operator: Name for the message.
        bin_size: (R, 2) sizes of the regions' bins in feature cells.

    Raises:
        ValueError: A bin has more than 2^24 cells.
    """
    if bin_size.is_cuda or not len(bin_size):
        return
    samples = bin_size.double().ceil().clamp(min=0).prod(dim=1)
    if samples.max() > LARGEST_BIN:
        index = int(samples.argmax())
        height, width = bin_size[index].tolist()
        raise ValueError(
            f'{operator} got a region, at index {index}, whose bins are {height:g} x {width:g} '
            'feature cells; the training has probably diverged, or set sampling_ratio.'
        )


def bins_of(
    rois: Tensor, spatial_scale: float, size: tuple[int, int], aligned: bool
) -> tuple[Tensor, Tensor]:
    """Place the bins of RoIAlign.

    Args:
        rois: (R, 5) as image index, x1, y1, x2, y2.
        spatial_scale: Feature cells per unit of ``rois``.
        size: Bins per region, vertically and horizontally.
        aligned: Whether to move regions by half a cell. Without it (legacy), they are at least
            one cell wide and high.

    Returns:
        Start of each region and size of its bins, in feature cells, both (R, 2) as y, x.
    """
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    start, end = corners[:, [1, 0]], corners[:, [3, 2]]
    extent = end - start if aligned else (end - start).clamp(min=1)
    return start, extent / extent.new_tensor(size)


def samples_per_bin(bin_size: Tensor, sampling_ratio: int) -> Tensor:
    """Samples of each region's bins, (R, 2) int64: ``sampling_ratio``, or with 0 one per cell."""
    if sampling_ratio > 0:
        return torch.full_like(bin_size, sampling_ratio).long()
    return bin_size.ceil().long()


def neighbors(position: Tensor, length: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """The two cells around a position on one axis, the lower first, with their bilinear weights."""
    position = position.clamp(0, length - 1)
    low = position.floor()
    weight = position - low
    return (low.long(), 1 - weight), ((low.long() + 1).clamp(max=length - 1), weight)
