"""A converted checkpoint is smaller, loads like the original, and never replaces it."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file

from revcol_backbone import RevCol, load_pretrained
from tests.golden import TOY_ARCHITECTURES, fill, image
from tests.malicious import Calls
from tests.tools.commands import error_of
from tools.convert_checkpoint import main

TOY = TOY_ARCHITECTURES['toy_k3']['arch']
SCRIPT = Path(__file__).parents[2] / 'tools' / 'convert_checkpoint.py'
HEADS = {'cls.0.weight': torch.ones(3, 64), 'cls.0.steps': torch.tensor(7)}
META = {
    'epoch': 36,
    'cfg': 'model = dict()',
    'dataset_meta': ConfigDict(classes=('cat', 'dog'), palette=np.array([[1, 2, 3], [4, 5, 6]])),
    'env_info': argparse.Namespace(),
}


@pytest.fixture(scope='module')
def trained():
    """The state dict of a trained backbone."""
    return fill(RevCol(TOY)).state_dict()


@pytest.fixture
def classifier(tmp_path, trained):
    """A file like the published classification checkpoints."""
    path = tmp_path / 'classifier.pth'
    optimizer = {'state': {0: {'exp_avg': torch.zeros(10_000)}}}
    config = argparse.Namespace(lr=1e-3)
    model = trained | HEADS
    torch.save(
        {'model': model, 'model_ema': trained, 'optimizer': optimizer, 'config': config}, path
    )
    return path


@pytest.fixture
def detector(tmp_path, trained):
    """A file like those that mmengine writes while it trains with a moving average."""
    path = tmp_path / 'detector.pth'
    weights = {f'backbone.{key}': value for key, value in trained.items()}
    weights['neck.conv.weight'] = torch.ones(2, 2)
    hub = {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}}
    torch.save(
        {'state_dict': weights, 'ema_state_dict': weights, 'message_hub': hub, 'meta': META}, path
    )
    return path


def convert(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


def weights_in(path):
    if path.suffix == '.safetensors':
        return load_file(path)
    return torch.load(path, weights_only=True)['state_dict']


def features_of(path, kernel_size):
    model = RevCol(TOY, kernel_size=kernel_size).eval()
    load_pretrained(model, str(path))
    with torch.no_grad():
        return model(image((1, 3, 64, 64)))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_training_state_is_left_out_and_every_weight_kept(
    tmp_path, classifier, trained, suffix, capsys
):
    target = tmp_path / f'small{suffix}'
    convert(classifier, target)
    torch.testing.assert_close(weights_in(target), dict(trained) | HEADS, rtol=0, atol=0)
    assert 'omitted config, model_ema, optimizer\n' in capsys.readouterr().out
    assert target.stat().st_size < classifier.stat().st_size - 40_000


def test_class_names_stay_as_plain_values_that_any_reader_takes(tmp_path, detector, capsys):
    convert(detector, tmp_path / 'small.pth')
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        meta = torch.load(tmp_path / 'small.pth', weights_only=True)['meta']
    finally:
        torch.serialization.add_safe_globals(allowed)
    assert meta == {
        'epoch': 36,
        'cfg': 'model = dict()',
        'dataset_meta': {'classes': ('cat', 'dog'), 'palette': [[1, 2, 3], [4, 5, 6]]},
    }
    printed = capsys.readouterr().out
    assert 'omitted env_info of meta\n' in printed
    assert 'omitted ema_state_dict, message_hub\n' in printed


@pytest.mark.parametrize('source', ['classifier', 'detector'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_stripped_file_holds_the_backbone_alone(tmp_path, trained, source, suffix, request):
    target = tmp_path / f'small{suffix}'
    convert(request.getfixturevalue(source), target, '--strip-heads')
    torch.testing.assert_close(weights_in(target), dict(trained), rtol=0, atol=0)


@pytest.mark.parametrize('options', [[], ['--strip-heads']])
def test_padded_file_gives_the_same_features(tmp_path, detector, options):
    target = tmp_path / 'padded.pth'
    convert(detector, target, '--kernel-size', 7, *options)
    torch.testing.assert_close(
        features_of(target, kernel_size=7), features_of(detector, kernel_size=3)
    )


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_halves_the_file_and_keeps_integers(tmp_path, classifier, suffix, dtype):
    whole, half = tmp_path / f'whole{suffix}', tmp_path / f'half{suffix}'
    convert(classifier, whole)
    convert(classifier, half, '--dtype', dtype)
    weights = weights_in(half)
    assert weights.pop('cls.0.steps').dtype == torch.int64
    assert {value.dtype for value in weights.values()} == {getattr(torch, dtype)}
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    exact = weights_in(whole)
    for key, value in weights.items():
        torch.testing.assert_close(value, exact[key].to(value.dtype), rtol=0, atol=0)


def test_safetensors_convert_back(tmp_path, classifier, trained):
    convert(classifier, tmp_path / 'a.safetensors', '--strip-heads')
    convert(tmp_path / 'a.safetensors', tmp_path / 'b.pth')
    torch.testing.assert_close(weights_in(tmp_path / 'b.pth'), dict(trained), rtol=0, atol=0)


def test_published_file_carries_its_hash_and_the_same_input_gives_the_same_name(
    tmp_path, classifier
):
    for _ in range(2):
        convert(classifier, tmp_path / 'out' / 'revcol.pth', '--publish')
    (path,) = (tmp_path / 'out').iterdir()
    assert path.name == f'revcol-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'


def test_value_that_overflows_is_an_error(tmp_path):
    torch.save({'head.scale': torch.tensor([1e6])}, tmp_path / 'in.pth')
    message = error_of(main, tmp_path / 'in.pth', tmp_path / 'out.pth', '--dtype', 'float16')
    assert 'too large for float16 (head.scale); use bfloat16' in message
    convert(tmp_path / 'in.pth', tmp_path / 'out.pth', '--dtype', 'bfloat16')


@pytest.mark.parametrize('name', ['classifier.pth', 'link.pth', '../{folder}/classifier.pth'])
def test_input_is_never_overwritten(tmp_path, classifier, name):
    before = classifier.read_bytes()
    (tmp_path / 'link.pth').symlink_to(classifier)
    target = tmp_path / name.format(folder=tmp_path.name)
    assert 'is the input itself' in error_of(main, classifier, target, '--overwrite')
    assert classifier.read_bytes() == before


def test_other_file_is_overwritten_on_request_only(tmp_path, classifier):
    target = tmp_path / 'out.pth'
    target.write_bytes(b'mine')
    assert f'{target} exists; give another name or --overwrite' in error_of(
        main, classifier, target
    )
    assert target.read_bytes() == b'mine'
    convert(classifier, target, '--overwrite')
    assert 'stem.0.weight' in weights_in(target)


def test_incomplete_backbone_is_not_stripped_into_a_file(tmp_path, trained):
    torch.save({k: v for k, v in trained.items() if 'subnet1' not in k}, tmp_path / 'in.pth')
    message = error_of(main, tmp_path / 'in.pth', tmp_path / 'out.pth', '--strip-heads')
    assert 'does not fit the model' in message
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.filterwarnings('ignore:Validating sparse tensor')
@pytest.mark.parametrize(
    ('content', 'options', 'reason'),
    [
        ({'conv1.weight': torch.ones(2)}, ['--strip-heads'], 'no RevCol backbone, but no RevCol'),
        ({'conv1.weight': torch.ones(2)}, ['--kernel-size', 7], 'no depthwise kernels'),
        ({'conv1.weight': torch.ones(2).to_sparse()}, [], 'not dense real tensors'),
        ({'epoch': 3}, [], 'holds no weights'),
    ],
)
def test_file_that_cannot_be_converted_as_asked_says_why(tmp_path, content, options, reason):
    torch.save(content, tmp_path / 'in.pth')
    assert reason in error_of(main, tmp_path / 'in.pth', tmp_path / 'out.pth', *options)
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


@pytest.mark.parametrize(
    ('size', 'reason'),
    [(4, 'give a positive odd number'), (-1, 'give a positive odd number'), (1, 'become smaller')],
)
def test_kernel_sizes_that_make_no_sense_are_refused(tmp_path, classifier, size, reason):
    assert reason in error_of(main, classifier, tmp_path / 'out.pth', '--kernel-size', size)


def test_missing_input_and_unknown_suffix_are_named(tmp_path, classifier):
    assert 'missing.pth is not a file' in error_of(
        main, tmp_path / 'missing.pth', tmp_path / 'out.pth'
    )
    assert 'must end in one of .pth' in error_of(main, classifier, tmp_path / 'out.onnx')


def test_code_in_the_input_is_not_run(tmp_path, trained):
    torch.save(
        {'model': trained, 'config': Calls(os.mkdir, str(tmp_path / 'witness'))},
        tmp_path / 'in.pth',
    )
    message = error_of(main, tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert 'was not read, because it asks for ' in message
    assert not (tmp_path / 'witness').exists()


@pytest.mark.slow
def test_command_line_runs_from_any_folder(tmp_path, classifier):
    command = [sys.executable, SCRIPT, classifier, tmp_path / 'out.pth', '--strip-heads']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert f'wrote {tmp_path / "out.pth"} (' in done.stdout


def test_a_detector_moves_to_detectron2_and_back(tmp_path: Path) -> None:
    weights = {
        'backbone.stem.0.weight': torch.rand(4, 3),
        'roi_head.bbox_head.0.fc_reg.weight': torch.rand(4, 8),
        'roi_head.mask_head.0.conv_logits.bias': torch.rand(2),
    }
    torch.save({'meta': {'epoch': 36}, 'state_dict': weights}, tmp_path / 'mmdet.pth')
    there, back = tmp_path / 'detectron2.pth', tmp_path / 'back.pth'
    assert main([str(tmp_path / 'mmdet.pth'), str(there), '--to', 'detectron2']) == 0
    assert 'roi_heads.mask_head.predictor.bias' in torch.load(there)['model']
    assert main([str(there), str(back), '--from', 'detectron2']) == 0
    torch.testing.assert_close(torch.load(back)['state_dict'], weights, rtol=0, atol=0)
