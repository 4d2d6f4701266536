"""Published checkpoints load as they are; what does not fit changes nothing and says why."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from revcol_backbone import RevCol
from revcol_backbone.checkpoints.pretrained import load_pretrained
from tests.file_server import serve
from tests.golden import TOY_ARCHITECTURES, fill, image

TOY = TOY_ARCHITECTURES['toy_k3']['arch']
HEADS = {
    'cls.1.weight': torch.ones(3, 64),
    'cls_blocks.0.fc.bias': torch.ones(3),
    'decoder_blocks.0.dwconv.weight': torch.ones(8, 1, 3, 3),
}
DETECTOR = {'neck.lateral_convs.0.conv.weight': torch.ones(2), 'roi_head.cls.bias': torch.ones(2)}


def backbone(**arguments):
    return RevCol(**{'arch': TOY} | arguments)


@pytest.fixture(scope='module')
def published():
    """The state dict of a trained network."""
    return fill(backbone()).state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'file.pth'


def with_prefix(prefix, weights):
    return {f'{prefix}{key}': value for key, value in weights.items()}


def without_gradients(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def error_of_loading(model, path, **arguments):
    """The message of the error, after a check that the model did not change."""
    before = without_gradients(model)
    with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
        load_pretrained(model, str(path), **arguments)
    assert_same(model.state_dict(), before)
    assert '\n' not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    'file_of',
    [
        lambda w: w,
        lambda w: {'model': w},
        lambda w: {'model': w | HEADS, 'epoch': 1, 'config': argparse.Namespace(a=1)},
        lambda w: {'state_dict': w},
        lambda w: with_prefix('module.', w | HEADS),
        lambda w: {'model': with_prefix('module.', w)},
        lambda w: {'state_dict': with_prefix('backbone.', w) | DETECTOR, 'meta': {'epoch': 36}},
        lambda w: {'state_dict': with_prefix('module.backbone.', w) | DETECTOR},
        lambda w: {'state_dict': with_prefix('backbone.module.', w) | DETECTOR},
        lambda w: {'state_dict': with_prefix('backbone.', w | HEADS) | with_prefix('ema.', w)},
    ],
    ids=[
        'bare',
        'model',
        'classifier',
        'state_dict',
        'module.',
        'model, module.',
        'detector',
        'module.backbone.',
        'backbone.module.',
        'backbone. with heads',
    ],
)
def test_every_published_layout_loads_without_conversion(path, published, file_of):
    torch.save(file_of(published), path)
    model = backbone()
    load_pretrained(model, str(path))
    assert_same(model.state_dict(), published)


def test_safetensors_load(tmp_path, published):
    path = tmp_path / 'file.safetensors'
    save_file(published, path)
    model = backbone()
    load_pretrained(model, str(path))
    assert_same(model.state_dict(), published)


def test_init_cfg_of_a_config_loads_the_checkpoint(path, published):
    torch.save({'model': published | HEADS}, path)
    model = backbone(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    model.init_weights()
    assert_same(model.state_dict(), published)


@pytest.mark.parametrize('prefix', ['encoder', 'encoder.', 'module.encoder'])
def test_prefix_chooses_the_network_in_the_file(path, published, prefix):
    others = with_prefix('backbone.', without_gradients(backbone()))
    torch.save(with_prefix('encoder.', published) | others, path)
    model = backbone()
    load_pretrained(model, str(path), prefix=prefix)
    assert_same(model.state_dict(), published)


def test_prefix_that_no_key_has_is_an_error(path, published):
    torch.save(published, path)
    message = error_of_loading(backbone(), path, prefix='encoder')
    assert "no key with the prefix 'encoder': its keys are stem.0.weight, " in message


def test_weight_that_is_there_twice_is_an_error(path, published):
    torch.save(published | with_prefix('module.', published), path)
    assert 'holds stem.0.weight twice' in error_of_loading(backbone(), path)


@pytest.mark.parametrize('stored', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('wanted', [torch.float32, torch.bfloat16, torch.float64])
def test_stored_dtype_is_converted_to_that_of_the_model(path, published, stored, wanted):
    torch.save({key: value.to(stored) for key, value in published.items()}, path)
    model = backbone().to(wanted)
    load_pretrained(model, str(path))
    assert_same(
        model.state_dict(), {key: value.to(stored).to(wanted) for key, value in published.items()}
    )


def test_loaded_model_does_not_depend_on_the_file(path, published):
    torch.save(published, path)
    model = backbone()
    load_pretrained(model, str(path))
    path.write_bytes(b'')
    assert_same(model.state_dict(), published)


def test_small_kernels_are_padded_so_that_features_stay_the_same_and_the_log_says_so(
    path, published, log
):
    torch.save(published, path)
    small, large = backbone().eval(), backbone(kernel_size=7).eval()
    load_pretrained(small, str(path))
    log.clear()
    load_pretrained(large, str(path))
    assert f'zero-padded 15 depthwise kernels of {path} from 3x3 to 7x7' in log.text
    kernel = large.subnet0.level0.blocks[0].dwconv.weight
    assert torch.equal(kernel[..., 2:5, 2:5], published['subnet0.level0.blocks.0.dwconv.weight'])
    assert kernel.count_nonzero() == 8 * 3 * 3
    with torch.no_grad():
        for found, expected in zip(
            large(image((1, 3, 64, 96))), small(image((1, 3, 64, 96))), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_equal_kernels_are_not_padded_and_the_log_does_not_claim_it(path, published, log):
    torch.save(published, path)
    load_pretrained(backbone(), str(path))
    assert f'loaded {len(published)} tensors of {path}' in log.text
    assert 'padded' not in log.text


def test_kernels_larger_than_the_model_are_an_error(path):
    torch.save(backbone(kernel_size=7).state_dict(), path)
    message = error_of_loading(backbone(), path)
    assert (
        "of another shape subnet0.level0.blocks.0.dwconv.weight (8, 1, 7, 7) for the model's "
        '(8, 1, 3, 3), ' in message
    )
    assert 'and 12 more' in message
    assert '7x7 kernels' in message
    assert 'set `arch` and `kernel_size` to those of the file' in message


def test_missing_keys_are_named_with_their_shapes(path, published):
    dropped = [key for key in published if key.startswith('subnet1.level3')]
    torch.save({key: value for key, value in published.items() if key not in dropped}, path)
    message = error_of_loading(backbone(), path)
    first = ', '.join(f'{key} {tuple(published[key].shape)}' for key in dropped[:3])
    assert f'missing {first} and {len(dropped) - 3} more;' in message


def test_unexpected_keys_are_named_with_their_shapes(path, published):
    torch.save(published | {'extra.weight': torch.ones(2, 3)}, path)
    assert 'unexpected extra.weight (2, 3);' in error_of_loading(backbone(), path)


def test_deeper_network_in_the_file_is_described_beside_the_model(path, published):
    torch.save(published, path)
    message = error_of_loading(backbone(arch=TOY | {'columns': 2}), path)
    assert 'unexpected subnet2.alpha0 (1, 8, 1, 1), subnet2.alpha1 (1, 16, 1, 1), ' in message
    assert (
        'file holds RevCol custom (3 columns, channels (8, 16, 32, 64), layers (1, 1, 2, 1), '
        in (message)
    )
    assert 'the model is RevCol custom (2 columns, ' in message


def test_published_variants_are_called_by_name(path):
    with torch.device('meta'):
        layout = RevCol('tiny').state_dict()
    torch.save({key: torch.zeros(1).expand(value.shape) for key, value in layout.items()}, path)
    assert "the file holds RevCol 'tiny' (4 columns" in error_of_loading(backbone(), path)


def test_other_width_is_named_with_both_shapes(path, published):
    torch.save(published, path)
    wide = backbone(arch=TOY | {'channels': (16, 32, 64, 128)})
    message = error_of_loading(wide, path)
    assert "stem.0.weight (8, 3, 4, 4) for the model's (16, 3, 4, 4), " in message


def test_other_network_is_an_error(path):
    torch.save({'state_dict': {'layer1.0.conv1.weight': torch.ones(4, 4)}}, path)
    message = error_of_loading(backbone(), path)
    assert 'missing stem.0.weight (8, 3, 4, 4), ' in message
    assert 'unexpected layer1.0.conv1.weight (4, 4); ' in message
    assert 'the file holds no RevCol (layer1.0.conv1.weight)' in message


def test_detector_without_a_fitting_backbone_is_an_error(path):
    torch.save({'state_dict': DETECTOR | {'backbone.conv1.weight': torch.ones(2)}}, path)
    assert 'unexpected conv1.weight (2,); ' in error_of_loading(backbone(), path)


@pytest.mark.filterwarnings('ignore:Validating sparse tensor')
@pytest.mark.parametrize(
    'value',
    [
        torch.ones(8).to_sparse(),
        torch.ones(8, dtype=torch.complex64),
        [1.0] * 8,
        argparse.Namespace(a=1),
    ],
)
def test_entry_that_is_no_plain_tensor_is_an_error(path, published, value):
    torch.save(published | {'stem.0.bias': value}, path)
    assert 'not a dense real tensor stem.0.bias; ' in error_of_loading(backbone(), path)


def test_weights_that_are_not_finite_are_an_error(path, published):
    alpha = published['subnet1.alpha2'].clone()
    alpha[0, 1] = float('inf')
    torch.save(published | {'subnet1.alpha2': alpha}, path)
    message = error_of_loading(backbone(), path)
    assert 'holds weights that are NaN or infinite (subnet1.alpha2), and nothing was loaded' in (
        message
    )


def test_truncated_file_is_an_error(path, published):
    torch.save(published, path)
    path.write_bytes(path.read_bytes()[:5000])
    assert 'damaged or cut short' in error_of_loading(backbone(), path)


def test_downloaded_checkpoint_loads_and_a_damaged_one_says_what_to_delete(
    tmp_path, path, published, monkeypatch
):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('no_proxy', '*')
    torch.save({'model': published}, path)
    with serve(path.read_bytes()) as server:
        url = server.url('revcol_toy_1k.pth')
        model = backbone()
        load_pretrained(model, url)
        assert_same(model.state_dict(), published)

        cached = Path(torch.hub.get_dir(), 'checkpoints', 'revcol_toy_1k.pth')
        cached.write_bytes(cached.read_bytes()[:5000])
        before = without_gradients(model)
        with pytest.raises(ValueError, match=rf'{cached} is not .* It came from {url}: delete it'):
            load_pretrained(model, url)
        assert_same(model.state_dict(), before)


def test_model_on_the_meta_device_is_an_error(path, published):
    torch.save(published, path)
    with torch.device('meta'):
        model = backbone()
    with pytest.raises(ValueError, match=r'file.pth cannot be loaded into .* the meta device'):
        load_pretrained(model, str(path))


def test_frozen_and_memory_saving_models_take_the_same_file(path, published):
    torch.save(published, path)
    model = backbone(save_memory=True, frozen_columns=2)
    load_pretrained(model, str(path))
    assert_same(model.state_dict(), published)
    assert not model.stem[0].weight.requires_grad
    assert model.subnet2.alpha0.requires_grad
