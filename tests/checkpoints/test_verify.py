"""Fetching a published file: what the server says about it is checked."""

import hashlib
from contextlib import contextmanager

import pytest

from revcol_backbone.checkpoints.sources import download_verified, locate_checkpoint
from revcol_backbone.checkpoints.verify import Fingerprint, read_fingerprint
from tests.file_server import serve

CONTENT = b'weights' * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@contextmanager
def describing(status=200, **headers):
    """A file server that answers HEAD requests with these headers, underscores for hyphens."""

    def do_HEAD(handler):  # noqa: N802, the name that http.server looks for
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace('_', '-'), value)
        handler.end_headers()

    with serve(CONTENT) as server:
        handler = server.RequestHandlerClass
        server.RequestHandlerClass = type('Describing', (handler,), {'do_HEAD': do_HEAD})
        yield server


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))


def test_a_file_with_the_right_size_and_hash_is_returned(log):
    size = str(len(CONTENT))
    with describing(X_Linked_Size=size, X_Linked_ETag=f'"{SHA256}"') as server:
        path = download_verified(server.url('model.pth'))
    assert path.read_bytes() == CONTENT
    assert '7,000 bytes, size and sha256 as published' in log.text


def test_the_description_is_read_from_the_answer_that_redirects():
    with describing(302, Location='/elsewhere', X_Linked_Size='7', X_Linked_ETag=SHA256) as server:
        assert read_fingerprint(server.url('model.pth')) == Fingerprint(7, SHA256)


@pytest.mark.parametrize(
    ('name', 'digits'),
    [
        ('faster_rcnn_r50_20200130-047c8118.pth', '047c8118'),
        ('model-20210131.pth', None),  # a date
        ('model_047c8118.pth', None),
    ],
)
def test_a_hash_in_the_name_is_known_without_asking(name, digits):
    with serve(CONTENT) as server:
        assert read_fingerprint(server.url(name)).sha256 == digits


def test_a_first_download_is_checked_by_the_hash_in_its_name(tmp_path):
    with serve(CONTENT) as server:
        path = locate_checkpoint(server.url(f'model-{SHA256[:8]}.pth'))
        assert path.read_bytes() == CONTENT
        with pytest.raises(ConnectionError, match=f'has the sha256 {SHA256}, but'):
            locate_checkpoint(server.url('model-0000000f.pth'))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ('headers', 'words'),
    [
        ({'X_Linked_Size': '6999'}, 'has 7,000 bytes, but'),
        ({'X_Linked_ETag': '0' * 64}, f'has the sha256 {SHA256}, but'),
    ],
)
def test_another_size_or_hash_is_an_error(headers, words):
    with (
        describing(**headers) as server,
        pytest.raises(ConnectionError, match=f'{words} .* run again'),
    ):
        download_verified(server.url('model.pth'))


def test_a_file_that_is_there_already_is_checked_too(tmp_path):
    path = tmp_path / 'hub/checkpoints/model.pth'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'damaged')
    with (
        describing(X_Linked_ETag=f'"{SHA256}"') as server,
        pytest.raises(ValueError, match='it is damaged or another file'),
    ):
        download_verified(server.url('model.pth'))


@pytest.mark.parametrize('headers', [{}, {'X_Linked_ETag': '"not-a-hash"'}])
def test_a_server_that_tells_nothing_is_said_in_the_log(headers, log):
    with describing(**headers) as server:
        download_verified(server.url('model.pth'))
    assert 'no size or hash is published' in log.text


def test_a_server_that_cannot_be_asked_tells_nothing():
    with serve(CONTENT) as server:  # which does not know HEAD
        assert read_fingerprint(server.url('model.pth')) == Fingerprint()
    assert read_fingerprint(server.url('model.pth')) == Fingerprint()  # nobody listens any more
