import math

import pytest
import torch
from mmcv.ops import box_iou_rotated, nms_rotated
from shapely import affinity, box

from revcol_backbone.mmcv_ops import rotated_boxes

SQUARE = [5.0, 5.0, 2.0, 2.0, 0.0]
# Pairs of boxes, and their intersection over union.
KNOWN = {
    'the same': (SQUARE, SQUARE, 1),
    'the same after a quarter turn': (SQUARE, [5, 5, 2, 2, math.pi / 2], 1),
    'an eighth turn': (SQUARE, [5, 5, 2, 2, math.pi / 4], 1 / math.sqrt(2)),
    'half covered': (SQUARE, [6, 5, 2, 2, 0], 1 / 3),
    'one side in common': (SQUARE, [7, 5, 2, 2, 0], 0),
    'one corner in common': (SQUARE, [7, 7, 2, 2, 0], 0),
    'one within the other': (SQUARE, [5, 5, 1, 1, 0.3], 1 / 4),
    'far away': (SQUARE, [500, 5, 2, 2, 1], 0),
    'without width': (SQUARE, [5, 5, 0, 2, 0], 0),
    'both without area': ([5, 5, 0, 0, 0], [5, 5, 0, 0, 0], 0),
}


def draw(count: int, seed: int) -> torch.Tensor:
    """Boxes that mostly overlap, some of them with sides along the axes and whole sizes."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator, dtype=torch.float64) * 8 + 0.1
    boxes[::3] = boxes[::3].round().clamp(min=1)
    boxes[::3, 4] = boxes[::3, 4] * math.pi / 2
    return boxes


def polygon(x, y, width, height, angle):
    around = box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return affinity.rotate(around, angle, origin=(x, y), use_radians=True)


def overlap(first, second, mode='iou'):
    """The overlap of two boxes as polygons of shapely."""
    first, second = polygon(*first.tolist()), polygon(*second.tolist())
    common = first.intersection(second).area
    return common / (first.area if mode == 'iof' else first.area + second.area - common)


@pytest.mark.parametrize('name', KNOWN)
def test_overlaps_that_are_known(name):
    first, second, expected = KNOWN[name]
    pair = (torch.tensor([boxes], dtype=torch.float32) for boxes in (first, second))
    assert box_iou_rotated(*pair).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_overlaps_are_those_of_polygons(mode):
    first, second = draw(20, 0), draw(15, 1)
    found = box_iou_rotated(first, second, mode=mode)
    expected = [[overlap(one, other, mode) for other in second] for one in first]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    aligned = box_iou_rotated(first[:15], second, mode=mode, aligned=True)
    torch.testing.assert_close(aligned, found.diagonal())


def test_counterclockwise_angles_have_the_other_sign():
    first, second = draw(6, 2), draw(6, 3)
    mirrored = [boxes * torch.tensor([1.0, 1, 1, 1, -1]) for boxes in (first, second)]
    found = box_iou_rotated(*mirrored, clockwise=False)
    torch.testing.assert_close(found, box_iou_rotated(first, second))


def test_many_pairs_are_computed_in_parts(monkeypatch):
    first, second = draw(20, 4), draw(11, 5)
    expected = box_iou_rotated(first, second)
    monkeypatch.setattr(rotated_boxes, 'PAIRS_AT_ONCE', 7)
    assert torch.equal(box_iou_rotated(first, second), expected)


def test_no_boxes_have_no_overlaps():
    assert box_iou_rotated(torch.zeros(0, 5), draw(3, 0).float()).shape == (0, 3)


@pytest.mark.parametrize('with_labels', [False, True])
def test_nms_keeps_the_best_of_those_that_overlap(with_labels):
    boxes, scores = draw(60, 6), torch.rand(60, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3 if with_labels else None
    expected = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[index], boxes[kept]) < 0.2 for kept in expected):
            expected.append(index)
    dets, kept = nms_rotated(boxes, scores, 0.2, labels)
    assert 5 < len(expected) < 50
    assert kept.tolist() == expected
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_a_box_at_the_threshold_is_dropped():
    boxes = torch.tensor([[0.0, 0, 4, 4, 0], [0, 0, 2, 4, 0], [9, 9, 1, 1, 0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms_rotated(boxes, scores, 0.5)[1].tolist() == [0, 2]
    assert nms_rotated(boxes, scores, 0.51)[1].tolist() == [0, 1, 2]
