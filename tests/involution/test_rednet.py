"""The RedNet backbone: published sizes, conventions of mmdet's ResNet, and loading."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.involution import Involution, RedNet
from tests.golden import fill

pytestmark = pytest.mark.on_device

# Published with the classifier (arXiv 2103.06255): millions of parameters, billions of
# multiply-adds.
PUBLISHED = {
    26: (9.23, 1.73),
    38: (12.39, 2.22),
    50: (15.54, 2.71),
    101: (25.65, 4.74),
    152: (33.99, 6.79),
}
CLASSIFIER = 2048 * 1000
BATCH_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def images(*size: int) -> Tensor:
    return torch.randn(1, 3, *size)


def write_classifier(network: RedNet, path, wrapper: str = 'backbone.') -> str:
    """Save a network as the published classification files are."""
    weights = {wrapper + key: value for key, value in network.state_dict().items()}
    weights |= {'head.fc.weight': torch.zeros(1000, 2048), 'head.fc.bias': torch.zeros(1000)}
    torch.save({'meta': {'epoch': 130}, 'state_dict': weights}, path)
    return str(path)


def pretrained(checkpoint: str, depth: int = 26, **settings) -> RedNet:
    """A RedNet as a config builds it."""
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    network = MODELS.build(dict(type='RedNet', depth=depth, init_cfg=init_cfg, **settings))
    network.init_weights()
    return network


@pytest.mark.parametrize('depth', PUBLISHED)
def test_parameters_and_multiply_adds_are_the_published_ones(depth):
    parameters, multiply_adds = PUBLISHED[depth]
    with torch.device('meta'):
        network = RedNet(depth).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(images(224, 224))
    count = sum(parameter.numel() for parameter in network.parameters()) + CLASSIFIER + 1000
    assert count / 1e6 == pytest.approx(parameters, abs=0.006)
    # The published count includes normalization and activations, which are no multiply-adds.
    assert (counter.get_total_flops() / 2 + CLASSIFIER) / 1e9 == pytest.approx(
        multiply_adds, rel=0.03
    )


def test_the_state_dict_is_resnet_s_with_involutions():
    keys = RedNet(26).state_dict().keys()
    convolution = {'conv.weight', *(f'bn.{name}' for name in BATCH_NORM)}
    involution = {*(f'conv1.{key}' for key in convolution), 'conv2.conv.weight', 'conv2.conv.bias'}
    block = {'conv1.weight', 'conv3.weight', *(f'conv2.{key}' for key in involution)}
    block |= {f'bn{index}.{name}' for index in (1, 2, 3) for name in BATCH_NORM}
    shortcut = {'downsample.0.weight', *(f'downsample.1.{name}' for name in BATCH_NORM)}
    expected = {f'stem.{index}.{key}' for index in (0, 4) for key in convolution}
    expected |= {f'stem.1.{key}' for key in involution}
    expected |= {f'stem.2.{name}' for name in BATCH_NORM}
    for stage, blocks in enumerate((1, 2, 4, 1), start=1):
        expected |= {f'layer{stage}.{index}.{key}' for index in range(blocks) for key in block}
        expected |= {f'layer{stage}.0.{key}' for key in shortcut}
    assert set(keys) == expected


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (33, 1)])
def test_stages_halve_the_image_rounding_up(size):
    outputs = RedNet(26).eval()(images(*size))
    for output, channels, stride in zip(
        outputs, (256, 512, 1024, 2048), (4, 8, 16, 32), strict=True
    ):
        assert output.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_returns_the_chosen_stages():
    every, chosen = RedNet(26).eval(), RedNet(26, out_indices=(3, 1)).eval()
    chosen.load_state_dict(every.state_dict())
    x = images(64, 64)
    first, second = chosen(x)
    assert torch.equal(first, every(x)[3])
    assert torch.equal(second, every(x)[1])


def test_frozen_parts_get_no_gradients_and_stay_in_evaluation_mode():
    network = RedNet(26, frozen_stages=1, norm_eval=False).train()
    frozen = [network.stem, network.layer1]
    trained = [network.layer2, network.layer3, network.layer4]
    assert not any(parameter.requires_grad for part in frozen for parameter in part.parameters())
    assert all(parameter.requires_grad for part in trained for parameter in part.parameters())
    assert not any(module.training for part in frozen for module in part.modules())
    assert all(module.training for part in trained for module in part.modules())


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_decides_whether_statistics_are_updated(norm_eval):
    network = RedNet(26, norm_eval=norm_eval).train()
    before = network.stem[1].conv1.bn.running_mean.clone()
    network(images(64, 64).repeat(2, 1, 1, 1))
    assert torch.equal(network.stem[1].conv1.bn.running_mean, before) == norm_eval


def test_checkpointed_blocks_give_the_same_gradients():
    plain, checkpointed = (RedNet(26, with_cp=with_cp).train() for with_cp in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    x = images(64, 64)
    for network in (plain, checkpointed):
        network(x)[-1].sum().backward()
    for found, expected in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_initial_blocks_are_their_shortcuts():
    network = RedNet(26)
    network.init_weights()
    assert not network.layer2[0].bn3.weight.any()
    kept = RedNet(26, zero_init_residual=False)
    kept.init_weights()
    assert kept.layer2[0].bn3.weight.all()


def test_synchronized_normalization_reaches_every_layer():
    network = RedNet(26, norm_cfg=dict(type='SyncBN', requires_grad=False))
    norms = [module for module in network.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(norm.weight.requires_grad for norm in norms)


def test_the_stem_and_the_involutions_may_keep_plain_normalization():
    network = RedNet(26, norm_cfg=dict(type='SyncBN'), involution_norm_cfg=dict(type='BN'))
    kinds = {nn.SyncBatchNorm: set(), nn.BatchNorm2d: set()}
    for name, module in network.named_modules():
        if type(module) in kinds:
            kinds[type(module)].add(name)
    involutions = {
        f'{name}.conv1.bn' for name, module in network.named_modules() if type(module) is Involution
    }
    stem = {'stem.0.bn', 'stem.2', 'stem.4.bn'}
    assert kinds[nn.BatchNorm2d] == involutions | stem
    assert {name.rpartition('.')[2] for name in kinds[nn.SyncBatchNorm]} == {
        *('bn1', 'bn2', 'bn3'),
        '1',  # of the shortcuts
    }


@pytest.mark.parametrize('wrapper', ['backbone.', 'module.backbone.'])
def test_a_published_classifier_loads_without_conversion(tmp_path, wrapper):
    source = fill(RedNet(26))
    network = pretrained(write_classifier(source, tmp_path / 'rednet26.pth', wrapper))
    for key, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


@pytest.mark.parametrize(('stored', 'built'), [(3, 7), (7, 3)])
def test_another_stem_kernel_is_an_error_that_names_its_fix(tmp_path, stored, built):
    path = write_classifier(RedNet(26, stem_kernel_size=stored), tmp_path / 'rednet26.pth')
    with pytest.raises(ValueError, match=f'build it with stem_kernel_size={stored}'):
        pretrained(path, stem_kernel_size=built)
    assert pretrained(path, stem_kernel_size=stored).stem_kernel_size == stored


def test_loaders_that_skip_what_does_not_fit_refuse_another_stem_too(tmp_path):
    source = RedNet(26, stem_kernel_size=3)
    path = write_classifier(source, tmp_path / 'rednet26.pth')
    model = nn.ModuleDict({'backbone': RedNet(26, stem_kernel_size=7)})
    with pytest.raises(ValueError, match='stem_kernel_size=3'):
        load_checkpoint(model, path, map_location='cpu')
    with pytest.raises(ValueError, match='stem_kernel_size=3'):
        model['backbone'].load_state_dict(source.state_dict(), strict=False)


def test_another_depth_is_an_error_that_names_its_fix(tmp_path):
    path = write_classifier(RedNet(38), tmp_path / 'rednet.pth')
    with pytest.raises(ValueError, match='build it with depth=38'):
        pretrained(path, depth=26)


def test_another_network_is_an_error(tmp_path):
    path = tmp_path / 'resnet.pth'
    torch.save({'state_dict': {'conv1.weight': torch.zeros(64, 3, 7, 7)}}, path)
    with pytest.raises(ValueError, match='holds no RedNet: its keys are conv1.weight'):
        pretrained(str(path))


def test_an_incomplete_checkpoint_is_an_error(tmp_path):
    source = RedNet(26)
    path = write_classifier(source, tmp_path / 'rednet26.pth')
    stored = torch.load(path, weights_only=True)
    del stored['state_dict']['backbone.layer4.0.conv2.conv2.conv.bias']
    torch.save(stored, path)
    with pytest.raises(ValueError, match=r'missing layer4\.0\.conv2\.conv2\.conv\.bias') as raised:
        pretrained(path)
    message = str(raised.value)
    assert message.endswith('; name the checkpoint of this network.')
    # What a RevCol would be told, which has settings of its own.
    assert not any(word in message for word in ('RevCol', 'arch', 'kernel_size'))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(depth=34), 'depth=34 is not allowed; give one of 26, 38, 50, 101, 152'),
        (dict(depth=26, stem_kernel_size=5), 'stem_kernel_size=5 is not allowed; give one of 3, 7'),
        (dict(depth=26, frozen_stages=5), 'frozen_stages=5 is not allowed; give one of -1, 0'),
        (dict(depth=26, out_indices=(4,)), r'out_indices=\(4,\) is not allowed'),
        (dict(depth=26, out_indices=(1.0,)), r'out_indices=\(1.0,\) is not allowed'),
        (dict(depth=26, out_indices=(1, 1)), r'out_indices=\(1, 1\) names a stage twice'),
        (dict(depth=26, norm_cfg=dict(type='GN')), "norm_cfg type 'GN' is not allowed"),
    ],
)
def test_refuses_settings_that_there_are_not(settings, message):
    with pytest.raises(ValueError, match=message):
        RedNet(**settings)


def test_every_block_is_an_involution_of_kernel_7():
    network = RedNet(50, stem_kernel_size=3)
    involutions = [module for module in network.modules() if isinstance(module, Involution)]
    assert [layer.kernel_size for layer in involutions] == [3] + [7] * 16


def test_importing_rednet_needs_neither_mmcv_nor_mmdet_nor_mmseg():
    code = (
        'import sys, revcol_backbone.involution; '
        "print(sorted({'mmcv', 'mmdet', 'mmseg'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == '[]'
