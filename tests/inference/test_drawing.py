"""Drawings: what they show, and that they never fail at odd sizes."""

import numpy as np
import pytest
from mmengine.structures import InstanceData

from revcol_backbone.inference.drawing import Legend, draw_instances, draw_labels, make_palette

CLASSES = ('background', 'a class with a rather long name', *map(str, range(60)))
PALETTE = make_palette(CLASSES)
SIZES = [(1, 1), (1, 300), (300, 1), (20, 30), (128, 128), (700, 1000)]


def one_instance(box, size, label=1, score=0.875):
    mask = np.zeros((1, *size), bool)
    mask[0, box[1] : box[3], box[0] : box[2]] = True
    return InstanceData(
        bboxes=np.array([box], np.float32),
        scores=np.array([score], np.float32),
        labels=np.array([label]),
        masks=mask,
    )


def gray(size):
    return np.full((*size, 3), 128, np.uint8)


@pytest.mark.parametrize('size', SIZES)
def test_instances_are_drawn_at_any_size(size):
    height, width = size
    boxes = [[0, 0, width, height], [-5, -5, width + 5, height + 5], [0, 0, 0, 0]]
    for box in boxes:
        drawing = draw_instances(gray(size), one_instance(box, size), CLASSES, PALETTE)
        assert drawing.shape == (*size, 3)


def test_a_box_has_the_color_of_its_class_and_is_drawn_where_it_is():
    size, box = (128, 128), [40, 50, 90, 100]
    drawing = draw_instances(gray(size), one_instance(box, size), CLASSES, PALETTE)
    color = PALETTE[1][::-1]
    assert (drawing[50:100, 40] == color).all()
    assert (drawing[99, 40:90] == color).all()
    changed = (drawing != 128).any(2)
    assert changed[50:100, 40:90].all()  # the mask is filled
    changed[50:100, 40:90] = False
    rows, _ = np.nonzero(changed)  # the name, above the box
    assert rows.min() >= 30
    assert rows.max() < 50


@pytest.mark.parametrize('box', [[0, 0, 30, 30], [100, 0, 128, 128], [0, 100, 128, 128]])
def test_a_name_stays_in_the_image(box):
    drawing = draw_instances(gray((128, 128)), one_instance(box, (128, 128), 2), CLASSES, PALETTE)
    plain = one_instance(box, (128, 128), 2)
    unnamed = draw_instances(gray((128, 128)), plain, [''] * len(CLASSES), PALETTE)
    assert (drawing != unnamed).any()
    text = (drawing == 0).all(2) | (drawing == 255).all(2)
    assert text[:, 1:-1].any()


def test_lines_are_wider_in_larger_images():
    def line_width(side):
        size, box = (side, side), [side // 4, side // 4, side // 2, side // 2]
        drawing = draw_instances(gray(size), one_instance(box, size), CLASSES, PALETTE)
        row = drawing[3 * side // 8, side // 4 : side // 2]
        return int(np.argmin((row == PALETTE[1][::-1]).all(1)))

    assert [line_width(side) for side in (128, 600, 3000)] == [1, 2, 10]


@pytest.mark.parametrize('size', SIZES)
def test_a_legend_beside_a_image_covers_nothing_and_its_size_follows_the_images(size):
    legend = Legend(CLASSES, PALETTE)
    few = np.zeros(size, int)
    many = np.arange(few.size).reshape(size) % len(CLASSES)
    pages = [legend.beside(draw_labels(gray(size), m, PALETTE), m) for m in (few, many)]
    for page, labels in zip(pages, (few, many), strict=True):
        overlay = draw_labels(gray(size), labels, PALETTE)
        assert np.array_equal(page[: size[0], : size[1]], overlay)
        assert page.shape[1] > size[1]
    assert pages[0].shape == pages[1].shape


@pytest.mark.parametrize('size', SIZES)
def test_a_legend_on_a_image_takes_half_of_its_height_at_most(size):
    labels = np.arange(size[0] * size[1]).reshape(size) % len(CLASSES)
    overlay = draw_labels(gray(size), labels, PALETTE)
    drawing = Legend(CLASSES, PALETTE).on(overlay, labels)
    assert drawing.shape == overlay.shape
    assert np.array_equal(drawing[(size[0] + 1) // 2 :], overlay[(size[0] + 1) // 2 :])


def test_a_legend_lists_the_largest_classes_first_in_their_colors():
    labels = np.zeros((200, 200), int)
    labels[:120] = 3
    page = Legend(CLASSES, PALETTE).beside(draw_labels(gray((200, 200)), labels, PALETTE), labels)
    column = page[:, 206]  # in the patches of color
    first = [np.flatnonzero((column == PALETTE[label][::-1]).all(1)) for label in (3, 0)]
    assert len(first[0]) == len(first[1]) > 0
    assert first[0].max() < first[1].min()


def test_a_background_is_gray_and_the_other_colors_differ():
    assert len(set(PALETTE[0].tolist())) == 1
    assert len({tuple(color) for color in PALETTE.tolist()}) == len(CLASSES)


def test_given_colors_are_kept_if_there_are_enough():
    given = [[1, 2, 3]] * len(CLASSES)
    assert make_palette(CLASSES, given).tolist() == given
    assert np.array_equal(make_palette(CLASSES, given[:3]), PALETTE)
    assert np.array_equal(make_palette(CLASSES, 'random'), PALETTE)
