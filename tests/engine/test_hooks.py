"""Loading fine-tuned files through mmengine's runner: old ones, damaged ones, other models'."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader, Runner

from revcol_backbone import RevCol
from tests.configs import TINY, mim
from tests.malicious import Calls
from tests.old_checkpoints import fill, old_cascade_shapes, old_upernet_shapes, save_with_objects
from tests.tiny_data import CLASSES
from tests.tiny_runs import tiny_detector, tiny_segmentor


@pytest.fixture(autouse=True)
def _keep_loaders(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))


@pytest.fixture
def detector(tmp_path):
    return tiny_detector('revcol_t_cascade', tmp_path)


@pytest.fixture
def segmentor(tmp_path):
    return tiny_segmentor('revcol_t_upernet', tmp_path, images=1)


@pytest.fixture
def old_detector_weights():
    heads = old_cascade_shapes(TINY['channels'], width=16, fc=32, classes=len(CLASSES))
    return {**backbone_weights(), **fill(heads)}


@pytest.fixture
def old_segmentor_weights():
    heads = old_upernet_shapes(TINY['channels'], width=16, auxiliary=8, classes=150)
    return {**backbone_weights(), **fill(heads)}


def backbone_weights():
    torch.manual_seed(1)
    return {f'backbone.{key}': value for key, value in RevCol(TINY).state_dict().items()}


def run_test(config, checkpoint):
    """Test as ``mim test`` does; returns the runner, the metrics and the log."""
    config = copy.deepcopy(config)
    config.load_from = str(checkpoint)
    runner = Runner.from_cfg(config)
    metrics = runner.test()
    return runner, metrics, log_of(config)


def log_of(config):
    return ''.join(path.read_text() for path in Path(config.work_dir).rglob('*.log'))


def assert_loaded(runner, weights):
    loaded = runner.model.state_dict()
    for key, value in weights.items():
        assert torch.equal(loaded[key], value), key


def test_a_detector_of_mmdet_2_loads_whole(detector, old_detector_weights, tmp_path):
    path = save_with_objects(old_detector_weights, tmp_path / 'old.pth')
    runner, metrics, log = run_test(detector, path)
    assert_loaded(runner, old_detector_weights)
    assert 'coco/segm_mAP' in metrics
    assert 'left out the Python objects beside the weights (mmcv.utils.config.ConfigDict)' in log
    assert f'Load checkpoint from {path}' in log
    assert 'do not match' not in log
    assert 'mapped' not in log


def test_a_segmentor_of_mmseg_0_loads_whole(segmentor, old_segmentor_weights, tmp_path):
    path = save_with_objects(old_segmentor_weights, tmp_path / 'old.pth')
    runner, metrics, log = run_test(segmentor, path)
    assert_loaded(runner, old_segmentor_weights)
    assert 'mIoU' in metrics
    assert 'do not match' not in log


def test_weights_bare_or_under_model_or_of_a_distributed_run_load_too(
    segmentor, old_segmentor_weights, tmp_path
):
    path = tmp_path / 'weights.pth'
    wrapped = {f'module.{key}': value for key, value in old_segmentor_weights.items()}
    for content in (old_segmentor_weights, {'model': wrapped}):
        torch.save(content, path)
        runner, _, _ = run_test(segmentor, path)
        assert_loaded(runner, old_segmentor_weights)


def test_heads_of_the_pre_training_that_stayed_in_the_backbone_are_left_out(
    segmentor, old_segmentor_weights, tmp_path
):
    path = tmp_path / 'weights.pth'
    head = {'backbone.cls.fc.weight': torch.zeros(3)}
    torch.save({'state_dict': {**old_segmentor_weights, **head}}, path)
    _, _, log = run_test(segmentor, path)
    assert f'{path}: left out backbone.cls.fc.weight' in log


def change_shape(weights):
    weights['decode_head.conv_seg.weight'] = torch.zeros(19, 16, 1, 1)


def make_sparse(weights):
    weights['decode_head.conv_seg.bias'] = weights['decode_head.conv_seg.bias'].to_sparse()


def quantize(weights):
    bias = weights['decode_head.conv_seg.bias']
    weights['decode_head.conv_seg.bias'] = torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8)


def make_complex(weights):
    weights['decode_head.conv_seg.bias'] = weights['decode_head.conv_seg.bias'] + 1j


def drop_backbone(weights):
    for key in [key for key in weights if key.startswith('backbone.')]:
        del weights[key]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda weights: weights.pop('decode_head.conv_seg.bias'), 'missing decode_head.conv_seg'),
        (lambda weights: weights.update(extra=torch.zeros(1)), 'unexpected extra;'),
        (change_shape, r'of another shape decode_head.conv_seg.weight \(19, 16, 1, 1\) for the'),
        (make_sparse, 'not a dense real tensor decode_head.conv_seg.bias;'),
        (quantize, 'not a dense real tensor decode_head.conv_seg.bias;'),
        (make_complex, 'not a dense real tensor decode_head.conv_seg.bias;'),
        (drop_backbone, r'missing backbone.stem.0.weight, .* and \d+ more'),
    ],
)
def test_a_file_that_does_not_fit_is_an_error_and_nothing_is_loaded(
    change, words, segmentor, old_segmentor_weights, tmp_path
):
    change(old_segmentor_weights)
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': old_segmentor_weights}, path)
    with pytest.raises(ValueError, match=words) as error:
        run_test(segmentor, path)
    assert f'{path} does not fit the model of this config, and nothing was loaded' in str(
        error.value
    )


def test_weights_that_are_not_finite_are_an_error(segmentor, old_segmentor_weights, tmp_path):
    old_segmentor_weights['backbone.subnet1.alpha2'][0, 3] = float('nan')
    path = tmp_path / 'diverged.pth'
    torch.save({'state_dict': old_segmentor_weights}, path)
    with pytest.raises(
        ValueError, match=r'NaN or infinite \(backbone.subnet1.alpha2\), and nothing'
    ):
        run_test(segmentor, path)


def test_the_file_of_a_backbone_alone_is_refused_with_its_place(segmentor, tmp_path):
    path = tmp_path / 'revcol_tiny_1k.pth'
    torch.save({'model': RevCol(TINY).state_dict()}, path)
    with pytest.raises(ValueError, match='belongs to `model.backbone.init_cfg.checkpoint`'):
        run_test(segmentor, path)


def test_a_malicious_file_runs_nothing(segmentor, old_segmentor_weights, tmp_path):
    mark = tmp_path / 'mark'
    path = tmp_path / 'malicious.pth'
    torch.save({'state_dict': old_segmentor_weights, 'meta': Calls(os.mkdir, str(mark))}, path)
    with pytest.raises(ValueError, match='it asks for posix.mkdir'):
        run_test(segmentor, path)
    assert not mark.exists()


def test_training_starts_from_a_model_with_other_classes_but_not_with_another_backbone(
    segmentor, old_segmentor_weights, tmp_path
):
    segmentor.train_cfg.max_iters = 1
    segmentor.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
    change_shape(old_segmentor_weights)
    path = tmp_path / 'cityscapes.pth'
    torch.save({'state_dict': old_segmentor_weights}, path)
    segmentor.load_from = str(path)
    runner = Runner.from_cfg(copy.deepcopy(segmentor))
    runner.train()
    assert_loaded(
        runner, {'backbone.subnet1.alpha2': old_segmentor_weights['backbone.subnet1.alpha2']}
    )

    drop_backbone(old_segmentor_weights)
    torch.save({'state_dict': old_segmentor_weights}, path)
    with pytest.raises(ValueError, match='missing backbone.stem.0.weight'):
        Runner.from_cfg(copy.deepcopy(segmentor)).train()


@pytest.mark.slow
def test_mim_tests_a_detector_of_mmdet_2_or_says_why_not(detector, old_detector_weights, tmp_path):
    path = save_with_objects(old_detector_weights, tmp_path / 'old.pth')
    arguments = ('test', 'mmdet', tmp_path / 'config.py', '--checkpoint', path)
    detector.dump(tmp_path / 'config.py')
    output = mim(*arguments, cwd=tmp_path)
    assert f'Load checkpoint from {path}' in output
    assert 'coco/segm_mAP' in output

    del old_detector_weights['rpn_head.rpn_cls.bias']
    save_with_objects(old_detector_weights, path)
    output = mim(*arguments, cwd=tmp_path, succeeds=False)
    assert 'nothing was loaded: missing rpn_head.rpn_cls.bias; give the checkpoint' in output


@pytest.mark.slow
def test_mim_tests_a_segmentor_of_mmseg_0_or_says_why_not(
    segmentor, old_segmentor_weights, tmp_path
):
    path = save_with_objects(old_segmentor_weights, tmp_path / 'old.pth')
    arguments = ('test', 'mmseg', tmp_path / 'config.py', '--checkpoint', path)
    segmentor.dump(tmp_path / 'config.py')
    output = mim(*arguments, cwd=tmp_path)
    assert f'Load checkpoint from {path}' in output
    assert 'mIoU' in output

    change_shape(old_segmentor_weights)
    save_with_objects(old_segmentor_weights, path)
    output = mim(*arguments, cwd=tmp_path, succeeds=False)
    assert 'nothing was loaded: of another shape decode_head.conv_seg.weight' in output
