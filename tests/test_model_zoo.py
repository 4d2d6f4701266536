"""model-index.yml and its metafiles: valid by the convention, complete, and as published."""

import re

import modelindex
import pytest

from revcol_backbone.checkpoints.sources import PUBLISHED
from revcol_backbone.model_zoo import read_model_index
from tests.configs import ROOT, load_config

MODELS = read_model_index(ROOT / 'model-index.yml')
every_model = pytest.mark.parametrize('model', MODELS, ids=lambda model: model.name)


def test_the_index_is_valid_by_the_convention():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.check(silent=True)
    errors = []
    for models in index.models, index.collections:
        for entry in models:
            entry.check(silent=True)
            errors += entry.check_errors
    assert errors == []
    assert index.check_errors == set()
    assert len(list(index.models)) == len(MODELS) == 40
    collections = {collection.name for collection in index.collections}
    assert {model.in_collection for model in index.models} == collections


@every_model
def test_a_model_has_the_name_of_its_config_which_exists(model):
    if model.config is None:
        assert re.fullmatch(
            r'(rednet\d+|ic_resnet50)_in1k', model.name
        )  # no config of these was published
    else:
        assert (ROOT / model.config).is_file()
        assert re.fullmatch(r'(det|seg|cls)_configs/' + model.name + r'\.py', model.config)


def test_every_published_file_belongs_to_one_model():
    weights = [model.weights for model in MODELS if model.weights]
    assert len(set(weights)) == len(weights)
    # The others are for fine-tuning only: no figure of their own was published.
    only_pretrained = {
        *('revcol_base_22k.pth', 'revcol_large_22k.pth'),
        *('revcol_huge_megdata.pth', 'revcol_huge_k7padded.pth'),
    }
    published = {url for name, url in PUBLISHED.items() if name not in only_pretrained}
    assert len(published) == len(PUBLISHED) - 4
    assert set(weights) == published


@every_model
def test_a_files_name_fits_its_backbone(model):
    sizes = {'T': 'tiny', 'S': 'small', 'B': 'base', 'L': 'large', 'H': 'huge'}
    if model.weights:
        size = sizes[model.metadata['Backbone'].removeprefix('RevCol-')]
        assert f'_{size}_' in model.weights
        backbone = model.metadata.get('Backbone Config') or load_config(model.config).model.backbone
        assert backbone['arch'] == size
