"""Whatever bytes a checkpoint has: it is read as it was written, or refused in one sentence.

``REVCOL_GENERATED_CASES=20000`` draws that many files instead of the 1,000 of the suite.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from revcol_backbone import RevCol
from revcol_backbone.checkpoints.finetuned import fit_weights
from revcol_backbone.checkpoints.pretrained import load_pretrained
from revcol_backbone.checkpoints.reading import read_checkpoint
from revcol_backbone.checkpoints.state_dict import shapes_of

CASES = int(os.environ.get('REVCOL_GENERATED_CASES', '1000'))
ARCH = dict(channels=(2, 3, 4, 5), layers=(1, 1, 1, 1), columns=2)
BACKBONE = RevCol(ARCH)
# Names whose call would be seen: whoever unpickles without protection gets to them.
DANGEROUS = ('os.system', 'builtins.eval', 'builtins.exec', 'subprocess.Popen', 'builtins.open')


def cases(share: float) -> Callable:
    return settings(
        max_examples=max(round(CASES * share), 1),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def saved(content: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


SMALL = {'stem.0.weight': torch.arange(6.0).reshape(2, 3), 'steps': torch.tensor(3)}
SOUND = {
    'zip.pth': saved({'state_dict': SMALL, 'meta': {'epoch': 3}}),
    'legacy.pth': saved({'state_dict': SMALL, 'meta': {'epoch': 3}}, zipped=False),
    'file.safetensors': save_safetensors(SMALL),
}


def called(*arguments: object, **_: object) -> None:
    """Take the place of what no file may call."""
    raise AssertionError(f'code of the file ran: {arguments}')


def read(path: Path) -> dict | None:
    """The content, or ``None`` if the file is refused as a user wants to read it."""
    try:
        with (
            mock.patch.object(os, 'system', called),
            mock.patch.object(subprocess, 'Popen', called),
            mock.patch.object(builtins, 'eval', called),
        ):
            return read_checkpoint(path)
    except ValueError as error:
        message = str(error)
        assert str(path) in message
        assert '\n' not in message
        return None


changes = st.lists(
    st.tuples(
        st.sampled_from(('flip', 'cut', 'insert', 'zero')),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=3,
)


@cases(0.47)
@given(st.sampled_from(sorted(SOUND)), changes)
def test_a_damaged_file_is_refused_or_has_what_is_left_of_it(tmp_path, name, changes):
    content = bytearray(SOUND[name])
    for change, place, value in changes:
        at = int(place * len(content))
        if change == 'flip' and content:
            content[at] ^= value or 1
        elif change == 'cut':
            del content[at:]
        elif change == 'insert':
            content[at:at] = bytes([value]) * 3
        else:
            content[at : at + value] = bytes(len(content[at : at + value]))
    path = tmp_path / name
    path.write_bytes(content)
    found = read(path)
    if found is not None and name == 'zip.pth' and 'state_dict' in found:
        # Every part of these has a checksum.
        for key, value in SMALL.items():
            if key in found['state_dict']:
                assert torch.equal(found['state_dict'][key], value)


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
contents = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@cases(0.23)
@given(contents, st.booleans())
def test_any_content_is_returned_or_refused(tmp_path, content, zipped):
    path = tmp_path / 'file.pth'
    path.write_bytes(saved(content, zipped))
    found = read(path)
    if isinstance(content, dict):
        assert repr(found) == repr(content)
    else:
        assert found is None


class Asks:
    """Pickles as a call of any function by its name."""

    def __init__(self, name: str, arguments: tuple) -> None:
        self.name, self.arguments = name, arguments

    def __reduce__(self) -> tuple:
        module, _, function = self.name.rpartition('.')
        return getattr(sys.modules[module], function), self.arguments


@cases(0.23)
@given(
    st.sampled_from(DANGEROUS),
    st.text(alphabet='abc /.', max_size=10),
    st.sampled_from(('meta', 'state_dict', 'model', 'optimizer', 'deep')),
    st.integers(2, 4),
)
def test_no_function_that_a_file_names_is_called(tmp_path, name, argument, entry, protocol):
    asks = Asks(name, (str(tmp_path / argument.replace('/', '_') / 'mark'), 'w'))
    content = {'state_dict': dict(SMALL), entry: [{'deep': asks}] if entry == 'deep' else asks}
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol)
    path = tmp_path / 'file.pth'
    path.write_bytes(buffer.getvalue())
    before = sorted(tmp_path.iterdir())
    read(path)
    assert sorted(tmp_path.iterdir()) == before
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert read(path) is None


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
edits = st.dictionaries(
    st.sampled_from(sorted(BACKBONE.state_dict())),
    st.one_of(
        st.just('missing'),
        st.just('renamed'),
        st.just('sparse'),
        st.just('not finite'),
        st.just('text'),
        shapes,
    ),
    min_size=0,
    max_size=3,
)


@cases(0.07)
@given(edits)
def test_weights_load_whole_or_not_at_all_through_every_door(tmp_path, edits):
    weights, fits = {}, True
    for key, value in BACKBONE.state_dict().items():
        edit = edits.get(key)
        if edit == 'renamed':
            weights[f'{key}x'] = value
        elif edit == 'sparse':
            weights[key] = value.to_sparse()
        elif edit == 'not finite':
            weights[key] = torch.full_like(value, torch.nan)
        elif edit == 'text':
            weights[key] = 'text'
        elif isinstance(edit, tuple):
            weights[key] = torch.zeros(edit)
            fits &= edit == tuple(value.shape)
            continue
        elif edit is None:
            weights[key] = value + 1
        fits &= edit is None
    path = tmp_path / 'file.pth'
    torch.save(weights, path)
    model = RevCol(ARCH)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    doors = (
        lambda: load_pretrained(model, str(path)),
        lambda: fit_weights(read_checkpoint(path), shapes_of(before), path, Silent()),
    )
    for door in doors:
        if fits:
            door()
        else:
            with pytest.raises(ValueError, match='nothing was loaded'):
                door()
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key] if fits else before[key]), key


class Silent:
    """A logger for which nothing is worth a line."""

    def info(self, message: str) -> None:
        """Ignore it."""
