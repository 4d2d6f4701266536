"""RevCol-ViT: the proofs of columns, images of any size, and the published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from revcol_backbone import RevColViT
from revcol_backbone.analysis.flops import Classifier, count_parameters, model_multiply_adds
from revcol_backbone.transformers.vit_variants import VIT_VARIANTS
from tests.columns_proof import ColumnsProof, error
from tests.golden import fill, image

TINY = {'width': 16, 'layers': (1, 2, 1, 1), 'heads': 2, 'columns': 3}
# Parameters in millions and multiply-adds in billions of a classifier for images of 224 x 224.
PUBLISHED = {'small': (16, 4.6), 'base': (67, 18.8)}
COUNTED = {('small', 4): (20.9, 4.6), ('base', 4): (89.1, 18.7)}
COUNTED |= {('small', 3): (15.7, 3.4), ('base', 3): (66.9, 14.0)}


class TestProof(ColumnsProof):
    """A RevCol-ViT with the pyramid."""

    @staticmethod
    def build(columns: int, **arguments) -> RevColViT:
        return RevColViT(dict(TINY, columns=columns), **{'save_memory': True, **arguments})

    @staticmethod
    def inputs() -> tuple[Tensor]:
        return (image((2, 3, 40, 50)),)

    @staticmethod
    def blocks(network: nn.Module) -> list[nn.Module]:
        return [block for i in range(network.columns) for block in blocks_of(network, i)]

    @staticmethod
    def build_for_memory(columns: int, **arguments) -> RevColViT:
        arch = {'width': 64, 'layers': (1, 1, 1, 1), 'heads': 2, 'columns': columns}
        return RevColViT(arch, **arguments)

    @staticmethod
    def inputs_for_memory() -> tuple[Tensor]:
        return (image((1, 3, 224, 224)),)


def blocks_of(network: RevColViT, column: int) -> list[nn.Module]:
    levels = getattr(network, f'subnet{column}').levels
    return [block for level in levels for block in level.blocks]


class Operators(TorchDispatchMode):
    """The names of all operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_attention_is_fused_in_both_directions() -> None:
    network = RevColViT(TINY, save_memory=True)
    with Operators() as operators:
        sum(output.sum() for output in network(image((1, 3, 64, 64)))).backward()
    fused = {name for name in operators.names if 'scaled_dot_product' in name}
    assert len(fused) == 2
    assert any('backward' in name for name in fused)
    assert not any('softmax' in name for name in operators.names)


