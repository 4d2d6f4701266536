"""Loading published and own checkpoints into a RevCol backbone, whole or not at all."""

from __future__ import annotations

from mmengine.logging import print_log
from torch import nn

from revcol_backbone.checkpoints.reading import read_weights
from revcol_backbone.checkpoints.sources import is_url, locate_checkpoint
from revcol_backbone.checkpoints.state_dict import (
    HEADS,
    check_match,
    kernel_sizes,
    pad_kernels,
    select_backbone,
)


def load_pretrained(backbone: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Load the backbone weights of a checkpoint; nothing is changed unless all of them fit.

    Takes the published files as they are: the weights bare or under ``model`` or ``state_dict``,
    with ``module.`` or ``backbone.`` before each key, heads beside them. Kernels smaller than the
    backbone's are zero-padded, stored dtypes are converted. No code of the file is run.

    Args:
        backbone: A :class:`~revcol_backbone.RevCol`, on any device but ``meta``, in any dtype.
            Classifiers and decoders that it has for pre-training are left as they are.
        checkpoint: A path, or an ``http(s)`` address that is downloaded once.
        prefix: The prefix of the backbone's keys. By default ``backbone.`` where the file has it.

    Raises:
        FileNotFoundError: There is no such file; the message says where to get it.
        ConnectionError: The file could not be downloaded.
        ValueError: The file is not a checkpoint, is damaged or belongs to another network, or the
            backbone is on the meta device.
    """
    # A network for pre-training has heads of its own, which stay as they are.
    expected = {
        key: value for key, value in backbone.state_dict().items() if key.split('.')[0] not in HEADS
    }
    if any(tensor.is_meta for tensor in expected.values()):
        raise ValueError(
            f'{checkpoint} cannot be loaded into a backbone on the meta device, which holds no '
            'values; build it on the CPU or a GPU, or call `backbone.to_empty(device=...)` first.'
        )
    path = locate_checkpoint(checkpoint)
    try:
        weights = read_weights(path)
    except ValueError as error:
        if not is_url(checkpoint):
            raise
        raise ValueError(f'{error} It came from {checkpoint}: delete it and run again.') from None
    stored = select_backbone(weights, path, prefix)
    fitted = stored
    padded: list[str] = []
    if kernel_size := max(kernel_sizes(expected), default=0):
        fitted, padded = pad_kernels(stored, kernel_size)
    check_match(stored, fitted, expected, path)

    backbone.load_state_dict(fitted, strict=False)  # whole, as was just checked
    print_log(
        f'loaded {len(fitted)} tensors of {path} into {type(backbone).__name__}, left out '
        f'{len(weights) - len(stored)} of heads and other parts',
        logger='current',
    )
    if padded:
        smallest = min(stored[key].shape[-1] for key in padded)
        print_log(
            f'zero-padded {len(padded)} depthwise kernels of {path} from {smallest}x{smallest} '
            f'to {kernel_size}x{kernel_size}',
            logger='current',
        )
