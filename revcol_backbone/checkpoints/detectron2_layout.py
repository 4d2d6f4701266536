"""Names of a Cascade Mask R-CNN's weights in MMDetection and in Detectron2, both ways.

The two libraries compute the same functions under other names, where the heads are the same: a
feature pyramid, an RPN of one convolution, box heads of convolutions and linear layers that regress
boxes for all classes together, and mask heads of convolutions. MMDetection has a mask head for each
stage of the cascade and averages them, Detectron2 has one, on the last stage's boxes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from revcol_backbone.checkpoints.reading import list_first

# Beginnings of keys in MMDetection and in Detectron2; {i+2} is the same number plus 2.
_NAMES = (
    ('backbone.', 'backbone.bottom_up.'),
    ('neck.lateral_convs.{i}.conv.', 'backbone.fpn_lateral{i+2}.'),
    ('neck.lateral_convs.{i}.bn.', 'backbone.fpn_lateral{i+2}.norm.'),
    ('neck.fpn_convs.{i}.conv.', 'backbone.fpn_output{i+2}.'),
    ('neck.fpn_convs.{i}.bn.', 'backbone.fpn_output{i+2}.norm.'),
    ('rpn_head.rpn_conv.', 'proposal_generator.rpn_head.conv.'),
    ('rpn_head.rpn_cls.', 'proposal_generator.rpn_head.objectness_logits.'),
    ('rpn_head.rpn_reg.', 'proposal_generator.rpn_head.anchor_deltas.'),
    ('roi_head.bbox_head.{i}.shared_convs.{j}.bn.', 'roi_heads.box_head.{i}.conv{j+1}.norm.'),
    ('roi_head.bbox_head.{i}.shared_convs.{j}.conv.', 'roi_heads.box_head.{i}.conv{j+1}.'),
    ('roi_head.bbox_head.{i}.shared_fcs.{j}.', 'roi_heads.box_head.{i}.fc{j+1}.'),
    ('roi_head.bbox_head.{i}.fc_cls.', 'roi_heads.box_predictor.{i}.cls_score.'),
    ('roi_head.bbox_head.{i}.fc_reg.', 'roi_heads.box_predictor.{i}.bbox_pred.'),
    ('roi_head.mask_head.convs.{j}.conv.', 'roi_heads.mask_head.mask_fcn{j+1}.'),
    ('roi_head.mask_head.upsample.', 'roi_heads.mask_head.deconv.'),
    ('roi_head.mask_head.conv_logits.', 'roi_heads.mask_head.predictor.'),
)
_NUMBER = re.compile(r'\{(\w)(?:\+(\d+))?\}')
_MASK_HEAD = re.compile(r'roi_head\.mask_head\.(\d+)\.')
_STAGE = re.compile(r'roi_head\.bbox_head\.(\d+)\.')


def to_detectron2(
    weights: Mapping[str, Tensor], source: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the weights of an MMDetection detector the names of Detectron2.

    Args:
        weights: The state dict of a Cascade Mask R-CNN.
        source: Its file, for messages.

    Returns:
        The state dict under Detectron2's names, and the keys that have no place there: the mask
        heads of all stages but the last.

    Raises:
        ValueError: A weight has no counterpart; nothing is converted.
    """
    for key, value in weights.items():
        if key.endswith('.fc_reg.weight') and len(value) != 4:
            raise ValueError(
                f'{source} regresses boxes for each class ({key} has {len(value)} rows instead of '
                '4), which the cascade of Detectron2 cannot; train with '
                '`reg_class_agnostic=True` in the box heads to convert a detector.'
            )
    stages = [int(match[1]) for key in weights if (match := _MASK_HEAD.match(key))]
    kept = f'roi_head.mask_head.{max(stages, default=0)}.'
    omitted = [key for key in weights if _MASK_HEAD.match(key) and not key.startswith(kept)]
    single = {
        key.replace(kept, 'roi_head.mask_head.'): value
        for key, value in weights.items()
        if key not in omitted
    }
    return _rename(single, _table(reverse=False), source, 'Detectron2'), omitted


def from_detectron2(weights: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Give the weights of a Detectron2 detector the names of MMDetection.

    Args:
        weights: The state dict of a Cascade Mask R-CNN; its mask head is taken for every stage.
        source: Its file, for messages.

    Returns:
        The state dict under MMDetection's names.

    Raises:
        ValueError: A weight has no counterpart; nothing is converted.
    """
    renamed = _rename(weights, _table(reverse=True), source, 'MMDetection')
    stages = sorted({int(match[1]) for key in renamed if (match := _STAGE.match(key))})
    prefix = 'roi_head.mask_head.'
    converted = {}
    for key, value in renamed.items():
        names = [key]
        if key.startswith(prefix):
            names = [f'{prefix}{stage}.{key.removeprefix(prefix)}' for stage in stages]
        converted.update(dict.fromkeys(names, value))
    return converted


def _rename(
    weights: Mapping[str, Tensor],
    table: list[tuple[re.Pattern, str]],
    source: Path,
    library: str,
) -> dict[str, Tensor]:
    renamed, unknown = {}, []
    for key, value in weights.items():
        for pattern, template in table:
            if match := pattern.match(key):
                numbers = {name: int(number) for name, number in match.groupdict().items()}
                renamed[_fill(template, numbers) + key[match.end() :]] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f'{source} holds weights that have no counterpart in {library} '
            f'({list_first(unknown)}), and nothing was converted; only Cascade Mask R-CNN with a '
            'feature pyramid can be.'
        )
    return renamed


def _table(reverse: bool) -> list[tuple[re.Pattern, str]]:
    """Patterns of one library's names, and templates of the other's."""
    table = []
    for names in _NAMES:
        own, other = reversed(names) if reverse else names
        offsets = {name: int(offset or 0) for name, offset in _NUMBER.findall(own)}
        pattern = _NUMBER.sub(lambda match: rf'(?P<{match[1]}>\d+)', own.replace('.', r'\.'))
        # Numbers are taken as they stand; the template adds the difference of both offsets.
        table.append((re.compile(pattern), _NUMBER.sub(partial(_shift, offsets), other)))
    return table


def _shift(offsets: Mapping[str, int], match: re.Match[str]) -> str:
    return f'{{{match[1]}+{int(match[2] or 0) - offsets[match[1]]}}}'


def _fill(template: str, numbers: Mapping[str, int]) -> str:
    return re.sub(
        r'\{(\w)\+(-?\d+)\}', lambda match: str(numbers[match[1]] + int(match[2])), template
    )
