"""Models of the Hugging Face Hub, against a server on this machine that answers as the Hub does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from safetensors.torch import load_file

from revcol_backbone.inference import load_predictor
from revcol_backbone.integrations.hugging_face import (
    class_options,
    download_model,
    push_to_hub,
    save_model,
)
from revcol_backbone.model_zoo import find_config
from tests.hub_server import COMMIT, HubServer, hub

CLASSES = ['cat', 'dog', 'street sign']
PUSH = """
import sys
from pathlib import Path
from revcol_backbone.integrations.hugging_face import push_to_hub
folder, checkpoint, *classes = sys.argv[1:]
print(push_to_hub('user/model', Path(folder), 'quickstart_cascade', Path(checkpoint), classes))
"""
PREDICT = """
import sys
import numpy as np
from revcol_backbone.inference import load_predictor
predictor = load_predictor(sys.argv[1], device='cpu')
print(predictor.classes)
predictor.predict([np.zeros((64, 64, 3), np.uint8)])
print('predicted')
"""


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
def empty_hub(tmp_path: Path) -> Iterator[HubServer]:
    with hub(tmp_path / 'hub') as server:
        yield server


def check_repository(folder: Path, checkpoint: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        'README.md',
        'config.json',
        'model.safetensors',
    ]
    saved = json.loads((folder / 'config.json').read_text())
    assert (saved['config'], saved['classes']) == ('quickstart_cascade', CLASSES)
    weights = load_file(folder / 'model.safetensors')
    trained = torch.load(checkpoint, weights_only=True)['state_dict']
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
    _, metadata, text = (folder / 'README.md').read_text().split('---\n', 2)
    assert yaml.safe_load(metadata) == dict(
        library_name='revcol-backbone',
        pipeline_tag='object-detection',
        tags=['revcol', 'mmdet', 'arxiv:2212.11696'],
    )
    assert 'cat, dog, street sign' in text
    assert "load_predictor('hf-hub:user/model')" in text


def test_a_saved_model_holds_weights_a_name_and_a_card(tmp_path, checkpoint):
    save_model(tmp_path, 'quickstart_cascade', checkpoint, CLASSES, 'user/model')
    check_repository(tmp_path, checkpoint)


@pytest.mark.slow
def test_a_published_model_predicts_with_its_own_classes(empty_hub, checkpoint, tmp_path):
    local = str(tmp_path / 'local')
    pushed = empty_hub.run_python(PUSH, local, str(checkpoint), *CLASSES)
    assert pushed.returncode == 0, pushed.stderr[-3000:]
    assert pushed.stdout.split()[-1] == f'{empty_hub.address}/user/model/commit/{COMMIT}'
    check_repository(empty_hub.folder / 'user' / 'model', checkpoint)
    result = empty_hub.run_python(PREDICT, 'hf-hub:user/model', token=None)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-2:] == [str(tuple(CLASSES)), 'predicted']


@pytest.fixture
def hub_of_this_process(
    empty_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> HubServer:
    """Let huggingface_hub, which is imported already, talk to the stand-in, without a token."""
    constants = 'huggingface_hub.constants'
    monkeypatch.setattr(f'{constants}.ENDPOINT', empty_hub.address)
    files = f'{empty_hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
    monkeypatch.setattr(f'{constants}.HUGGINGFACE_CO_URL_TEMPLATE', files)
    monkeypatch.setattr(f'{constants}.HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(f'{constants}.HF_TOKEN_PATH', str(tmp_path / 'token'))
    monkeypatch.delenv('HF_TOKEN', raising=False)
    return empty_hub


def test_who_is_not_logged_in_is_told_so_and_keeps_the_files(
    hub_of_this_process, checkpoint, tmp_path
):
    with pytest.raises(ValueError, match='status 401; log in with `hf auth login`'):
        push_to_hub('user/model', tmp_path / 'local', 'quickstart_cascade', checkpoint, CLASSES)
    check_repository(tmp_path / 'local', checkpoint)


def test_a_hub_that_cannot_be_reached_is_named_and_the_files_are_kept(
    monkeypatch, checkpoint, tmp_path
):
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(ConnectionError, match='user/model was not published'):
        push_to_hub('user/model', tmp_path, 'quickstart_cascade', checkpoint, CLASSES)
    check_repository(tmp_path, checkpoint)


def test_a_config_of_a_stranger_is_not_read(hub_of_this_process, checkpoint):
    folder = hub_of_this_process.folder / 'user' / 'model'
    save_model(folder, 'quickstart_cascade', checkpoint, CLASSES)
    stranger = {'config': str(folder / 'theirs.py'), 'classes': None}
    (folder / 'theirs.py').write_text("open('executed', 'w')")
    (folder / 'config.json').write_text(json.dumps(stranger))
    with pytest.raises(ValueError, match='does not name a config and classes of revcol-backbone'):
        load_predictor('hf-hub:user/model')
    assert not Path('executed').exists()


@pytest.mark.parametrize('classes', ['cat', [{'type': 'subprocess.Popen'}], {'type': 'os.system'}])
def test_classes_are_names_and_nothing_else(classes):
    with pytest.raises(ValueError, match='list of names'):
        class_options(find_config('quickstart_cascade'), classes)


def test_without_huggingface_hub_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r'revcol-backbone\[hub\]'):
        download_model('hf-hub:user/model')
