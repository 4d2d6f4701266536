"""Swin columns: timm's block in windows on maps of any size, and the backbone made of it."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor

from revcol_backbone.analysis.flops import model_multiply_adds
from revcol_backbone.transformers.swin_columns import SwinColumns, WindowBlock
from tests.columns_proof import ColumnsProof, error, gradients, plain_gradients
from tests.configs import build_model, load_config
from tests.golden import fill, image

SMALL = dict(channels=(4, 8, 16, 32), layers=(2, 1, 2, 1), columns=3)
TINY = dict(channels=(64, 128, 256, 512), layers=(2, 2, 4, 2))


def build(**arguments: object) -> SwinColumns:
    return fill(SwinColumns(SMALL, head_dim=4, window_size=4, **arguments))


class TestProof(ColumnsProof):
    """Of maps that are no whole number of windows."""

    @staticmethod
    def build(columns: int, **arguments: object) -> SwinColumns:
        return SwinColumns({**SMALL, 'columns': columns}, head_dim=4, window_size=4, **arguments)

    @staticmethod
    def inputs() -> tuple[Tensor, ...]:
        return (image((2, 3, 40, 33)),)

    @staticmethod
    def build_for_memory(columns: int, **arguments: object) -> SwinColumns:
        with torch.device('meta'):
            return SwinColumns({**TINY, 'columns': columns}, **arguments)

    @staticmethod
    def inputs_for_memory() -> tuple[Tensor, ...]:
        return (torch.empty(1, 3, 448, 672, device='meta'),)

    def test_autocast_is_as_exact_as_plain_training_with_it(self) -> None:
        """With weights drawn at random bfloat16 is far from exact, in either way alike."""
        network, inputs = fill(self.build(4)).train(), self.inputs()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            plain = plain_gradients(network, inputs)
            assert error(gradients(network, inputs), plain) < 0.02


@pytest.mark.parametrize('shift', [0, 2])
def test_whole_windows_are_what_timms_own_block_computes(shift: int) -> None:
    block = fill(WindowBlock(8, head_dim=4, window=4, shift=shift))
    own = SwinTransformerBlock(8, (8, 12), num_heads=2, window_size=4, shift_size=shift)
    own.load_state_dict(block.block.state_dict())
    x = image((2, 8, 8, 12))
    expected = own(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('shift', 'reach'), [(0, 4), (2, 2)])
@pytest.mark.parametrize('size', [(6, 7), (8, 8), (9, 5)])
def test_the_first_window_sees_itself_alone(shift: int, reach: int, size: tuple[int, int]) -> None:
    """Shifting brings it beside the far end of the map, which padding must not open."""
    block = fill(WindowBlock(8, head_dim=4, window=4, shift=shift))
    x = image((1, 8, *size)).requires_grad_()
    block(x)[..., 0, 0].square().sum().backward()
    seen = x.grad.abs().sum(1)[0]
    is_seen = seen > 1e-30 * seen.max()  # timm's mask is -100
    assert is_seen[:reach, :reach].all()
    assert is_seen.sum() == reach**2


def test_a_dropped_sample_skips_the_block() -> None:
    block, x = fill(WindowBlock(8, 4, 4, 2)), image((2, 8, 5, 6))
    out = block(x, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(out[0], x[0], rtol=0, atol=0)
    torch.testing.assert_close(out[1], x[1] + 2 * (block(x)[1] - x[1]))


@pytest.mark.parametrize('size', [(32, 32), (63, 45)])
def test_images_may_have_any_size(size: tuple[int, int]) -> None:
    levels = build()(image((1, 3, *size)))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (width, size[0] // stride, size[1] // stride)
        for width, stride in zip((4, 8, 16, 32), (4, 8, 16, 32), strict=True)
    ]


def test_every_second_block_shifts_its_windows() -> None:
    level = build().subnet1.level0
    assert [block.block.shift_size for block in level.blocks] == [(0, 0), (2, 2)]


def test_its_parameters_are_those_of_swins_blocks_and_revcols_fusion() -> None:
    """Counted by hand from the papers' descriptions."""
    channels, layers, columns = (64, 128, 256, 512), (2, 2, 4, 2), 4
    expected = 3 * 16 * 64 + 64 + 2 * 64
    for column in range(columns):
        for level, (width, count) in enumerate(zip(channels, layers, strict=True)):
            attention = 4 * width**2 + 4 * width + 13**2 * (width // 32)
            perceptron = 8 * width**2 + 5 * width
            expected += count * (attention + perceptron + 4 * width) + width
            if level:
                expected += 4 * channels[level - 1] * width + 3 * width
            if column and level < 3:
                expected += channels[level + 1] * width + 3 * width
    with torch.device('meta'):
        network = SwinColumns()
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_its_multiply_adds_are_counted_with_the_attention() -> None:
    """At 224 x 224, where all windows are whole."""
    channels, layers, columns = (64, 128, 256, 512), (2, 2, 4, 2), 4
    expected = 3 * 16 * 64 * 56**2
    for column in range(columns):
        for level, (width, count) in enumerate(zip(channels, layers, strict=True)):
            tokens = (56 // 2**level) ** 2
            expected += count * tokens * (12 * width**2 + 2 * 49 * width)
            if level:
                expected += tokens * 4 * channels[level - 1] * width
            if column and level < 3:
                expected += tokens // 4 * channels[level + 1] * width
    with torch.device('meta'):
        network = SwinColumns().eval()
    assert model_multiply_adds(network, 224, 224) == expected


def test_a_config_trains_a_segmentor_of_it() -> None:
    config = load_config('seg_configs/swin_columns_t_upernet.py')
    model = build_model(config, device='meta')
    assert isinstance(model.backbone, SwinColumns)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    decays = {p: group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        is_free = parameter.ndim == 1 or 'alpha' in name or 'relative_position' in name
        assert decays[parameter] == (0 if is_free else 0.01), name


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='base'), r'head_dim=32 does not divide the widths \(72, 144, 288, 576\)'),
        (dict(head_dim=0), 'head_dim=0 is not allowed; give an integer at least 1'),
        (dict(window_size=1), 'window_size=1 is not allowed; give an integer at least 2'),
        (dict(drop_path_rate=1.0), 'drop_path_rate=1.0 is not allowed'),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with torch.device('meta'), pytest.raises(ValueError, match=f'SwinColumns {message}'):
        SwinColumns(**arguments)


@pytest.mark.parametrize('shape', [(1, 3, 31, 64), (1, 4, 64, 64), (3, 64, 64)])
def test_other_inputs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match='got an i'):
        build()(image(shape))
