"""Overlaps of boxes against the loop."""

from itertools import product

import mmcv.ops
import pytest
import reference_operators as reference
import torch


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('aligned', [True, False])
def test_overlaps_equal_the_loop(aligned, offset, device):
    torch.manual_seed(0)
    first, second = (10 * torch.rand(6, 4, dtype=torch.double) for _ in range(2))
    for boxes in (first, second):
        boxes[:, 2:] += boxes[:, :2]
    given = (first.to(device), second.to(device))
    found = mmcv.ops.bbox_overlaps(*given, 'iou', aligned, offset).cpu()
    over_first = mmcv.ops.bbox_overlaps(*given, 'iof', aligned, offset).cpu()
    for row, column in product(range(6), range(6)):
        if aligned and row != column:
            continue
        place = row if aligned else (row, column)
        boxes = first[row].tolist(), second[column].tolist()
        expected = reference.intersection_over_union(*boxes, offset)
        assert found[place].item() == pytest.approx(expected)
        areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in boxes]
        intersection = expected * sum(areas) / (1 + expected)
        assert over_first[place].item() == pytest.approx(intersection / areas[0])
