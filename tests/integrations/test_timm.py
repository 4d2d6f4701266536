"""RevCol through timm: registration, features, classifier, pretrained backbones."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay
from torchvision.models.feature_extraction import create_feature_extractor

import revcol_backbone.integrations.timm as timm_models
from revcol_backbone import VARIANTS, RevCol, load_pretrained
from tests.file_server import serve
from tests.hub_server import hub

TINY = dict(channels=(8, 16, 24, 32), layers=(1, 1, 1, 1), columns=2)
PUSH_AND_CREATE = """
import timm
import torch
import revcol_backbone.integrations.timm

model = timm.create_model('revcol_tiny', num_classes=3, in_chans=1).eval()
timm.models.push_to_hf_hub(model, 'user/pets', safe_serialization=True)
created = timm.create_model('hf-hub:user/pets', pretrained=True).eval()
features = timm.create_model('hf-hub:user/pets', pretrained=True, features_only=True).eval()
with torch.no_grad():
    x = torch.rand(1, 1, 64, 64)
    assert torch.equal(created(x), model(x))
    assert torch.equal(features(x)[-1], model.forward_features(x))
print('the same logits')
"""
every_variant = pytest.mark.parametrize('arch', VARIANTS)


@pytest.fixture(autouse=True)
def _small_tiny(monkeypatch, request):
    """Let ``revcol_tiny`` be a network that tests can run."""
    if 'arch' not in request.fixturenames:
        monkeypatch.setattr(timm_models.RevColClassifier, '__init__', small_init)
    torch.manual_seed(0)


original_init = timm_models.RevColClassifier.__init__


def small_init(self, arch, **kwargs):
    original_init(self, TINY, **kwargs)


def image(size=64):
    return torch.rand(2, 3, size, size)


@every_variant
def test_every_variant_is_a_timm_model_with_its_published_number_of_parameters(arch):
    with torch.device('meta'):
        model = timm.create_model(f'revcol_{arch}', num_classes=0)
        backbone = RevCol(arch)
    assert set(model.backbone.state_dict()) == set(backbone.state_dict())
    head = 2 * VARIANTS[arch].channels[3]
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters + head


@every_variant
def test_feature_info_names_width_reduction_and_module_of_each_level(arch):
    with torch.device('meta'):
        model = timm.create_model(f'revcol_{arch}', pretrained=False, features_only=True)
    assert model.feature_info.channels() == list(VARIANTS[arch].channels)
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    assert model.feature_info.module_name() == [f'levels.{level}' for level in range(4)]
    assert not any('cls' in name for name, _ in model.named_parameters())


@every_variant
def test_the_default_configuration_names_imagenet_and_the_published_file(arch):
    cfg = timm.get_pretrained_cfg(f'revcol_{arch}')
    assert (cfg.num_classes, cfg.input_size, cfg.classifier) == (1000, (3, 224, 224), 'cls.fc')
    assert cfg.first_conv == 'backbone.stem.0'
    assert bool(cfg.url) == (arch != 'xlarge')
    assert not cfg.url or cfg.url.endswith('.pth')
    assert not cfg.url or f'revcol_{arch}_' in cfg.url


def test_features_are_those_of_the_backbone_and_as_feature_info_says():
    model = timm.create_model('revcol_tiny', pretrained=False, features_only=True).eval()
    x = image()
    features = model(x)
    for feature, expected in zip(features, model.model.backbone(x), strict=True):
        assert torch.equal(feature, expected)
    sizes = [(feature.shape[1], 64 // feature.shape[2]) for feature in features]
    info = model.feature_info
    assert sizes == list(zip(info.channels(), info.reduction(), strict=True))


def test_levels_can_be_chosen():
    model = timm.create_model('revcol_tiny', features_only=True, out_indices=(1, 3))
    assert [feature.shape[1] for feature in model(image())] == [16, 32]
    assert model.feature_info.channels() == [16, 32]


def test_the_hooks_of_timm_see_the_same_features():
    model = timm.create_model(
        'revcol_tiny', features_only=True, out_indices=(0, 2), feature_cls='hook'
    ).eval()
    backbone = next(module for module in model.modules() if isinstance(module, RevCol))
    x = image()
    levels = backbone(x)
    for feature, expected in zip(model(x), (levels[0], levels[2]), strict=True):
        assert torch.equal(feature, expected)


def test_a_classifier_gives_logits_by_pooling_norm_and_linear():
    model = timm.create_model('revcol_tiny', num_classes=7).eval()
    x = image()
    logits = model(x)
    assert logits.shape == (2, 7)
    pooled = model.forward_features(x).mean((2, 3))
    head = model.cls
    normed = torch.nn.functional.layer_norm(
        pooled, (32,), head.norm.weight, head.norm.bias, eps=1e-6
    )
    torch.testing.assert_close(logits, head.fc(normed))
    torch.testing.assert_close(model.forward_head(model.forward_features(x), True), normed)
    assert {key for key in model.state_dict() if not key.startswith('backbone.')} == {
        f'cls.{layer}.{kind}' for layer in ('norm', 'fc') for kind in ('weight', 'bias')
    }


def test_a_classifier_has_a_thousand_classes_unless_told_otherwise():
    model = timm.create_model('revcol_tiny')
    assert (model.num_classes, model.get_classifier().out_features) == (1000, 1000)
    assert model.num_features == 32


def test_the_classifier_can_be_replaced_and_removed():
    model = timm.create_model('revcol_tiny', num_classes=7)
    model.reset_classifier(3)
    assert model(image()).shape == (2, 3)
    assert model.get_classifier().weight.std().item() == pytest.approx(0.02, rel=0.4)
    model.reset_classifier(0)
    assert (model.num_classes, model(image()).shape) == (0, (2, 32))


def test_without_pooling_the_head_works_at_every_position():
    model = timm.create_model('revcol_tiny', num_classes=7, global_pool='').eval()
    assert model(image()).shape == (2, 7, 2, 2)
    model.reset_classifier(0)
    assert model(image()).shape == (2, 32, 2, 2)
    model.reset_classifier(5, 'avg')
    assert model(image()).shape == (2, 5)
    with pytest.raises(ValueError, match="global_pool='middle' is not allowed"):
        model.reset_classifier(5, 'middle')


def test_a_model_is_built_on_a_device_in_a_dtype():
    model = timm.create_model('revcol_tiny', device='meta', dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {('meta', torch.bfloat16)}


@pytest.mark.parametrize('level', range(4))
@pytest.mark.parametrize('prune_norm', [False, True])
def test_pruning_removes_what_the_chosen_levels_do_not_need(level, prune_norm):
    model = timm.create_model('revcol_tiny').eval()
    expected = model.forward_intermediates(image(), indices=[level], intermediates_only=True)
    assert model.prune_intermediate_layers([level], prune_norm=prune_norm) == [level]
    features = model.forward_features(image())
    assert features.shape[1] == model.num_features == TINY['channels'][level]
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert len(expected) == 1
    assert model(image()).shape == features.shape


def test_pruning_keeps_the_values():
    model, x = timm.create_model('revcol_tiny').eval(), image()
    _, expected = model.forward_intermediates(x)
    model.prune_intermediate_layers([0, 1])
    last, found = model.forward_intermediates(x, indices=[0, 1])
    torch.testing.assert_close(found, expected[:2])
    assert torch.equal(last, found[1])


def test_a_symbolic_trace_computes_the_same():
    model = timm.create_model('revcol_tiny', num_classes=5).eval()
    leaves = timm.models.get_notrace_modules()
    extract = create_feature_extractor(model, ['cls.fc'], tracer_kwargs={'leaf_modules': leaves})
    x = image()
    torch.testing.assert_close(extract(x)['cls.fc'], model(x))


@pytest.mark.parametrize('save_memory', [False, True])
def test_a_recorded_trace_computes_the_same(save_memory):
    model = timm.create_model('revcol_tiny', num_classes=5, save_memory=save_memory).eval()
    traced = torch.jit.trace(model, image())
    x = image()
    torch.testing.assert_close(traced(x), model(x))


def test_intermediates_come_with_the_last_level():
    model = timm.create_model('revcol_tiny').eval()
    last, levels = model.forward_intermediates(image(), indices=[0, 3])
    assert [level.shape[1] for level in levels] == [8, 32]
    assert torch.equal(last, levels[1])


def test_drop_path_and_memory_saving_reach_the_backbone():
    model = timm.create_model('revcol_tiny', drop_path_rate=0.3, kernel_size=5)
    rates = [rate for rates in model.backbone.subnet0.drop_path_rates for rate in rates]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    assert model.backbone.kernel_size == 5
    model.set_grad_checkpointing()
    assert model.backbone.save_memory
    model(image()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_alpha_takes_no_weight_decay_in_timms_optimizers():
    model = timm.create_model('revcol_tiny')
    decayed, spared = param_groups_weight_decay(
        model, 0.05, no_weight_decay_list=model.no_weight_decay()
    )
    if decayed['weight_decay'] == 0:
        decayed, spared = spared, decayed
    alphas = {id(parameter) for name, parameter in model.named_parameters() if '.alpha' in name}
    assert len(alphas) == 8
    assert alphas <= {id(parameter) for parameter in spared['params']}


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'in_chans': 0}, 'in_channels=0 is not allowed'),
        ({'global_pool': 'middle'}, "global_pool='middle' is not allowed"),
        ({'drop_path_rate': 1.5}, 'drop_path_rate=1.5'),
    ],
)
def test_a_wrong_argument_is_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        timm.create_model('revcol_tiny', **options)


@pytest.fixture
def published(tmp_path):
    """A file in the published layout, with a head that no RevCol here has."""
    source = RevCol(TINY)
    path = tmp_path / 'revcol_tiny_1k.pth'
    head = {'cls.classifier.1.weight': torch.zeros(1000, 32)}
    torch.save({'model': {**source.state_dict(), **head}}, path)
    return source, path


@pytest.mark.parametrize('given', ['pretrained_cfg', 'pretrained_cfg_overlay'])
@pytest.mark.parametrize(
    'options', [{'features_only': True}, {'num_classes': 0}, {'num_classes': 5}]
)
def test_pretrained_loads_the_backbone_of_a_published_file(
    options, given, published, tmp_path, monkeypatch
):
    source, path = published
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    cfg = timm.get_pretrained_cfg('revcol_tiny').to_dict() if given == 'pretrained_cfg' else {}
    with serve(path.read_bytes()) as server:
        cfg['url'] = server.url(path.name)
        model = timm.create_model('revcol_tiny', pretrained=True, **{given: cfg}, **options)
    loaded = getattr(model, 'model', model).backbone.state_dict()
    for key, value in source.state_dict().items():
        assert torch.equal(loaded[key], value)


@pytest.mark.parametrize('channels', [1, 4])
def test_pretrained_weights_are_adapted_to_other_images_as_timm_does(
    channels, published, tmp_path, monkeypatch
):
    source, path = published
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    with serve(path.read_bytes()) as server:
        model = timm.create_model(
            'revcol_tiny',
            pretrained=True,
            num_classes=0,
            in_chans=channels,
            pretrained_cfg_overlay=dict(url=server.url(path.name)),
        )
    first = source.stem[0].weight
    expected = first.sum(1, keepdim=True)
    if channels == 4:
        expected = torch.cat([first, first[:, :1]], dim=1) * 3 / 4
    torch.testing.assert_close(model.backbone.stem[0].weight, expected)
    assert model(torch.rand(1, channels, 64, 64)).shape == (1, 32)


def test_a_classifier_trained_here_loads_with_its_head(tmp_path):
    path = tmp_path / 'trained.pth'
    trained = timm.create_model('revcol_tiny')
    torch.save(trained.state_dict(), path)
    overlay = dict(file=str(path))
    model = timm.create_model('revcol_tiny', pretrained=True, pretrained_cfg_overlay=overlay)
    for key, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(RevCol(dict(TINY, columns=3)).state_dict(), path)
    with pytest.raises(ValueError, match='unexpected subnet2.alpha0'):
        timm.create_model(
            'revcol_tiny',
            pretrained=True,
            num_classes=0,
            pretrained_cfg_overlay=dict(file=str(path)),
        )


def test_an_untrained_imagenet_head_is_not_passed_off_as_pretrained(published):
    _, path = published
    with pytest.raises(ValueError, match='head of 1000 classes would be untrained'):
        timm.create_model(
            'revcol_tiny', pretrained=True, pretrained_cfg_overlay=dict(file=str(path))
        )


def test_the_weights_of_a_timm_model_load_into_the_backbone(tmp_path):
    model = timm.create_model('revcol_tiny', num_classes=5)
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    backbone = RevCol(TINY)
    load_pretrained(backbone, str(tmp_path / 'trained.pth'))
    assert torch.equal(backbone.stem[0].weight, model.backbone.stem[0].weight)


def test_detection_and_segmentation_do_not_need_timm():
    package = Path(timm_models.__file__).parents[1]
    importing = [
        path.relative_to(package).as_posix()
        for path in package.rglob('*.py')
        if re.search(r'^\s*(from|import) [\w.]*timm', path.read_text(), re.MULTILINE)
    ]
    # Pre-training is installed with timm, by the extra [cls].
    assert sorted(importing) == [
        'integrations/timm.py',
        'integrations/timm_columns.py',
        'integrations/timm_model.py',
        'integrations/timm_stages.py',
        'pretraining/transforms.py',
        'transformers/swin_columns.py',
    ]


@pytest.mark.slow
def test_a_model_on_the_hugging_face_hub_is_published_and_created_by_its_address(tmp_path):
    with hub(tmp_path / 'hub') as server:
        result = server.run_python(PUSH_AND_CREATE)
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stdout.splitlines()[-1] == 'the same logits'
        folder = tmp_path / 'hub' / 'user' / 'pets'
        config = json.loads((folder / 'config.json').read_text())
        assert (config['architecture'], config['num_classes']) == ('revcol_tiny', 3)
        assert {path.name for path in folder.iterdir()} == {
            *('README.md', 'config.json', 'model.safetensors'),
        }
