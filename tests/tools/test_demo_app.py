"""The demo as its users meet it: the real command, a real browser, and nothing from elsewhere."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import torch

from tests.configs import ROOT, build_model, load_config
from tests.tools.commands import error_of
from tools.demo_app import EXAMPLES_SHOWN, find_examples, main

CONFIG = ROOT / 'det_configs/quickstart_cascade.py'
MAX_UPLOAD = 0.1  # MB
SECONDS = 120  # that a busy machine may take to answer


@dataclass
class Demo:
    """The running command.

    Args:
        url: Where its page is.
        proxy: Whoever came to the proxy that its environment names.
    """

    url: str
    proxy: list = field(default_factory=list)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A detector with random weights, which finds the same nonsense in every run."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('checkpoint') / 'random.pth'
    model = build_model(load_config('det_configs/quickstart_cascade.py'))
    torch.save({'meta': {}, 'state_dict': model.state_dict()}, path)
    return path


@pytest.fixture(scope='module')
def demo(checkpoint, tmp_path_factory):
    """The command as a user starts it, behind a proxy that it must not use."""
    temporary = tmp_path_factory.mktemp('temporary')
    with _listen() as (proxy_port, visitors):
        proxy = f'http://127.0.0.1:{proxy_port}'
        names = ('http_proxy', 'https_proxy', 'all_proxy')
        environment = {k: v for k, v in os.environ.items() if k.lower() != 'no_proxy'}
        environment.update(dict.fromkeys(names, proxy))
        environment.update({name.upper(): proxy for name in names})
        environment.update(TMPDIR=str(temporary), CUDA_VISIBLE_DEVICES='')
        command = [sys.executable, '-W', 'ignore', 'tools/demo_app.py', CONFIG, checkpoint]
        command += ['--port', str(_free_port()), '--max-upload', str(MAX_UPLOAD)]
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Demo(_wait_for_address(process), visitors)
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
        assert not list(temporary.glob('revcol_demo_*'))


@pytest.fixture(scope='module')
def browser():
    """A headless Chromium that goes to this machine directly."""
    api = pytest.importorskip('playwright.sync_api', reason='run `pip install playwright`')
    names = ('chromium', 'chromium-browser', 'google-chrome')
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip('no Chromium is installed; run `apt-get install chromium`')
    flags = '--disable-gpu --disable-quic --no-first-run --disable-background-networking'
    flags += ' --disable-component-update --disable-sync --no-proxy-server'
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags.split())
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, demo):
    """The demo's page; every request that it makes must stay on this machine."""
    context = browser.new_context(viewport=dict(width=1100, height=700))
    context.set_default_timeout(1000 * SECONDS)
    addresses, errors = [], []
    context.on('request', lambda request: addresses.append(request.url))
    context.on('weberror', lambda error: errors.append(str(error.error)))
    page = context.new_page()
    page.goto(demo.url)
    page.locator('#image input[type=file]').wait_for(state='attached')
    yield page
    context.close()
    foreign = [a for a in addresses if urlsplit(a).hostname not in ('127.0.0.1', None)]
    assert addresses
    assert not foreign
    assert not errors


@contextlib.contextmanager
def _listen():
    """A port, and a list that grows by the first line of whatever connects to it."""
    visitors = []

    def answer():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    visitors.append(connection.recv(1000).split(b'\r\n')[0])

    with socket.create_server(('127.0.0.1', 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1], visitors
        server.shutdown(socket.SHUT_RDWR)


def _free_port():
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def _wait_for_address(process):
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.search(r'The demo runs at (http://\S+)', line)
        if found:
            return found[1]
    raise AssertionError(''.join(lines))


def write_image(path, size=96):
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (6, 6, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (size, size)))
    return path


def upload(page, path):
    page.locator('#image input[type=file]').set_input_files(path)


def shown_image(page, other_than=None):
    """The bytes of the drawing, once it is another one."""
    image = page.locator('#result img')
    image.wait_for()
    if other_than is not None:
        page.wait_for_function(
            'old => document.querySelector("#result img").src !== old', arg=other_than[0]
        )
    address = image.get_attribute('src')
    content = page.evaluate(
        'async address => Array.from(new Uint8Array(await (await fetch(address)).arrayBuffer()))',
        address,
    )
    return address, bytes(content)


