"""Names of weights that changed between the major versions of mmdet and mmseg.

Two-stage detectors (FPN, RPN, ConvFC and cascade box heads, FCN mask heads, HTC) and segmentors
with UPerNet, FPN and FCN heads have the same names and shapes in mmdet 2.x and 3.x, and in mmseg
0.x and 1.x. Mask2Former's transformers were rewritten: lists of attentions and feed-forward
networks became single modules with names (mmdet pull request 9515, mmseg pull request 2532).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

_DECODER = r'(.*\btransformer_decoder\.layers\.\d+)'
_ENCODER = r'(.*\bpixel_decoder\.encoder\.layers\.\d+)'
# In Mask2Former's decoder the attention to the image comes first.
_RENAMED = tuple(
    (re.compile(old), new)
    for old, new in (
        (rf'{_DECODER}\.attentions\.0\.(.*)', r'\1.cross_attn.\2'),
        (rf'{_DECODER}\.attentions\.1\.(.*)', r'\1.self_attn.\2'),
        (rf'{_DECODER}\.ffns\.0\.(.*)', r'\1.ffn.\2'),
        (rf'{_ENCODER}\.attentions\.0\.(.*)', r'\1.self_attn.\2'),
        (rf'{_ENCODER}\.ffns\.0\.(.*)', r'\1.ffn.\2'),
    )
)


def rename_old_keys(
    weights: Mapping[str, Any], expected: Container[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Give the weights of an older major version the names of the installed one.

    Args:
        weights: A state dict.
        expected: The keys of the model; a weight that has one of them keeps it, and one whose new
            name is none of them keeps its old one.

    Returns:
        The state dict with new names, and the new name of each that changed.
    """
    renamed = {}
    for key in weights:
        if key in expected:
            continue
        new = next((old.sub(name, key) for old, name in _RENAMED if old.fullmatch(key)), key)
        if new != key and new in expected and new not in weights:
            renamed[key] = new
    return {renamed.get(key, key): value for key, value in weights.items()}, renamed