def test_attention_is_the_softmax_of_scaled_cosines() -> None:
    attention = fill(RevColViT(TINY)).subnet0.level0.blocks[0].attention.double()
    attention.logit_scale.data = torch.tensor([0.3, 9.0]).double()  # the second beyond the bound
    x = image((2, 5, 16)).double()
    query, key, value = attention.qkv(x).view(2, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
    norms = query.norm(dim=-1)[..., :, None] * key.norm(dim=-1)[..., None, :]
    scale = torch.tensor([2.718281828459045**0.3, 100.0]).double().view(2, 1, 1)
    weights = (scale * (query @ key.transpose(-1, -2)) / norms).softmax(-1)
    expected = attention.projection((weights @ value).transpose(1, 2).reshape(2, 5, 16))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(
    ('size', 'grid'), [((64, 96), (4, 6)), ((50, 33), (4, 3)), ((7, 200), (1, 13))]
)
def test_images_of_any_size_give_four_strides(size: tuple, grid: tuple) -> None:
    outputs = RevColViT(TINY)(image((2, 3, *size)))
    (h, w), half = grid, [-(-side // 2) for side in grid]
    assert [tuple(output.shape) for output in outputs] == [
        (2, 4, 4 * h, 4 * w),
        (2, 8, 2 * h, 2 * w),
        (2, 16, h, w),
        (2, 16, *half),
    ]


def test_the_outputs_are_made_that_are_asked_for() -> None:
    network = RevColViT(TINY, out_indices=(3, 2))
    last, own = network(image((1, 3, 64, 64)))
    assert [tuple(last.shape), tuple(own.shape)] == [(1, 16, 2, 2), (1, 16, 4, 4)]
    assert not list(network.pyramid.parameters())
    tokens = network.run_columns(network.stem(image((1, 3, 64, 64))))[0][-1]
    assert torch.equal(own.flatten(2).transpose(1, 2), tokens)


def test_positions_are_resized_to_the_image() -> None:
    """A linear ramp of position embeddings stays one, from edge to edge."""
    stem = RevColViT(TINY, img_size=128).stem
    nn.init.zeros_(stem.projection.weight)
    ramp = torch.arange(8.0).expand(1, 16, 8, 8)
    stem.position_embedding.data.copy_(ramp)
    same, double = (stem(torch.zeros(1, 3, side, side)) for side in (128, 256))
    torch.testing.assert_close(same.transpose(1, 2).view(1, 16, 8, 8), ramp)
    row = double[0, :16, 0]
    torch.testing.assert_close(row[4:12], torch.arange(4, 12) / 2 - 0.25)


def test_padding_does_not_change_an_image_that_was_padded_by_hand() -> None:
    network = fill(RevColViT(TINY)).eval()
    x = image((1, 3, 40, 50))
    padded = nn.functional.pad(x, (0, 14, 0, 8))
    torch.testing.assert_close(network(x), network(padded))


@pytest.mark.parametrize('name', VIT_VARIANTS)
def test_the_published_parameters_and_flops_are_not_of_one_number_of_columns(name: str) -> None:
    """With four columns the FLOPs are those of the paper, with three the parameters are."""
    found = {}
    for columns in (3, 4):
        with torch.device('meta'):
            arch = {**vars(VIT_VARIANTS[name]), 'columns': columns}
            model = Classifier(
                RevColViT(arch, out_indices=(2,)), VIT_VARIANTS[name].width, with_norm=True
            ).eval()
        parameters = round(count_parameters(model) / 1e6, 1)
        multiply_adds = round(model_multiply_adds(model, 224, 224) / 1e9, 1)
        assert (parameters, multiply_adds) == COUNTED[name, columns]
        found[columns] = parameters, multiply_adds
    parameters, multiply_adds = PUBLISHED[name]
    assert round(found[3][0]) == parameters
    assert found[4][0] > 1.25 * parameters
    assert found[4][1] == pytest.approx(multiply_adds, abs=0.11)
    assert found[3][1] < 0.8 * multiply_adds


def test_a_new_network_passes_its_tokens_on() -> None:
    """Branches start small, as those of RevCol do."""
    network = RevColViT(TINY)
    x = network.stem(image((1, 3, 64, 64)))
    torch.testing.assert_close(network.subnet0.level0(x), x, rtol=0, atol=1e-4)


def test_rounding_in_float32_stays_small_by_default() -> None:
    arch, x = {**TINY, 'columns': 12}, image((2, 3, 64, 64))
    found = []
    for save_memory in (True, False):
        network = fill(RevColViT(arch, save_memory=save_memory))
        sum((o * image(tuple(o.shape), str(i))).sum() for i, o in enumerate(network(x))).backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert error(*found) < 1e-4


def test_layers_decay_from_the_heads_to_the_stem() -> None:
    model = nn.ModuleDict({'backbone': RevColViT(TINY), 'head': nn.Linear(2, 2)})
    constructor = 'RevColLayerDecayOptimWrapperConstructor'
    optimizer = dict(type='AdamW', lr=1.0, weight_decay=0.1)
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor=constructor,
            paramwise_cfg=dict(decay_rate=0.5),
            optimizer=optimizer,
        ),
    )
    found = {
        name: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for name in group['param_names']
    }
    last = 5 + 3
    assert found['backbone.stem.position_embedding'] == (0.5**last, 0)
    assert found['backbone.stem.projection.weight'] == (0.5**last, 0.1)
    assert found['backbone.subnet2.level1.blocks.1.mlp.0.weight'] == (0.5 ** (last - 5), 0.1)
    assert found['backbone.subnet0.level3.fusion.down.0.weight'] == (0.5 ** (last - 5), 0.1)
    assert found['backbone.subnet1.level0.blocks.0.attention.logit_scale'] == (0.5 ** (last - 2), 0)
    assert found['backbone.pyramid.scales.1.weight'] == found['head.weight'] == (1, 0.1)


def test_a_checkpoint_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    source = fill(RevColViT(TINY))
    file = tmp_path / 'vit.pth'
    torch.save({'state_dict': source.state_dict()}, file)
    init_cfg = dict(type='Pretrained', checkpoint=str(file))
    model = MODELS.build(dict(type='RevColViT', arch=TINY, init_cfg=init_cfg))
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])
    other = RevColViT(TINY, img_size=256, init_cfg=init_cfg)
    with pytest.raises(ValueError, match='nothing was loaded: of another shape stem.position_emb'):
        other.init_weights()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'arch': 'large'}, "arch='large' is not allowed; give one of 'small', 'base', or a dict"),
        ({'arch': {'width': 16}}, 'or a dict with width, layers, heads, columns'),
        ({'arch': {**TINY, 'heads': 3}}, 'arch.width=16 is not allowed; give a multiple of 4 and'),
        ({'arch': {**TINY, 'layers': (1, 1)}}, 'give four positive integers, one for each level'),
        ({'arch': {**TINY, 'layers': (1, 1, 0, 1)}}, 'arch.layers=0 is not allowed'),
        ({'arch': {**TINY, 'columns': 0}}, 'arch.columns=0 is not allowed'),
        ({'img_size': 100}, 'img_size=100 is not allowed; give a multiple of 16'),
        ({'drop_path_rate': 1.0}, 'drop_path_rate=1.0 is not allowed'),
        ({'out_indices': (4,)}, 'give one or more of 0, 1, 2, 3'),
        ({'save_memory': 'on'}, "save_memory='on' is not allowed; give True or False"),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'RevColViT .*{message}'):
        RevColViT(**{'arch': TINY, **arguments})


def test_a_bad_input_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r'shape \(1, 4, 32, 32\); it takes images of shape'):
        RevColViT(TINY)(torch.zeros(1, 4, 32, 32))
