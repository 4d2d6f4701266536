"""Models of the Hugging Face Hub, against a server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from safetensors.torch import load_file

from revcol_backbone.integrations.hugging_face import class_options, download_model, save_model
from revcol_backbone.model_zoo import find_config

CLASSES = ['cat', 'dog', 'street sign']
COMMIT = '0123456789abcdef0123456789abcdef01234567'
# Predicts in a process of its own, for huggingface_hub reads its settings when it is imported.
PREDICT = """
import sys
import numpy as np
from revcol_backbone.inference import load_predictor
predictor = load_predictor(sys.argv[1], device='cpu')
print(predictor.classes)
predictor.predict([np.zeros((64, 64, 3), np.uint8)])
print('predicted')
"""


class Hub(ThreadingHTTPServer):
    """Serves the files of one folder as those of the repository ``user/model``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.folder = folder


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:  # noqa: N802, the name that http.server looks for
        self._answer(with_content=False)

    def do_GET(self) -> None:  # noqa: N802
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        prefix, _, name = self.path.partition('/resolve/main/')
        path = self.server.folder / name
        found = prefix == '/user/model' and path.is_file()
        content = path.read_bytes() if found else b''
        self.send_response(200 if found else 404)
        self.send_header('Content-Length', str(len(content)))
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        if not found:
            self.send_header('X-Error-Code', 'EntryNotFound')
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Write nothing."""


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the quickstart's detector for three classes."""
    path = find_config('quickstart_cascade')
    config = Config.fromfile(path)
    config.merge_from_dict(class_options(path, CLASSES))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    file = tmp_path_factory.mktemp('trained') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict()), file)
    return file


@pytest.fixture
def hub(tmp_path: Path, checkpoint: Path) -> Iterator[Hub]:
    save_model(tmp_path / 'repository', 'quickstart_cascade', checkpoint, CLASSES)
    with Hub(tmp_path / 'repository') as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run_python(hub: Hub, code: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {
        'HF_ENDPOINT': f'http://127.0.0.1:{hub.server_port}',
        'HF_HOME': str(hub.folder.parent / 'cache'),
        'HF_HUB_DISABLE_TELEMETRY': '1',
        'HF_HUB_DISABLE_XET': '1',
        'NO_PROXY': '127.0.0.1',
    }
    command = [sys.executable, '-W', 'ignore', '-c', code, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_saved_model_holds_weights_a_name_and_a_card(hub, checkpoint):
    assert sorted(path.name for path in hub.folder.iterdir()) == [
        'README.md',
        'config.json',
        'model.safetensors',
    ]
    saved = json.loads((hub.folder / 'config.json').read_text())
    assert (saved['config'], saved['classes']) == ('quickstart_cascade', CLASSES)
    weights = load_file(hub.folder / 'model.safetensors')
    trained = torch.load(checkpoint, weights_only=True)['state_dict']
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
    card = (hub.folder / 'README.md').read_text()
    assert card.startswith('---\nlibrary_name: revcol-backbone\npipeline_tag: object-detection\n')
    assert 'cat, dog, street sign' in card


@pytest.mark.slow
def test_a_model_of_the_hub_predicts_with_its_own_classes(hub):
    result = run_python(hub, PREDICT, 'hf-hub:user/model')
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-2:] == [str(tuple(CLASSES)), 'predicted']


@pytest.mark.slow
def test_a_config_of_a_stranger_is_not_read(hub):
    stranger = {'config': str(hub.folder / 'theirs.py'), 'classes': None}
    (hub.folder / 'theirs.py').write_text("open('executed', 'w')")
    (hub.folder / 'config.json').write_text(json.dumps(stranger))
    result = run_python(hub, PREDICT, 'hf-hub:user/model')
    assert result.returncode == 1
    assert 'does not name a config and classes of revcol-backbone' in result.stderr
    assert not Path('executed').exists()


@pytest.mark.parametrize('classes', ['cat', [{'type': 'subprocess.Popen'}], {'type': 'os.system'}])
def test_classes_are_names_and_nothing_else(classes):
    with pytest.raises(ValueError, match='list of names'):
        class_options(find_config('quickstart_cascade'), classes)


def test_without_huggingface_hub_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r'revcol-backbone\[hub\]'):
        download_model('hf-hub:user/model')
