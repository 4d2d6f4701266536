"""A download is complete or absent, and goes on where it stopped."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from revcol_backbone.checkpoints.download import download
from tests.file_server import serve

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / 'folder' / 'file.pth'


def files_beside(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_file_arrives_whole_and_nothing_is_left_beside_it(server, target):
    download(server.url('file.pth'), target)
    assert target.read_bytes() == CONTENT
    assert files_beside(target) == ['file.pth']


def test_existing_file_is_not_asked_for_again(server, target):
    target.parent.mkdir()
    target.write_bytes(b'mine')
    download(server.url('file.pth'), target)
    assert target.read_bytes() == b'mine'
    assert server.requests == []


def test_broken_connection_is_an_error_and_the_next_attempt_goes_on_there(server, target):
    server.breaks_after = 1000
    with pytest.raises(ConnectionError, match='1000 of 10240 bytes'):
        download(server.url('file.pth'), target)
    assert not target.exists()

    server.breaks_after = None
    download(server.url('file.pth'), target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, 'bytes=1000-']
    assert files_beside(target) == ['file.pth']


def test_server_without_ranges_sends_everything_again(server, target):
    target.parent.mkdir()
    target.with_name('file.pth.part').write_bytes(CONTENT[:1000])
    server.supports_ranges = False
    download(server.url('file.pth'), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('partial', [CONTENT, CONTENT + b'too long'])
def test_partial_file_at_or_past_the_end_still_gives_the_right_file(server, target, partial):
    target.parent.mkdir()
    target.with_name('file.pth.part').write_bytes(partial)
    download(server.url('file.pth'), target)
    assert target.read_bytes() == CONTENT
    assert files_beside(target) == ['file.pth']


@pytest.mark.parametrize('status', [404, 503])
def test_refusal_of_the_server_names_address_and_status(server, target, status):
    server.status = status
    url = server.url('file.pth')
    with pytest.raises(ConnectionError, match=rf'^{url} could not be downloaded: .*{status}'):
        download(url, target)
    assert files_beside(target) == []


def test_unreachable_server_names_address_and_reason(target, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with socket.socket() as reserved:
        reserved.bind(('127.0.0.1', 0))  # nobody listens there
        url = f'http://127.0.0.1:{reserved.getsockname()[1]}/file.pth'
        with pytest.raises(ConnectionError, match=rf'^{url} could not be downloaded: .*[Rr]efused'):
            download(url, target)


def test_downloads_of_the_same_file_at_once_fetch_it_once(server, target):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download(server.url('file.pth'), target), range(4)))
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1
