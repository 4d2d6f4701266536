"""The operators beside mmcv-lite against mmcv's own CUDA kernels, value by value.

    bash tests/peers/run.sh mmcv

Not part of the suite: it needs mmcv's source distribution (``MMCV_SOURCE``) and a C++ compiler.
Everything is compared in double precision; what remains are constants that the kernels hold in
float32, and their single-precision ``expf``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from revcol_backbone.mmcv_ops.extension import OPERATORS
from tests.peers.mmcv_kernels import Kernels, build

GEOMETRIES = [  # stride, padding, dilation, groups, deformable groups
    (1, 1, 1, 1, 1),
    (2, 1, 1, 2, 1),
    (1, 2, 2, 1, 2),
    (2, 0, 1, 2, 4),
]
# Inside, over the border, far outside, tiny, without area, negative.
REGIONS = [
    [0, 1.0, 2.0, 9.0, 7.0],
    [1, -4.0, -3.0, 6.0, 30.0],
    [0, 60.0, 60.0, 70.0, 80.0],
    [1, 5.2, 5.1, 5.6, 5.9],
    [0, 4.0, 4.0, 4.0, 4.0],
    [1, 7.0, 6.0, 3.0, 2.0],
]
SCALE = 0.5


@pytest.fixture(scope='module')
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return build(Path(os.environ['MMCV_SOURCE']), tmp_path_factory.mktemp('kernels'))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.double)


def zeros(*shape: int, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def offsets(kind: str, shape: tuple[int, ...]) -> Tensor:
    """Offsets of a deformable convolution; an input of 6 x 5 is sampled at its very borders."""
    drawn = 1.5 * random(*shape)
    if kind == 'zero':
        return drawn * 0
    if kind == 'whole':
        return torch.randint(-8, 9, shape).double()
    if kind == 'infinite':
        drawn[torch.rand(shape) < 0.2] = float('inf')
        drawn[torch.rand(shape) < 0.2] = float('-inf')
    return drawn * 1e6 if kind == 'huge' else drawn


class Convolution:
    """A deformable convolution of random tensors in mmcv's kernels, image by image."""

    def __init__(self, kernels: Kernels, geometry: tuple[int, ...], kind: str, larger: int) -> None:
        self.kernels = kernels
        stride, padding, dilation, self.group, self.deformable = geometry
        self.size = tuple((side + 2 * padding - 2 * dilation - 1) // stride + 1 for side in (6, 5))
        given = tuple(side + larger for side in self.size)
        self.input = random(2, 4, 6, 5)
        self.weight = random(2, 4 // self.group, 3, 3)
        self.offset = offsets(kind, (2, 18 * self.deformable, *given))
        self.mask = torch.rand(2, 9 * self.deformable, *given, dtype=torch.double)
        self.gradient = random(2, 2, *self.size)
        self.window = (3, 3, padding, padding, stride, stride, dilation, dilation)
        self.by_name = {'kW': 3, 'kH': 3, 'dW': stride, 'dH': stride, 'padW': padding}
        self.by_name |= {'padH': padding, 'dilationW': dilation, 'dilationH': dilation}
        self.by_name |= {'group': self.group, 'deformable_group': self.deformable}
        self.modulated = (3, 3, stride, stride, padding, padding, dilation, dilation)
        self.modulated += (self.group, self.deformable)

    def columns(self, image: int, *mask: Tensor) -> Tensor:
        columns = zeros(4 * 9, *self.size)
        name = 'modulated_im2col' if mask else 'deform_im2col'
        self.kernels(
            *(name, columns.numel() // 9, self.input[image], self.offset[image], *mask, 6, 5),
            *(*self.window, 4 // self.deformable, 1, 4, self.deformable, *self.size, columns),
        )
        return columns.view(self.group, -1, self.size[0] * self.size[1])

    def output(self, image: int, *mask: Tensor) -> Tensor:
        weight = self.weight.view(self.group, 2 // self.group, -1)
        return (weight @ self.columns(image, *mask)).view(2, *self.size)

    def gradients(self, image: int, *mask: Tensor) -> tuple[Tensor, ...]:
        """Of input, weight, offset and, with one, of the mask."""
        gradient = self.gradient[image].view(self.group, 2 // self.group, -1)
        weight = (gradient @ self.columns(image, *mask).mT).view(self.weight.shape)
        columns = self.weight.view(self.group, 2 // self.group, -1).mT @ gradient
        columns = columns.contiguous()
        found = [zeros(4, 6, 5), zeros(*self.offset.shape[1:])]
        found += [zeros(*given.shape) for given in mask]
        place = (4, 6, 5, *self.window, 4 // self.deformable, 1)
        name = 'modulated' if mask else 'deform'
        sizes = (self.deformable, *self.size)
        self.kernels(
            *(f'{name}_col2im', columns.numel(), columns, self.offset[image], *mask),
            *(*place, *sizes, found[0]),
        )
        points = 18 * self.deformable
        by_cell = (*place[:-2], 9 * place[-2], 1)
        self.kernels(
            *(f'{name}_col2im_coord', points * self.size[0] * self.size[1], columns),
            *(self.input[image], self.offset[image], *mask, *by_cell, points, *sizes, *found[1:]),
        )
        return found[0], weight, *found[1:]


every_geometry = pytest.mark.parametrize('geometry', GEOMETRIES)
every_kind = pytest.mark.parametrize('kind', ['near', 'zero', 'whole', 'infinite', 'huge'])


@every_geometry
@every_kind
def test_deform_conv(kernels, geometry, kind):
    case = Convolution(kernels, geometry, kind, larger=0)
    none = zeros(0)
    output = zeros(2, 2, *case.size)
    OPERATORS['deform_conv_forward'](
        *(case.input, case.weight, case.offset, output, none, none), **case.by_name, im2col_step=2
    )
    found = [torch.zeros_like(tensor) for tensor in (case.input, case.weight, case.offset)]
    OPERATORS['deform_conv_backward_input'](
        *(case.input, case.offset, case.gradient, found[0], found[2], case.weight, none),
        **case.by_name,
        im2col_step=2,
    )
    OPERATORS['deform_conv_backward_parameters'](
        *(case.input, case.offset, case.gradient, found[1], none, none),
        **case.by_name,
        scale=1.0,
        im2col_step=2,
    )
    weight = 0
    for image in range(2):
        assert_equal(output[image], case.output(image))
        expected = case.gradients(image)
        assert_equal(found[0][image], expected[0])
        assert_equal(found[2][image], expected[2])
        weight = weight + expected[1]
    assert_equal(found[1], weight)


@every_geometry
@every_kind
@pytest.mark.parametrize('larger', [0, 3])
def test_modulated_deform_conv(kernels, geometry, kind, larger):
    case = Convolution(kernels, geometry, kind, larger)
    none, bias = zeros(0), random(2)
    output = zeros(2, 2, *case.size)
    given = (case.input, case.weight, bias, none, case.offset, case.mask)
    OPERATORS['modulated_deform_conv_forward'](*given, output, none, *case.modulated, True)
    found = [torch.zeros_like(given[index]) for index in (0, 1, 2, 4, 5)]
    OPERATORS['modulated_deform_conv_backward'](
        *given, none, *found, case.gradient, *case.modulated, True
    )
    weight = 0
    for image in range(2):
        mask = case.mask[image]
        assert_equal(output[image], case.output(image, mask) + bias[:, None, None])
        expected = case.gradients(image, mask)
        assert_equal(found[0][image], expected[0])
        assert_equal(found[3][image], expected[2])
        assert_equal(found[4][image], expected[3])
        weight = weight + expected[1]
    assert_equal(found[1], weight)
    assert_equal(found[2], case.gradient.sum((0, 2, 3)))


@pytest.mark.parametrize('sampling_ratio', [0, 1, 3])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('pool_mode', [0, 1])
def test_roi_align(kernels, sampling_ratio, aligned, pool_mode):
    features, rois = random(2, 3, 8, 10), torch.tensor(REGIONS, dtype=torch.double)
    shape = (len(rois), 3, 3, 2)
    settings = (3, 2, SCALE, sampling_ratio, pool_mode, aligned)
    results = []
    gradient = random(*shape)
    for compute in ('ours', 'kernels'):
        output, rows, columns, update = (*(zeros(*shape) for _ in range(3)), zeros(2, 3, 8, 10))
        if compute == 'ours':
            OPERATORS['roi_align_forward'](features, rois, output, rows, columns, *settings)
            OPERATORS['roi_align_backward'](gradient, rois, rows, columns, update, *settings)
            # The kernel marks empty bins by the lowest float32 in every precision.
            output = output.clamp(min=torch.finfo(torch.float).min)
        else:
            size = (3, 8, 10)
            places = (output, rows, columns)
            kernels('roi_align', output.numel(), features, rois, *places, *settings, *size)
            given = (gradient, rois, rows, columns, update)
            kernels('roi_align_backward', output.numel(), *given, *settings, *size)
        results.append((output, update))
    for found, expected in zip(*results, strict=True):
        assert_equal(found, expected)


def test_roi_pool(kernels):
    features, rois = random(2, 3, 8, 10), torch.tensor(REGIONS, dtype=torch.double)
    shape = (len(rois), 3, 3, 2)
    gradient = random(*shape)
    found = zeros(*shape), zeros(*shape, dtype=torch.int32), torch.zeros_like(features)
    expected = tuple(tensor.clone() for tensor in found)
    expected[1].fill_(-1)
    OPERATORS['roi_pool_forward'](features, rois, *found[:2], 3, 2, SCALE)
    OPERATORS['roi_pool_backward'](gradient, rois, *found[1:], 3, 2, SCALE)
    kernels('roi_pool', gradient.numel(), features, rois, *expected[:2], 3, 2, SCALE, 3, 8, 10)
    kernels('roi_pool_backward', gradient.numel(), gradient, rois, *expected[1:], 3, 2, 3, 8, 10)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('sampling_ratio', [0, 1, 3])
@pytest.mark.parametrize('moved', [True, False])
def test_deform_roi_pool(kernels, sampling_ratio, moved):
    features, rois = random(2, 3, 8, 10), torch.tensor(REGIONS, dtype=torch.double)
    offset = 3 * random(len(rois), 2, 3, 2) if moved else zeros(0)
    gradient = random(len(rois), 3, 3, 2)
    settings = (3, 2, SCALE, sampling_ratio, 0.1)
    found = zeros(*gradient.shape), torch.zeros_like(features), torch.zeros_like(offset)
    expected = tuple(tensor.clone() for tensor in found)
    OPERATORS['deform_roi_pool_forward'](features, rois, offset, found[0], *settings)
    OPERATORS['deform_roi_pool_backward'](gradient, features, rois, offset, *found[1:], *settings)
    count, pointer = gradient.numel(), offset if moved else None
    size = (3, 8, 10)
    kernels('deform_roi_pool', count, features, rois, pointer, expected[0], *settings, *size)
    given = (gradient, features, rois, pointer, *expected[1:])
    kernels('deform_roi_pool_backward', count, *given, *settings, *size)
    for ours, theirs in zip(found, expected, strict=True):
        # Regions without samples divide by 0 in the kernel's backward pass and then add nothing.
        assert_equal(ours, theirs)


@pytest.mark.parametrize(('kernel_size', 'padding'), [(1, 0), (3, 1), (3, 0), (5, 2)])
def test_masked_convolution(kernels, kernel_size, padding):
    features = random(1, 3, 6, 5)
    places = (torch.rand(6, 5) < 0.4).nonzero()
    rows, columns = (places[:, axis].contiguous() for axis in range(2))
    found, expected = (zeros(3 * kernel_size**2, len(places)) for _ in range(2))
    window = (kernel_size, kernel_size, padding, padding)
    OPERATORS['masked_im2col_forward'](features, rows, columns, found, *window)
    given = (3 * len(places), features, 6, 5, *window, rows, columns, len(places), expected)
    kernels('masked_im2col', *given)
    assert torch.equal(found, expected)

    values = random(2, len(places))
    images = zeros(1, 2, 6, 5), zeros(1, 2, 6, 5)
    OPERATORS['masked_col2im_forward'](values, rows, columns, images[0], 6, 5, 2)
    given = (values.numel(), values, 6, 5, 2, rows, columns, len(places), images[1])
    kernels('masked_col2im', *given)
    assert torch.equal(*images)


@pytest.mark.parametrize('mask', [(3, 3), (5, 7), (9, 11), (13, 9)])
@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_psamask(kernels, kind, mask):
    pixels = mask[0] * mask[1]
    half = tuple((side - 1) // 2 for side in mask)
    given, gradient = random(2, pixels, 5, 6), random(2, 30, 5, 6)
    found, expected = ((zeros(2, 30, 5, 6), zeros(2, pixels, 5, 6)) for _ in range(2))
    settings = (['collect', 'distribute'].index(kind), 2, 5, 6, *mask, *half)
    OPERATORS['psamask_forward'](given, found[0], *settings)
    OPERATORS['psamask_backward'](gradient, found[1], *settings)
    kernels(f'psamask_{kind}', 60, *settings[2:], given, expected[0])
    kernels(f'psamask_{kind}_backward', 60, *settings[2:], gradient, expected[1])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ('kernel_size', 'groups', 'scale'), [(1, 1, 1), (3, 2, 2), (5, 1, 2), (5, 4, 3)]
)
@pytest.mark.parametrize('name', ['carafe', 'carafe_naive'])
def test_carafe(kernels, name, kernel_size, groups, scale):
    features, masks = random(2, 4, 5, 6), random(2, groups * kernel_size**2, 5 * scale, 6 * scale)
    output = zeros(2, 4, 5 * scale, 6 * scale)
    gradient = random(*output.shape)
    found = [output, torch.zeros_like(features), torch.zeros_like(masks)]
    expected = [tensor.clone() for tensor in found]
    sizes = (kernel_size, groups, scale)
    between, unused = features, []
    if name == 'carafe':
        between, unused = torch.zeros_like(features), [zeros(0)] * 4
        OPERATORS['carafe_forward'](features, masks, between, *unused[:2], found[0], *sizes)
    else:
        OPERATORS['carafe_naive_forward'](features, masks, found[0], *sizes)
    OPERATORS[f'{name}_backward'](gradient, between, masks, *unused, *found[1:], *sizes)
    size = (4, 5 * scale, 6 * scale)
    kernels('carafe', output.numel(), features, masks, expected[0], *sizes, *size)
    given = (gradient, features, masks, *expected[1:])
    kernels('carafe_backward', output.numel(), *given, *sizes, *size)
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)


@pytest.mark.parametrize('mode', [0, 1])
@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps(kernels, mode, aligned, offset):
    first, second = (10 * torch.rand(7, 4, dtype=torch.double) for _ in range(2))
    for boxes in (first, second):
        boxes[:, 2:] += boxes[:, :2]
    found, expected = (zeros(7) if aligned else zeros(7, 7) for _ in range(2))
    OPERATORS['bbox_overlaps'](first, second, found, mode, aligned, offset)
    kernels('bbox_overlaps', first, second, expected, 7, 7, mode, aligned, offset)
    assert_equal(found, expected, 1e-5)


@pytest.mark.parametrize('mode', [0, 1])
def test_box_iou_rotated(kernels, mode):
    # Without sides that coincide, where the kernel loses corners of the intersection.
    first, second = (10 * torch.rand(40, 5, dtype=torch.double) for _ in range(2))
    second[:4] = first[:4]
    found, expected = zeros(1600), zeros(1600)
    OPERATORS['box_iou_rotated'](first, second, found, mode, aligned=False)
    kernels('box_iou_rotated', 40, 40, first, second, expected, mode)
    assert_equal(found, expected)


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('gamma', [0.5, 2.0])
def test_sigmoid_focal_loss(kernels, gamma, weighted):
    logits, target = 3 * random(20, 4), torch.randint(0, 5, (20,))
    weight = torch.rand(5, dtype=torch.double) if weighted else zeros(0)
    if weighted:
        weight[4] = 1  # that of background, which the kernel reads past mmcv's (4,) tensor
    for name in ('sigmoid_focal_loss', 'sigmoid_focal_loss_backward'):
        ours = name if name.endswith('backward') else f'{name}_forward'
        found, expected = zeros(20, 4), zeros(20, 4)
        OPERATORS[ours](logits, target, weight[:4], found, gamma, 0.25)
        pointer = weight if weighted else None
        kernels(name, 80, logits, target, pointer, expected, gamma, 0.25, 4)
        assert_equal(found, expected, 1e-5)


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('gamma', [0.5, 2.0])
def test_softmax_focal_loss(kernels, gamma, weighted):
    probability, target = (3 * random(20, 4)).softmax(1), torch.randint(0, 4, (20,))
    weight = torch.rand(4, dtype=torch.double) if weighted else zeros(0)
    pointer = weight if weighted else None
    found, expected = zeros(20), zeros(20)
    given = (probability, target, weight)
    OPERATORS['softmax_focal_loss_forward'](*given, found, gamma, 0.25)
    kernels('softmax_focal_loss', 20, probability, target, pointer, expected, gamma, 0.25, 4)
    assert_equal(found, expected, 1e-6)
    found, expected = ((zeros(20), zeros(20, 4)) for _ in range(2))
    OPERATORS['softmax_focal_loss_backward'](*given, *found, gamma, 0.25)
    given = (probability, target, pointer, expected[0], gamma, 0.25, 4)
    kernels('softmax_focal_loss_backward1', 20, *given)
    kernels('softmax_focal_loss_backward2', 80, probability, target, *expected, 4)
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs, 1e-6)


def test_ms_deform_attn(kernels):
    shapes = torch.tensor([[6, 4], [3, 2]])
    starts = torch.tensor([0, 24])
    heads, width, queries, points = 2, 3, 5, 4
    value = random(2, 30, heads, width)
    locations = 1.4 * torch.rand(2, queries, heads, 2, points, 2, dtype=torch.double) - 0.2
    weights = torch.rand(2, queries, heads, 2, points, dtype=torch.double)
    gradient = random(2, queries, heads * width)
    found = [torch.zeros_like(tensor) for tensor in (value, locations, weights)]
    expected = [tensor.clone() for tensor in found]
    given = (value, shapes, starts, locations, weights)
    output = OPERATORS['ms_deform_attn_forward'](*given, im2col_step=2)
    OPERATORS['ms_deform_attn_backward'](*given, gradient, *found, im2col_step=2)
    sizes = (2, 30, heads, width, 2, queries, points)
    wanted = torch.zeros_like(gradient)
    kernels('ms_deform_attn', gradient.numel(), *given, *sizes, wanted)
    kernels('ms_deform_attn_backward', gradient.numel(), gradient, *given, *sizes, *expected)
    for ours, theirs in zip([output, *found], [wanted, *expected], strict=True):
        assert_equal(ours, theirs)
