import mmcv.ops
import numpy as np
import pytest
import reference_operators as reference
import torch


def random_boxes(count, seed=0, whole=False):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 40, (count, 2))
    boxes = np.hstack([corners, corners + generator.uniform(1, 25, (count, 2))])
    boxes = boxes.round() if whole else boxes
    return boxes.astype(np.float32), generator.permutation(count).astype(np.float32) / count + 0.01


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('iou_threshold', [0.1, 0.3, 0.5, 0.7])
def test_nms_keeps_what_the_greedy_loop_keeps(offset, iou_threshold, device):
    boxes, scores = random_boxes(60)
    dets, kept = mmcv.ops.nms(
        torch.tensor(boxes, device=device),
        torch.tensor(scores, device=device),
        iou_threshold,
        offset,
    )
    expected = reference.nms(boxes, scores, iou_threshold, offset)
    assert kept.tolist() == expected
    assert dets.device.type == device.type
    torch.testing.assert_close(dets[:, 4].cpu(), torch.from_numpy(scores[expected]))


@pytest.mark.parametrize(
    ('offset', 'other'), [(0, [0, 0, 7, 10]), (1, [0, 0, 6, 9])], ids=['offset 0', 'offset 1']
)
def test_nms_keeps_a_box_whose_overlap_equals_the_threshold(offset, other, device):
    first = [0, 0, 10 - offset, 10 - offset]
    boxes = torch.tensor([first, other], dtype=torch.float32, device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert mmcv.ops.nms(boxes, scores, 0.7, offset)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes, scores, 0.69, offset)[1].tolist() == [0]


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_of_no_boxes_keeps_none(offset, device):
    dets, kept = mmcv.ops.nms(
        torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5, offset
    )
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.long


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_nms_takes_half_precision(dtype, device):
    boxes, scores = random_boxes(30, whole=True)
    boxes, scores = torch.tensor(boxes).to(dtype), torch.tensor(scores).to(dtype)
    expected = reference.nms(boxes.double().tolist(), scores.tolist(), 0.5)
    assert mmcv.ops.nms(boxes.to(device), scores.to(device), 0.5)[1].tolist() == expected


def test_nms_honours_score_threshold_and_maximum(device):
    boxes, scores = (torch.tensor(array, device=device) for array in random_boxes(40))
    every = mmcv.ops.nms(boxes, scores, 0.4, score_threshold=0.5)[1].tolist()
    assert every == mmcv.ops.nms(boxes, scores, 0.4)[1].tolist()[: len(every)]
    assert mmcv.ops.nms(boxes, scores, 0.4, max_num=3)[1].tolist() == every[:3]


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_lowers_scores_as_the_loop_does(method, offset):
    boxes, scores = random_boxes(40, seed=1)
    parameters = {'iou_threshold': 0.3, 'sigma': 0.5, 'min_score': 0.05}
    expected = reference.soft_nms(
        boxes.astype(float), scores.astype(float), method, **parameters, offset=offset
    )
    dets, kept = mmcv.ops.soft_nms(
        torch.tensor(boxes), torch.tensor(scores), **parameters, method=method, offset=offset
    )
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(dets[:, 4], [score for _, score in expected], rtol=1e-5)
    np.testing.assert_array_equal(dets[:, :4], boxes[kept])


def test_soft_nms_breaks_ties_by_moving_the_last_box_into_the_place_of_a_dropped_one():
    # Box 1 is dropped beside box 0; box 4, the last, takes its place before boxes 2 and 3.
    apart = [[100.0 * place, 0, 100 * place + 10, 10] for place in range(4)]
    boxes = torch.tensor([apart[0], apart[0], *apart[1:]])
    scores = torch.tensor([0.9, 0.8, 0.5, 0.5, 0.5])
    kept = mmcv.ops.soft_nms(boxes, scores, iou_threshold=0.5, method='naive')[1]
    assert kept.tolist() == [0, 4, 2, 3]


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_takes_empty_input_and_boxes_without_area(method):
    dets, kept = mmcv.ops.soft_nms(torch.zeros(0, 4), torch.zeros(0), method=method)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    points, scores = torch.ones(2, 4), torch.tensor([0.6, 0.7])
    dets, kept = mmcv.ops.soft_nms(points, scores, method=method)
    assert kept.tolist() == [1, 0]
    torch.testing.assert_close(dets[:, 4], scores[kept])


def test_nms_match_groups_boxes_by_what_suppresses_them():
    boxes, scores = random_boxes(40, seed=2)
    groups = mmcv.ops.nms_match(np.column_stack([boxes, scores]), 0.4)
    assert [group[0] for group in groups] == reference.nms(boxes, scores, 0.4)
    assert sorted(index for group in groups for index in group) == list(range(40))
    for kept, *suppressed in groups:
        assert sorted(suppressed, key=lambda index: -scores[index]) == suppressed
        for index in suppressed:
            assert reference.intersection_over_union(boxes[kept], boxes[index]) >= 0.4


@pytest.mark.parametrize('kind', ['nms', 'soft_nms'])
def test_batched_nms_treats_classes_apart(kind, device):
    boxes, scores = (torch.tensor(array, device=device) for array in random_boxes(50, seed=3))
    classes = torch.arange(50, device=device) % 3
    dets, kept = mmcv.ops.batched_nms(boxes, scores, classes, {'type': kind, 'iou_threshold': 0.4})
    apart = {}
    for number in range(3):
        members = (classes == number).nonzero().squeeze(1)
        member_dets, inner = getattr(mmcv.ops, kind)(boxes[members], scores[members], 0.4)
        apart |= dict(zip(members[inner].tolist(), member_dets[:, 4].tolist(), strict=True))
    assert set(kept.tolist()) == set(apart)
    np.testing.assert_allclose(
        dets[:, 4].cpu(), [apart[index] for index in kept.tolist()], rtol=1e-4
    )
    assert (dets[:-1, 4] >= dets[1:, 4]).all()
