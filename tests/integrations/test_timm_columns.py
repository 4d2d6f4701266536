"""Columns from timm's own stages: what they compute, and which models are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as REGISTRY
from torch import Tensor, nn

from revcol_backbone.integrations.timm_columns import StageLevel, TimmColumns, columns_of
from tests.columns_proof import ColumnsProof, error, gradients, plain_gradients
from tests.golden import fill, image

# One of each kind, as narrow as its class allows.
MODELS = {
    'convnextv2_atto': dict(dims=(4, 8, 12, 16), depths=(1, 1, 2, 1)),
    'resnet18': dict(channels=(4, 8, 12, 16)),
    'regnety_002': dict(),
    'swin_tiny_patch4_window7_224': dict(
        img_size=64, embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 2), window_size=4
    ),
}


def build(name: str, columns: int = 3, **arguments: object) -> TimmColumns:
    torch.manual_seed(0)
    return columns_of(name, columns, **MODELS[name], **arguments)


class TestConvNeXt(ColumnsProof):
    @staticmethod
    def build(columns: int, **arguments: object) -> TimmColumns:
        return build('convnextv2_atto', columns, **arguments)

    @staticmethod
    def inputs() -> tuple[Tensor, ...]:
        return (image((2, 3, 64, 96)),)

    def test_autocast_is_as_exact_as_plain_training_with_it(self) -> None:
        """With weights drawn at random bfloat16 is far from exact, in either way alike."""
        network, inputs = fill(self.build(4)).train(), self.inputs()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            plain = plain_gradients(network, inputs)
            assert error(gradients(network, inputs), plain) < 0.02


class TestSwin(TestConvNeXt):
    """Maps have their channels last."""

    @staticmethod
    def build(columns: int, **arguments: object) -> TimmColumns:
        # timm's own default is 0.1.
        arguments = {'drop_path_rate': 0.0, **arguments}
        return build('swin_tiny_patch4_window7_224', columns, **arguments)

    @staticmethod
    def inputs() -> tuple[Tensor, ...]:
        return (image((2, 3, 64, 64)),)


@pytest.mark.parametrize('name', MODELS)
def test_the_first_column_computes_the_models_own_features(name: str) -> None:
    network, x = build(name, columns=1).eval(), image((2, 3, 64, 64))
    model = timm.create_model(name, num_classes=0, **MODELS[name]).eval()
    weights = [value for key, value in network.state_dict().items() if 'alpha' not in key]
    model.load_state_dict(dict(zip(model.state_dict(), weights, strict=False)), strict=False)
    expected = model.forward_intermediates(x, intermediates_only=True)[-4:]
    assert network.channels == tuple(level.shape[1] for level in expected)
    assert network.strides == (4, 8, 16, 32)
    for found, own in zip(network(x), expected, strict=True):
        torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        *('convnext_atto', 'densenet121', 'edgenext_xx_small', 'efficientnet_b0', 'fastvit_t8'),
        *(
            'mobilenetv3_small_100',
            'mobilevit_xxs',
            'poolformer_s12',
            'pvt_v2_b0',
            'tiny_vit_5m_224',
        ),
    ],
)
def test_models_of_many_kinds_fit(name: str) -> None:
    assert columns_of(name, columns=1).strides == (4, 8, 16, 32)


def test_a_stage_takes_what_is_below_and_above() -> None:
    stage = nn.Conv2d(4, 8, 2, stride=2)
    level = StageLevel(stage, channels=4, above_channels=16, channels_last=False)
    below, above = image((1, 4, 12, 10)), image((1, 16, 3, 3), 'above')
    linear, norm = level.up.channel_reschedule
    nearest = F.interpolate(norm(linear(above.movedim(1, -1))).movedim(-1, 1), (12, 10))
    torch.testing.assert_close(level(below, (above,)), stage(below + nearest))


def test_maps_with_channels_last_are_fused_alike() -> None:
    first = StageLevel(nn.Identity(), 4, 16, channels_last=False)
    last = StageLevel(nn.Identity(), 4, 16, channels_last=True)
    last.load_state_dict(first.state_dict())
    below, above = image((1, 4, 12, 10)), image((1, 16, 3, 3), 'above')
    expected = first(below, (above,)).permute(0, 2, 3, 1)
    found = last(below.permute(0, 2, 3, 1), (above.permute(0, 2, 3, 1),))
    torch.testing.assert_close(found, expected)


def test_every_column_has_stages_of_its_own() -> None:
    network = build('convnextv2_atto')
    one, other = (column.level2.stage.state_dict() for column in (network.subnet0, network.subnet1))
    assert any(not torch.equal(one[key], other[key]) for key in one)
    ups = {key.split('.up')[0] for key in network.state_dict() if '.up.' in key}
    assert ups == {f'subnet{column}.level{level}' for column in (1, 2) for level in range(3)}


def train_step(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    sum(level.square().mean() for level in network.train()(x)).backward()
    return network.state_dict()


def test_running_statistics_are_updated_once_a_step() -> None:
    x = image((2, 3, 64, 64))
    found, expected = (train_step(build('resnet18', save_memory=save), x) for save in (True, False))
    assert found['subnet2.level3.stage.0.0.bn1.num_batches_tracked'] == 1
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_attention_uses_the_fused_kernels() -> None:
    flags = [
        module.fused_attn
        for module in build('swin_tiny_patch4_window7_224').modules()
        if hasattr(module, 'fused_attn')
    ]
    assert len(flags) == 3 * (1 + 2 + 1 + 1)
    assert all(flags)


def test_a_config_names_it() -> None:
    network = REGISTRY.build(dict(type='TimmColumns', model='regnety_002', columns=2))
    assert [level.shape for level in network(image((1, 3, 64, 96)))] == [
        (1, 24, 16, 24),
        (1, 56, 8, 12),
        (1, 152, 4, 6),
        (1, 368, 2, 3),
    ]


def test_it_is_built_without_memory_on_the_meta_device() -> None:
    with torch.device('meta'):
        network = columns_of('convnext_atto', columns=2)
    assert network.channels == (40, 80, 160, 320)
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('convnextv2_atom', 'has no model .convnextv2_atom.; did you mean convnextv2_atto'),
        ('vit_tiny_patch16_224', r'keeps one resolution \(stride 16\) in all of its blocks'),
        ('hiera_tiny_224', 'has features of the shapes .* need maps'),
        ('vgg11', 'cannot be taken apart: stage 0 writes into its input'),
        ('hrnet_w18_small', 'cannot be taken apart: its feature .stage1. is not one'),
    ],
)
def test_a_model_that_does_not_fit_is_refused(name: str, message: str) -> None:
    with torch.device('meta'), pytest.raises(ValueError, match=message):
        columns_of(name)


def test_pretrained_weights_are_refused() -> None:
    with pytest.raises(ValueError, match='cannot start from its pre-trained weights'):
        columns_of('convnextv2_atto', pretrained=True)


@pytest.mark.parametrize('columns', [0, 2.0, True])
def test_the_number_of_columns_is_checked(columns: object) -> None:
    with pytest.raises(ValueError, match='TimmColumns columns=.* give an integer at least 1'):
        columns_of('convnextv2_atto', columns=columns)


def test_a_checkpoint_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    source = fill(build('convnextv2_atto'))
    whole, damaged = tmp_path / 'whole.pth', tmp_path / 'damaged.pth'
    weights = source.state_dict()
    torch.save(weights, whole)
    weights.pop('subnet1.alpha2')
    torch.save(weights, damaged)
    network = build('convnextv2_atto', init_cfg=dict(type='Pretrained', checkpoint=str(whole)))
    network.init_weights()
    assert all(torch.equal(network.state_dict()[key], value) for key, value in weights.items())
    network = build('convnextv2_atto', init_cfg=dict(type='Pretrained', checkpoint=str(damaged)))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match='alpha2'):
        network.init_weights()
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ('name', 'depth'),
    [
        ('stem.0.weight', 0),
        ('subnet0.level0.stage.blocks.0.gamma', 1),
        ('subnet2.level3.up.weight', 6),
        ('subnet1.alpha2', 4),
        ('head.weight', 7),
    ],
)
def test_layer_decay_counts_a_stage_as_a_layer(name: str, depth: int) -> None:
    assert build('convnextv2_atto').get_layer_depth(name) == (depth, 8)