def summary(page):
    return page.locator('#summary').inner_text()


@pytest.mark.slow
def test_a_image_is_detected_and_the_threshold_draws_it_anew(page, demo, tmp_path):
    upload(page, write_image(tmp_path / 'scene.png'))
    first = shown_image(page)
    assert re.search(r'0 of \d+ detections score 0.30 or more', summary(page))
    page.locator('#slider input[type=range]').fill('0.05')
    second = shown_image(page, other_than=first)
    shown, found = map(
        int, re.search(r'(\d+) of (\d+) detections score 0.05', summary(page)).groups()
    )
    assert shown == found > 0
    decoded = [cv2.imdecode(np.frombuffer(b, np.uint8), 1) for _, b in (first, second)]
    assert decoded[0].shape == decoded[1].shape == (768, 768, 3)
    assert (decoded[0] != decoded[1]).any()
    assert not demo.proxy


@pytest.mark.slow
def test_a_file_that_is_no_image_is_told_on_the_page(page, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\nnothing')
    upload(page, tmp_path / 'broken.png')
    problem = page.get_by_role('alert')
    problem.wait_for()
    assert 'broken.png is not an image' in problem.inner_text()
    assert '/' not in problem.inner_text()
    upload(page, write_image(tmp_path / 'scene.png'))
    shown_image(page)


@pytest.mark.slow
def test_a_file_over_the_limit_is_refused_by_page_and_server(page, demo, tmp_path):
    (tmp_path / 'large.png').write_bytes(bytes(int(MAX_UPLOAD * 1.1e6)))
    upload(page, tmp_path / 'large.png')
    page.get_by_text('maximum allowed size').first.wait_for()
    assert page.locator('#result img').count() == 0
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.png"\r\n\r\n'
    body += (tmp_path / 'large.png').read_bytes() + b'\r\n--x--\r\n'
    request = urllib.request.Request(
        f'{demo.url}gradio_api/upload',
        data=body,
        headers={'Content-Type': 'multipart/form-data; boundary=x'},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as refusal:
        direct.open(request)
    assert refusal.value.code == 413


@pytest.mark.parametrize('missing', ['config', 'checkpoint', 'examples'])
def test_what_is_missing_is_told_before_the_server_starts(missing, checkpoint, tmp_path):
    absent = tmp_path / 'absent.pth'
    arguments = dict(config=CONFIG, checkpoint=checkpoint, examples=tmp_path)
    write_image(tmp_path / 'scene.png')
    arguments[missing] = absent
    examples = arguments.pop('examples')
    assert absent.name in error_of(main, *arguments.values(), '--examples', examples)


def test_a_checkpoint_of_another_model_is_told(checkpoint):
    config = ROOT / 'seg_configs/quickstart_upernet.py'
    assert 'random.pth' in error_of(main, config, checkpoint)


def test_a_port_in_use_is_told(checkpoint, monkeypatch):
    for name in ('GRADIO_TEMP_DIR', 'GRADIO_ANALYTICS_ENABLED', 'NO_PROXY', 'no_proxy'):
        monkeypatch.setenv(name, '')
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        error = error_of(main, CONFIG, checkpoint, '--port', port, '--device', 'cpu')
    assert f'127.0.0.1, port {port} cannot be listened on' in error


def test_without_gradio_the_way_to_install_it_is_told(checkpoint, monkeypatch):
    for name in [n for n in sys.modules if n.startswith('revcol_backbone.demo')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert "pip install 'revcol-backbone[demo]'" in error_of(main, CONFIG, checkpoint)


@pytest.mark.parametrize('size', ['0', '-1', 'nan', 'inf', 'much'])
def test_an_upload_limit_is_a_positive_number(size, capsys):
    with pytest.raises(SystemExit):
        main(['config.py', 'checkpoint.pth', '--max-upload', size])
    assert '--max-upload' in capsys.readouterr().err


def test_examples_are_the_first_images_of_a_folder(tmp_path):
    (tmp_path / 'notes.txt').touch()
    paths = [tmp_path / f'{number:02}.PNG' for number in range(EXAMPLES_SHOWN + 1)]
    for path in paths:
        path.touch()
    assert find_examples(tmp_path) == paths[:-1]
    with pytest.raises(ValueError, match='has no images'):
        find_examples(Path(__file__).parent)
