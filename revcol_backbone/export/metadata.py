"""What a user of an exported file has to know of the model, stored in the file itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

from torch import nn

from revcol_backbone.version import __version__


def describe_input_and_output(
    model: nn.Module, part: str, classes: Sequence[str] | None
) -> dict[str, str]:
    """Metadata by name, each value in JSON.

    - ``mean``, ``std``: Of the three channels, to subtract and to divide by; ``null`` for none.
    - ``channel_order``: ``"RGB"`` or ``"BGR"``, as the graph takes them.
    - ``size_divisor``: To what multiple height and width are padded at the right and the bottom.
    - ``pad_value``: With what, after the normalization.
    - ``classes``: The names of the classes, by index.
    - ``part``, ``revcol_backbone``: What was exported, and the version of this package.

    Args:
        model: A detector or segmentor with its data preprocessor.
        part: The part that is exported.
        classes: The names of the classes, or ``None``.
    """
    preprocessor = model.data_preprocessor
    values = {
        'part': part,
        'mean': _channels(preprocessor, 'mean'),
        'std': _channels(preprocessor, 'std'),
        # Images are read in BGR; either kind of preprocessor may turn them.
        'channel_order': 'RGB' if _turns_to_rgb(preprocessor) else 'BGR',
        'size_divisor': _size_divisor(preprocessor),
        'pad_value': getattr(preprocessor, 'pad_val', getattr(preprocessor, 'pad_value', 0)),
        'classes': list(classes) if classes else None,
        'revcol_backbone': __version__,
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _channels(preprocessor: nn.Module, name: str) -> list[float] | None:
    if not getattr(preprocessor, '_enable_normalize', False):
        return None
    return getattr(preprocessor, name).flatten().tolist()


def _turns_to_rgb(preprocessor: nn.Module) -> bool:
    return bool(
        getattr(preprocessor, 'channel_conversion', False)
        or getattr(preprocessor, '_channel_conversion', False)
    )


def _size_divisor(preprocessor: nn.Module) -> int:
    """mmseg pads in a test as ``test_cfg`` says, and otherwise not at all."""
    if hasattr(preprocessor, 'test_cfg'):
        return (preprocessor.test_cfg or {}).get('size_divisor') or 1
    return getattr(preprocessor, 'pad_size_divisor', 1)
