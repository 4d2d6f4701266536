"""RoIPool and deformable RoI pooling by hand-computed examples, loops and finite differences."""

import mmcv.ops
import pytest
import torch

REGIONS = [[0, 1.0, 2.0, 9.0, 7.0], [1, -4.0, -3.0, 6.0, 30.0], [0, 60.0, 60.0, 70.0, 80.0]]


def features():
    torch.manual_seed(0)
    return torch.randn(2, 3, 8, 10, dtype=torch.double)


def regions():
    return torch.tensor(REGIONS, dtype=torch.double)


def test_roi_pool_takes_the_largest_of_whole_cells():
    plane = torch.arange(16.0).view(1, 1, 4, 4)
    # Corners are inclusive: a region of 3 x 3 cells in 2 x 2 bins, which share the middle cells.
    output = mmcv.ops.roi_pool(plane, torch.tensor([[0, 0.0, 0.0, 2.0, 2.0]]), 2, 1.0)
    assert output.tolist() == [[[[5, 6], [9, 10]]]]


def test_roi_pool_gives_zeros_outside_and_for_regions_without_area():
    boxes = torch.tensor([[0, 50.0, 50.0, 60.0, 60.0], [0, 5.0, 5.0, 3.0, 3.0]], dtype=torch.double)
    assert not mmcv.ops.roi_pool(features(), boxes, 2, 1.0).any()


def test_gradients_of_roi_pool_equal_finite_differences():
    given = features().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda values: mmcv.ops.roi_pool(values, regions(), (3, 2), 0.6), given, fast_mode=True
    )


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_deformable_pooling_without_offsets_is_roi_align(sampling_ratio, device):
    values, boxes = features().to(device), regions().to(device)
    pool = mmcv.ops.DeformRoIPool((3, 2), 0.6, sampling_ratio)
    expected = mmcv.ops.roi_align(values, boxes, (3, 2), 0.6, sampling_ratio, 'avg', True)
    torch.testing.assert_close(pool(values, boxes), expected)
    torch.testing.assert_close(pool(values, boxes, values.new_zeros(3, 2, 3, 2)), expected)


def test_offsets_move_the_bins():
    # By gamma times the region's size: 0.1 x 10 cells to the right, 0.1 x 5 down.
    boxes = torch.tensor([[0, 2.0, 1.0, 7.0, 6.0]], dtype=torch.double)
    offset = torch.stack([torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 1.0)], dim=1).double()
    moved = boxes + torch.tensor([0, 1.0, 0.5, 1.0, 0.5])
    found = mmcv.ops.deform_roi_pool(features(), boxes, offset, 2, 1.0, 2, 0.1)
    expected = mmcv.ops.roi_align(features(), moved, 2, 1.0, 2, 'avg', True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_gradients_of_deformable_pooling_equal_finite_differences(sampling_ratio):
    torch.manual_seed(1)
    inside = torch.tensor([[0, 2.0, 2.0, 7.0, 5.0], [1, 1.1, 1.3, 6.2, 4.9]], dtype=torch.double)
    offset = 0.5 * torch.randn(2, 2, 3, 2, dtype=torch.double)

    def pooled(values, moves):
        return mmcv.ops.deform_roi_pool(values, inside, moves, (3, 2), 1.0, sampling_ratio, 0.1)

    given = [features().requires_grad_(), offset.requires_grad_()]
    assert torch.autograd.gradcheck(pooled, given, fast_mode=True)


def test_pooling_in_parts_gives_the_same(monkeypatch):
    from revcol_backbone.mmcv_ops import deform_roi_pool

    pool = mmcv.ops.DeformRoIPool(3, 0.6)
    whole = pool(features(), regions())
    monkeypatch.setattr(deform_roi_pool, 'SAMPLES_AT_ONCE', 1)
    assert torch.equal(pool(features(), regions()), whole)


@pytest.mark.parametrize(('name', 'pool'), [('RoIPool', 'RoIPool'), ('DeformRoIPool',) * 2])
def test_regions_that_are_not_finite_are_one_sentence(name, pool):
    boxes = regions()
    boxes[1, 2] = float('nan')
    with pytest.raises(ValueError, match=f'{name} got a region that is not finite'):
        getattr(mmcv.ops, pool)((3, 2))(features(), boxes)
