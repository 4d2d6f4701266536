"""Where ``load_predictor`` finds a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from revcol_backbone.inference.model_source import find_model
from revcol_backbone.model_zoo import find_config
from tests.file_server import serve


def test_two_files_are_themselves():
    found = find_model('configs/mine.py', 'mine.pth')
    assert found == (Path('configs/mine.py'), Path('mine.pth'), {})


def test_a_name_of_the_zoo_has_its_config_and_its_published_file(monkeypatch):
    addresses = []
    monkeypatch.setattr(
        'revcol_backbone.inference.model_source.download_verified',
        lambda url: addresses.append(url) or Path('downloaded.pth'),
    )
    config, checkpoint, options = find_model('revcol_t_cascade', None)
    assert (config, checkpoint, options) == (
        find_config('revcol_t_cascade'),
        Path('downloaded.pth'),
        {},
    )
    (address,) = addresses
    assert address.endswith('/revcol_models/detection/cmr_tiny_3x_in1k_AP508.pth')


def test_a_checkpoint_at_an_address_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with serve(b'weights') as server:
        _, checkpoint, _ = find_model('revcol_t_cascade', server.url('mine.pth'))
    assert checkpoint.read_bytes() == b'weights'


def test_a_name_without_published_weights_asks_for_a_checkpoint():
    with pytest.raises(ValueError, match='no trained weights are published for revcol_h_dino'):
        find_model('revcol_h_dino', None)
    with pytest.raises(ValueError, match='no trained weights are published for mine'):
        find_model('configs/mine.py', None)


def test_an_unknown_name_is_answered_with_similar_ones():
    with pytest.raises(ValueError, match='similar names: revcol_t_cascade'):
        find_model('revcol_t_cascad', None)


def test_a_model_of_the_hub_has_its_own_checkpoint():
    with pytest.raises(ValueError, match='has its own checkpoint'):
        find_model('hf-hub:user/model', 'mine.pth')
