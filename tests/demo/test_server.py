"""The server keeps to its folder, takes many requests at once, and cleans up after any signal."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from revcol_backbone.demo.server import serve
from tests.configs import ROOT

REQUESTS = 200
SERVE = """
import gradio
from revcol_backbone.demo.server import serve
def build():
    with gradio.Blocks(analytics_enabled=False) as page:
        gradio.Image()
    return page
serve(build, '127.0.0.1', None, 1)
"""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
IMAGE = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def start(folder):
    """Start a page whose files are below a folder; returns the process and the address."""
    environment = dict(os.environ, TMPDIR=str(folder), PYTHONPATH=str(ROOT))
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', SERVE],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_signals,
    )
    for line in process.stdout:
        if found := re.search(r'The demo runs at (http://\S+)', line):
            return process, found[1]
    raise AssertionError(process.wait())


def _heed_signals():
    """Undo what shells and ``nohup`` let their background processes ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """The address of a running page and the folder of its temporary files."""
    folder = tmp_path_factory.mktemp('temporary')
    process, address = start(folder)
    yield address, folder
    process.terminate()
    process.communicate()
    assert list(folder.glob('revcol_demo_*')) == []


def upload(address, name='image.png'):
    body = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    request = urllib.request.Request(
        f'{address}gradio_api/upload',
        data=body.encode() + IMAGE + b'\r\n--x--\r\n',
        headers={'Content-Type': 'multipart/form-data; boundary=x'},
    )
    with DIRECT.open(request, timeout=120) as answer:
        (path,) = json.load(answer)
    return Path(path)


def test_two_hundred_uploads_at_once_are_all_answered(served):
    address, folder = served
    with concurrent.futures.ThreadPoolExecutor(REQUESTS) as pool:
        paths = list(pool.map(lambda _: upload(address), range(REQUESTS)))
    assert len(paths) == REQUESTS
    for path in set(paths):
        assert path.read_bytes() == IMAGE
        assert folder in path.parents
    with DIRECT.open(address) as page:
        assert page.status == 200


@pytest.mark.parametrize('name', ['../../../evil.png', '/tmp/evil.png', '..\\..\\evil.png'])
def test_an_upload_cannot_leave_the_folder(name, served):
    address, folder = served
    before = {path for path in folder.parent.rglob('*') if path.is_file()}
    path = upload(address, name)
    assert folder in path.resolve().parents
    after = {path for path in folder.parent.rglob('*') if path.is_file()} - before
    assert all(folder in written.parents for written in after)


@pytest.mark.parametrize(
    'path',
    [
        str(ROOT / 'setup.cfg'),
        '../../../../../../etc/passwd',
        '%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
        '/etc/passwd',
        '/proc/self/environ',
    ],
)
def test_no_file_outside_of_the_folder_is_served(path, served):
    with pytest.raises(urllib.error.HTTPError) as refused:
        DIRECT.open(f'{served[0]}gradio_api/file={path}', timeout=120)
    assert refused.value.code in (403, 404)


@pytest.mark.slow
@pytest.mark.parametrize('sent', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_and_deletes_what_visitors_gave(sent, tmp_path):
    process, address = start(tmp_path)
    assert upload(address).exists()
    process.send_signal(sent)
    assert process.wait(timeout=120) == 0
    assert list(tmp_path.glob('revcol_demo_*')) == []


@pytest.mark.parametrize(
    ('host', 'reason'),
    [('999.1.1.1', 'not appear to be an IPv4'), ('192.0.2.1', 'Cannot assign requested address')],
)
def test_an_address_that_cannot_be_used_is_an_error_at_once(host, reason):
    with pytest.raises(OSError, match=f'{host}, port .* cannot be listened on .*{reason}'):
        serve(None, host, None, 1)


def test_a_port_in_use_is_an_error():
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match=f'port {port} cannot be listened on'):
            serve(None, '127.0.0.1', port, 1)
