"""model-index.yml and its metafiles: valid by the convention, complete, and as published."""

import re

import modelindex
import pytest

from revcol_backbone.checkpoints.sources import PUBLISHED
from revcol_backbone.model_zoo import read_model_index
from revcol_backbone.published import DETECTORS, SEGMENTORS
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
    assert len(list(index.models)) == len(MODELS) == 25
    collections = {collection.name for collection in index.collections}
    assert {model.in_collection for model in index.models} == collections


@every_model
def test_a_model_has_the_name_of_its_config_which_exists(model):
    assert (ROOT / model.config).is_file()
    assert re.fullmatch(r'(det|seg)_configs/' + model.name + r'\.py', model.config)


def test_every_config_with_published_figures_is_in_the_index():
    indexed = {model.config for model in MODELS}
    assert indexed >= {row.model for row in (*DETECTORS, *SEGMENTORS)}


def test_every_published_fine_tuned_file_belongs_to_one_model():
    fine_tuned = {
        url
        for url in PUBLISHED.values()
        if re.search(r'/(detection|segmentation)/', url) and 'k7padded' not in url
    }
    assert len(fine_tuned) == 11
    weights = [model.weights for model in MODELS if model.weights]
    assert sorted(weights) == sorted(fine_tuned)


@every_model
def test_a_files_name_fits_its_backbone(model):
    size = {'T': 'tiny', 'S': 'small', 'B': 'base', 'L': 'large', 'H': 'huge'}
    if model.weights:
        assert f'_{size[model.metadata["Backbone"][-1]]}_' in model.weights
        arch = load_config(model.config).model.backbone.arch
        assert arch == size[model.metadata['Backbone'][-1]]
