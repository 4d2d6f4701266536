"""Files are written atomically, and a checkpoint's bytes depend on its content alone."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch
from safetensors.torch import load_file

from revcol_backbone.checkpoints.writing import SUFFIXES, write_atomically, write_checkpoint

WEIGHTS = {'weight': torch.arange(6.0).reshape(2, 3), 'steps': torch.tensor(3)}
META = {'epoch': 3, 'dataset_meta': {'classes': ('cat', 'dog')}}


class FailsToSave:
    def __reduce__(self) -> tuple:
        raise OSError('No space left on device')


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_into_a_folder_that_is_made(tmp_path):
    path = tmp_path / 'new' / 'result.json'
    assert write_atomically(path, lambda partial: partial.write_text('all of it')) == path
    assert path.read_text() == 'all of it'
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / 'result.json'
    path.write_text('before')

    def fail(partial):
        partial.write_text('half')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('suffix', ['.pth', '.pt'])
def test_pickled_file_holds_meta_and_weights_for_any_reader(tmp_path, suffix):
    path = write_checkpoint(WEIGHTS, META, tmp_path / f'file{suffix}')
    loaded = torch.load(path, weights_only=True)
    assert loaded['meta'] == META
    torch.testing.assert_close(loaded['state_dict'], WEIGHTS)
    assert files_in(tmp_path) == [path.name]


def test_safetensors_hold_the_weights(tmp_path):
    path = write_checkpoint(WEIGHTS, META, tmp_path / 'file.safetensors')
    torch.testing.assert_close(load_file(path), WEIGHTS)
    assert files_in(tmp_path) == ['file.safetensors']


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_published_name_has_the_hash_of_the_file_whatever_it_was_called(tmp_path, suffix):
    first = write_checkpoint(WEIGHTS, META, tmp_path / f'first{suffix}', publish=True)
    other = write_checkpoint(WEIGHTS, META, tmp_path / f'other{suffix}', publish=True)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()[:8]
    assert first.name == f'first-{digest}{suffix}'
    assert other.name == f'other-{digest}{suffix}'


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_written_file_can_be_read_by_whom_other_files_can(tmp_path, suffix):
    (tmp_path / 'other').touch()
    path = write_checkpoint(WEIGHTS, {}, tmp_path / f'file{suffix}')
    assert path.stat().st_mode == (tmp_path / 'other').stat().st_mode


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_views_and_tied_weights_are_written_as_what_they_show(tmp_path, suffix):
    large = torch.rand(100_000, 2)
    weights = {'view': large[:2], 'tied': large[:2], 'transposed': large[:2].T}
    path = write_checkpoint(weights, {}, tmp_path / f'file{suffix}')
    loaded = load_file(path) if suffix == '.safetensors' else torch.load(path)['state_dict']
    torch.testing.assert_close(loaded, weights)
    assert path.stat().st_size < 10_000


def test_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'file.pth'
    path.write_bytes(b'old')
    with pytest.raises(OSError, match='No space left'):
        write_checkpoint(WEIGHTS, {'broken': FailsToSave()}, path)
    assert path.read_bytes() == b'old'
    assert files_in(tmp_path) == ['file.pth']


def test_missing_safetensors_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        write_checkpoint(WEIGHTS, {}, tmp_path / 'file.safetensors')
    assert files_in(tmp_path) == []
