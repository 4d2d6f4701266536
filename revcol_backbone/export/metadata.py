"""Metadata of an exported file: what its users must know about the model."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mmengine.model import BaseDataPreprocessor, BaseModel

from revcol_backbone.version import __version__


def describe_input_and_output(
    model: BaseModel, part: str, classes: Sequence[str] | None
) -> dict[str, str]:
    """Describe the input and output of an exported part, each value as JSON.

    - ``mean``, ``std``: Per-channel values for normalization; ``null`` for none.
    - ``channel_order``: ``"RGB"`` or ``"BGR"``, as the graph expects.
    - ``size_divisor``: Height and width are padded to a multiple of it, at the right and bottom.
    - ``pad_value``: Value of the padding, after normalization.
    - ``classes``: Class names, by index.
    - ``part``, ``revcol_backbone``: The exported part, and the version of this package.

    Args:
        model: A detector or segmentor with its data preprocessor.
        part: The part that is exported.
        classes: Class names, or ``None``.
    """
    preprocessor = model.data_preprocessor
    values = {
        'part': part,
        'mean': _channels(preprocessor, 'mean'),
        'std': _channels(preprocessor, 'std'),
        # Images are read in BGR; either kind of preprocessor may convert them.
        'channel_order': 'RGB' if _turns_to_rgb(preprocessor) else 'BGR',
        'size_divisor': _size_divisor(preprocessor),
        'pad_value': getattr(preprocessor, 'pad_val', getattr(preprocessor, 'pad_value', 0)),
        'classes': list(classes) if classes else None,
        'revcol_backbone': __version__,
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _channels(preprocessor: BaseDataPreprocessor, name: str) -> list[float] | None:
    if not getattr(preprocessor, '_enable_normalize', False):
        return None
    return getattr(preprocessor, name).flatten().tolist()


def _turns_to_rgb(preprocessor: BaseDataPreprocessor) -> bool:
    return bool(
        getattr(preprocessor, 'channel_conversion', False)
        or getattr(preprocessor, '_channel_conversion', False)
    )


def _size_divisor(preprocessor: BaseDataPreprocessor) -> int:
    """Return the divisor; mmseg pads in a test only if ``test_cfg`` says so."""
    if hasattr(preprocessor, 'test_cfg'):
        return (preprocessor.test_cfg or {}).get('size_divisor') or 1
    return getattr(preprocessor, 'pad_size_divisor', 1)
