"""Weights are read from every file that torch wrote, and no file gets to run anything."""

from __future__ import annotations

import argparse
import collections
import os
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from revcol_backbone.checkpoints.reading import read_checkpoint, read_weights
from tests.malicious import Calls

WEIGHTS = {'stem.0.weight': torch.arange(6.0).reshape(2, 3)}


class ConfigNode(dict):
    """Saved like the configuration nodes of published training scripts: items and attributes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.immutable = True


class SlottedRecord:
    __slots__ = ('value',)


class NamedList(list):
    pass


def slotted_record():
    record = SlottedRecord()
    record.value = 1
    return record


def assert_holds_the_weights(weights):
    assert list(weights) == list(WEIGHTS)
    for key, value in WEIGHTS.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'file.pth'


@pytest.mark.parametrize('wrap', [dict, lambda w: {'model': w}, lambda w: {'state_dict': w}])
@pytest.mark.parametrize('zipped', [True, False])
def test_weights_are_found_bare_or_under_their_entry(path, wrap, zipped):
    torch.save(wrap(WEIGHTS), path, _use_new_zipfile_serialization=zipped)
    assert_holds_the_weights(read_weights(path))


def test_weights_are_read_from_safetensors(tmp_path):
    path = tmp_path / 'file.safetensors'
    save_file(WEIGHTS, path)
    assert_holds_the_weights(read_weights(path))


def test_missing_safetensors_package_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / 'file.safetensors'
    save_file(WEIGHTS, path)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        read_weights(path)


@pytest.mark.parametrize(
    'extra',
    [
        ConfigNode(MODEL=ConfigNode(NAME='revcol')),
        argparse.Namespace(lr=1e-3),
        slotted_record(),
        NamedList([1, 2]),
        collections.defaultdict(list, {'a': [1]}),
        {argparse.Namespace: 1},
        np.float64(0.8),
        np.arange(3),
        np.dtype('float32'),
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0),
    ],
    ids=lambda extra: type(extra).__name__,
)
def test_objects_beside_the_weights_do_not_hinder_reading_them(path, extra):
    torch.save({'model': WEIGHTS, 'epoch': 299, 'config': extra}, path)
    assert_holds_the_weights(read_weights(path))
    assert read_checkpoint(path)['epoch'] == 299


def test_log_says_what_was_left_out(path, log):
    torch.save({'model': WEIGHTS, 'args': argparse.Namespace()}, path)
    read_weights(path)
    assert (
        f'{path}: left out the Python objects beside the weights (argparse.Namespace)' in log.text
    )


def malicious_objects(witness):
    command = f'touch {witness}'
    return {
        'eval': Calls(eval, f'open({str(witness)!r}, "w")'),
        'open': Calls(open, str(witness), 'w'),
        'getattr': Calls(Calls(getattr, Calls(__import__, 'os'), 'system'), command),
        'map': Calls(list, Calls(map, eval, [f'open({str(witness)!r}, "w")'])),
        'system': Calls(os.system, command),
    }


@pytest.mark.parametrize('attack', malicious_objects(''))
def test_attacks_of_these_tests_work_on_an_unprotected_reader(tmp_path, path, attack):
    witness = tmp_path / 'witness'
    torch.save({'config': malicious_objects(witness)[attack]}, path)
    torch.load(path, weights_only=False)
    assert witness.exists()


@pytest.mark.parametrize('attack', ['eval', 'open', 'map'])
def test_calls_beside_the_weights_are_not_made(tmp_path, path, attack):
    witness = tmp_path / 'witness'
    torch.save({'model': WEIGHTS, 'config': malicious_objects(witness)[attack]}, path)
    assert_holds_the_weights(read_weights(path))
    assert not witness.exists()


@pytest.mark.parametrize(
    ('attack', 'zipped'),
    [('getattr', True), ('system', True), *((name, False) for name in malicious_objects(''))],
)
def test_files_whose_calls_cannot_be_left_out_are_refused(tmp_path, path, attack, zipped):
    witness = tmp_path / 'witness'
    content = {'model': WEIGHTS, 'config': malicious_objects(witness)[attack]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'file.pth (was not read|is not a checkpoint)'):
        read_weights(path)
    assert not witness.exists()


def test_command_of_the_operating_system_is_named_in_the_refusal(path):
    torch.save({'model': WEIGHTS, 'config': Calls(os.system, 'true')}, path)
    with pytest.raises(ValueError, match=r'file.pth was not read, because it asks for \w+\.system'):
        read_weights(path)


def test_old_format_with_unknown_objects_is_refused_by_name(path):
    torch.save(
        {'model': WEIGHTS, 'args': argparse.Namespace()}, path, _use_new_zipfile_serialization=False
    )
    with pytest.raises(ValueError, match=r'asks for argparse.Namespace'):
        read_weights(path)


def test_reading_leaves_no_class_allowed_for_others(path):
    before = set(torch.serialization.get_safe_globals())
    torch.save({'model': WEIGHTS, 'args': argparse.Namespace()}, path)
    read_weights(path)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('fraction', [0.0, 0.01, 0.5, 0.99])
def test_truncated_file_is_named_as_such(path, zipped, fraction):
    torch.save({'w': torch.rand(5000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(ValueError, match=r'file.pth is (empty|not a checkpoint, or it is damaged)'):
        read_weights(path)


def test_truncated_safetensors_is_named_as_such(tmp_path):
    path = tmp_path / 'file.safetensors'
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r'file.safetensors is .* cut short'):
        read_weights(path)


def test_single_wrong_byte_among_the_weights_is_found(path):
    torch.save({'w': torch.ones(5000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(np.ones(1, 'float32').tobytes() * 9)] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"its part '\w+/data/0' does not match its checksum"):
        read_weights(path)


def test_file_saved_without_checksums_is_read(path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_holds_the_weights(read_weights(path))


def test_recompressed_file_is_read(tmp_path, path):
    torch.save(WEIGHTS, tmp_path / 'stored.pth')
    with (
        zipfile.ZipFile(tmp_path / 'stored.pth') as stored,
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as compressed,
    ):
        for record in stored.infolist():
            compressed.writestr(record.filename, stored.read(record))
    assert_holds_the_weights(read_weights(path))


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ([1, 2], 'not a checkpoint: it holds one list'),
        (torch.ones(2), 'not a checkpoint: it holds one Tensor'),
        ({'epoch': 3, 'lr': 0.1}, "holds no weights: its entries are 'epoch', 'lr'"),
        ({}, 'holds no weights: its entries are none'),
    ],
)
def test_file_without_a_state_dict_says_what_it_holds(path, content, reason):
    torch.save(content, path)
    with pytest.raises(ValueError, match=reason):
        read_weights(path)


@pytest.mark.parametrize('content', [b'<html>404</html>', b'\x00' * 50, b'PK\x03\x04' + b'x' * 50])
def test_other_file_is_no_checkpoint(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'file.pth is not a checkpoint'):
        read_weights(path)
