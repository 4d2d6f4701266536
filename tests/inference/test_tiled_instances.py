"""What two tiles detected becomes one object, or stays two."""

import pytest
import torch
from mmengine.structures import InstanceData

from revcol_backbone.inference.tiled_instances import merge_instances
from revcol_backbone.inference.tiling import Tiling, Window

HEIGHT, WIDTH = 100, 160
LEFT, RIGHT = Window(0, 0, 100, 100), Window(60, 0, 160, 100)


def see(window, *objects, masks=True):
    """What a tile shows of objects ``(box, label, score)`` given in the image's coordinates."""
    boxes, kept, seen = [], [], []
    for box, label, score in objects:
        left, top, right, bottom = box
        left, right = (min(max(x, window.left), window.right) - window.left for x in (left, right))
        top, bottom = (min(max(y, window.top), window.bottom) - window.top for y in (top, bottom))
        if left < right and top < bottom:
            mask = torch.zeros(window.bottom - window.top, window.right - window.left).bool()
            mask[top:bottom, left:right] = True
            boxes.append([left, top, right, bottom])
            kept.append((label, score))
            seen.append(mask)
    instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4).float(),
        labels=torch.tensor([label for label, _ in kept]).long(),
        scores=torch.tensor([score for _, score in kept]).float(),
    )
    if masks:
        size = window.bottom - window.top, window.right - window.left
        instances.masks = torch.stack(seen) if seen else torch.zeros(0, *size).bool()
    return instances


def merge(left, right):
    return merge_instances([see(LEFT, *left), see(RIGHT, *right)], [LEFT, RIGHT], HEIGHT, WIDTH)


def boxes_of(merged):
    return sorted(merged.bboxes.int().tolist())


def test_an_object_that_both_tiles_saw_whole_is_one_with_the_higher_score():
    box = [65, 20, 90, 50]
    merged = merge([(box, 0, 0.5)], [(box, 0, 0.75)])
    assert boxes_of(merged) == [box]
    assert merged.scores.tolist() == [0.75]


def test_the_part_that_a_border_cut_gives_way_to_the_whole_whatever_their_scores():
    box = [30, 20, 90, 50]
    merged = merge([(box, 0, 0.5)], [(box, 0, 0.9)])  # the right tile sees it from 60
    assert boxes_of(merged) == [box]
    assert merged.scores.tolist() == [0.5]
    assert merged.masks.sum() == 60 * 30


def test_parts_of_an_object_that_no_tile_saw_whole_are_united():
    box = [20, 20, 150, 60]
    merged = merge([(box, 1, 0.5)], [(box, 1, 0.75)])
    assert boxes_of(merged) == [box]
    assert (merged.labels.tolist(), merged.scores.tolist()) == ([1], [0.75])
    expected = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    expected[0, 20:60, 20:150] = True
    assert torch.equal(merged.masks, expected)


def test_an_object_is_followed_over_many_tiles():
    windows = [window for band in Tiling(40, 10).bands(100, 160) for window in band]
    box = [5, 5, 155, 95]
    merged = merge_instances([see(w, (box, 0, 0.5)) for w in windows], windows, HEIGHT, WIDTH)
    assert boxes_of(merged) == [box]
    assert merged.masks.sum() == 150 * 90


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (([65, 20, 90, 50], 0, 0.5), ([65, 20, 90, 50], 1, 0.5)),
        (([62, 20, 98, 60], 0, 0.5), ([70, 30, 80, 40], 0, 0.9)),
        (([30, 20, 59, 50], 0, 0.5), ([101, 20, 130, 50], 0, 0.5)),
        (([30, 20, 75, 50], 0, 0.5), ([76, 20, 130, 50], 0, 0.5)),
    ],
    ids=['of two classes', 'one before the other', 'far apart', 'side by side'],
)
def test_different_objects_stay(one, other):
    merged = merge([one, other], [one, other])
    assert boxes_of(merged) == sorted([one[0], other[0]])


def test_what_one_tile_tells_apart_is_not_merged():
    first, second = ([62, 20, 90, 50], 0, 0.9), ([66, 20, 94, 50], 0, 0.8)
    assert boxes_of(merge([first, second], [])) == [first[0], second[0]]


def test_the_surest_comes_first():
    merged = merge([([5, 5, 20, 20], 0, 0.5)], [([120, 5, 140, 20], 1, 0.75)])
    assert merged.scores.tolist() == [0.75, 0.5]


def test_nothing_and_boxes_without_masks_are_merged_too():
    merged = merge([], [])
    assert (merged.bboxes.shape, merged.masks.shape) == ((0, 4), (0, HEIGHT, WIDTH))
    box = [20, 20, 150, 60]
    tiles = [see(window, (box, 0, 0.5), masks=False) for window in (LEFT, RIGHT)]
    merged = merge_instances(tiles, [LEFT, RIGHT], HEIGHT, WIDTH)
    assert boxes_of(merged) == [box]
    assert 'masks' not in merged
