"""A checkpoint is found where it is, downloaded once, or its absence says what to do."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from revcol_backbone.checkpoints.sources import PUBLISHED, locate_checkpoint
from tests.file_server import serve

CONTENT = b'the weights'


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with serve(CONTENT) as running:
        yield running


def test_local_file_is_used_where_it_is(tmp_path):
    path = tmp_path / 'own.pth'
    path.write_bytes(CONTENT)
    assert locate_checkpoint(str(path)) == path


def test_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'own.pth').write_bytes(CONTENT)
    assert locate_checkpoint('~/own.pth') == tmp_path / 'own.pth'


@pytest.mark.parametrize('name', PUBLISHED)
def test_missing_published_file_says_where_to_download_it_and_to_which_path(tmp_path, name):
    with pytest.raises(FileNotFoundError) as raised:
        locate_checkpoint(str(tmp_path / name))
    message = str(raised.value)
    assert f'{tmp_path / name} does not exist; download {PUBLISHED[name]} to that path' in message
    assert PUBLISHED[name].endswith(f'/{name}')
    assert '--cfg-options model.backbone.init_cfg.checkpoint=FILE' in message


def test_missing_own_file_says_that_it_belongs_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'own.pth does not exist; put the file there'):
        locate_checkpoint(str(tmp_path / 'own.pth'))


def test_folder_is_not_taken_for_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match='is a folder; name another file'):
        locate_checkpoint(str(tmp_path))


def test_address_is_downloaded_once_to_the_folder_of_torch_hub(server):
    for _ in range(2):
        path = locate_checkpoint(server.url('some%20folder/own%2B.pth?download=true'))
        assert path == Path(torch.hub.get_dir(), 'checkpoints', 'own+.pth')
        assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_failing_download_says_where_to_put_the_file(server):
    server.status = 404
    url = server.url('own.pth')
    path = Path(torch.hub.get_dir(), 'checkpoints', 'own.pth')
    with pytest.raises(ConnectionError) as raised:
        locate_checkpoint(url)
    message = str(raised.value)
    assert message.startswith(f'{url} could not be downloaded: the server answers 404')
    assert f'put the file at {path} by hand' in message
    assert '--cfg-options model.backbone.init_cfg.checkpoint=FILE' in message


def test_address_without_a_file_name_is_refused(server):
    with pytest.raises(ValueError, match='ends in no file name'):
        locate_checkpoint(server.url(''))


def locate_in_a_process_group(rank, rendezvous, urls, results):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2
    )
    os.environ['LOCAL_RANK'] = str(rank)
    for url in urls:
        try:
            results.put((url, locate_checkpoint(url).read_bytes()))
        except ConnectionError as error:
            results.put((url, str(error)))
    torch.distributed.destroy_process_group()


def test_one_process_of_a_distributed_run_downloads_for_all_and_all_learn_of_failures(
    server, tmp_path
):
    reachable, unreachable = server.url('own.pth'), 'http://127.0.0.1:1/other.pth'
    context = multiprocessing.get_context('fork')  # importing torch again takes many seconds
    results = context.Queue()
    processes = [
        context.Process(
            target=locate_in_a_process_group,
            args=(rank, tmp_path / 'rendezvous', (reachable, unreachable), results),
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in range(4)]
    for process in processes:
        process.join()
    assert found.count((reachable, CONTENT)) == 2
    failures = [message for url, message in found if url == unreachable]
    assert len(failures) == 2
    assert all(f'{unreachable} could not be downloaded' in message for message in failures)
    assert len(server.requests) == 1
