"""A checkpoint fits whole or is an error; the classes come from it or from the config."""

import os
import shutil

import pytest
import torch
from mmengine.config import Config

from revcol_backbone import RevCol
from revcol_backbone.inference import load_predictor
from tests.configs import TINY
from tests.malicious import Calls
from tests.tiny_data import CLASSES


@pytest.fixture
def files(upernet, tmp_path):
    """A copy of the UPerNet's config and checkpoint that a test may change."""
    for path in upernet:
        shutil.copy(path, tmp_path)
    return tmp_path / upernet.config.name, tmp_path / upernet.checkpoint.name


def change_weights(path, change):
    content = torch.load(path, weights_only=True)
    change(content['state_dict'])
    torch.save(content, path)


def set_meta(path, **meta):
    content = torch.load(path, weights_only=True)
    torch.save(dict(content, meta=meta), path)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda weights: weights.pop('decode_head.conv_seg.bias'), 'missing decode_head.conv_seg'),
        (lambda weights: weights.update(extra=torch.zeros(1)), 'unexpected extra'),
        (
            lambda weights: weights.update({'decode_head.conv_seg.bias': torch.zeros(19)}),
            r'of another shape decode_head.conv_seg.bias \(19,\)',
        ),
    ],
)
@pytest.mark.parametrize('tta', [False, True])
def test_a_checkpoint_that_does_not_fit_is_an_error(change, words, tta, files):
    change_weights(files[1], change)
    with pytest.raises(ValueError, match=words) as error:
        load_predictor(*files, 'cpu', tta=tta)
    assert f'{files[1]} does not fit the model of this config' in str(error.value)


def test_the_checkpoint_of_another_config_is_an_error(cascade, upernet):
    with pytest.raises(ValueError, match='does not fit the model of this config'):
        load_predictor(upernet.config, cascade.checkpoint, 'cpu')


def test_the_checkpoint_of_a_backbone_alone_is_refused_with_its_place(files):
    torch.save({'model': RevCol(TINY).state_dict()}, files[1])
    with pytest.raises(ValueError, match='belongs to `model.backbone.init_cfg.checkpoint`'):
        load_predictor(*files, 'cpu')


def test_every_weight_is_that_of_the_checkpoint(files):
    def negate(weights):
        for value in weights.values():
            value.neg_()

    change_weights(files[1], negate)
    loaded = load_predictor(*files, 'cpu').inferencer.model.state_dict()
    stored = torch.load(files[1], weights_only=True)['state_dict']
    assert loaded.keys() == stored.keys()
    for key, value in stored.items():
        assert torch.equal(loaded[key], value), key


def test_weights_of_a_distributed_run_load_too(files):
    def wrap(weights):
        for key in list(weights):
            weights[f'module.{key}'] = weights.pop(key)

    change_weights(files[1], wrap)
    assert load_predictor(*files, 'cpu').classes == CLASSES


def test_the_files_of_a_pre_training_are_not_asked_for(files, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('the network was used')

    monkeypatch.setattr('socket.socket.connect', refuse)
    url = 'https://download.invalid/revcol.pth'
    config = Config.fromfile(files[0])
    config.model.pretrained = url
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=url)
    config.dump(files[0])
    assert load_predictor(*files, 'cpu').classes == CLASSES


def test_a_malicious_file_runs_nothing(files, tmp_path):
    mark = tmp_path / 'mark'
    set_meta(files[1], dataset_meta=Calls(os.mkdir, str(mark)))
    with pytest.raises(ValueError, match='it asks for posix.mkdir'):
        load_predictor(*files, 'cpu')
    assert not mark.exists()


@pytest.mark.parametrize(
    'meta',
    [
        {'dataset_meta': {'classes': ('a', 'b')}},
        {'dataset_meta': {'CLASSES': ['a', 'b']}},
        {'CLASSES': ('a', 'b')},
    ],
    ids=['mmengine', 'capitals', 'mmseg 0.x'],
)
def test_the_checkpoint_names_the_classes(meta, files):
    set_meta(files[1], **meta)
    assert load_predictor(*files, 'cpu').classes == ('a', 'b')


def test_a_checkpoint_that_names_none_has_the_classes_of_the_data_set(files):
    assert load_predictor(*files, 'cpu').classes == CLASSES


def test_as_many_names_as_classes_are_needed(files):
    set_meta(files[1], CLASSES=('a', 'b', 'c'))
    with pytest.raises(ValueError, match='name 3 classes, the model has 2; set `test_dataloader'):
        load_predictor(*files, 'cpu')
    set_meta(files[1])
    config = Config.fromfile(files[0])
    config.test_dataloader.dataset.pop('metainfo')
    config.dump(files[0])
    with pytest.raises(ValueError, match='name no classes, the model has 2'):
        load_predictor(*files, 'cpu')


def test_the_data_set_gives_the_colors(files):
    palette = [[1, 2, 3], [4, 5, 6]]
    config = Config.fromfile(files[0])
    config.test_dataloader.dataset.metainfo.palette = palette
    config.dump(files[0])
    assert load_predictor(*files, 'cpu').palette.tolist() == palette


def test_without_colors_each_class_has_its_own(cascade, upernet):
    for model in (cascade, upernet):
        palette = load_predictor(*model, 'cpu').palette
        assert len({tuple(color) for color in palette.tolist()}) == len(CLASSES)


@pytest.mark.parametrize('missing', [0, 1], ids=['config', 'checkpoint'])
def test_a_missing_file_is_an_error_that_names_it(missing, files):
    files[missing].unlink()
    with pytest.raises(FileNotFoundError, match=f'{files[missing]} is not a file; give'):
        load_predictor(*files, 'cpu')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('model = ', 'could not be read as a config'),
        ('a = 1', 'has no `model`'),
        ('model = dict()', 'has no `test_dataloader` with a `dataset`'),
        ('model = dict()\ntest_dataloader = 3', 'has no `test_dataloader` with a `dataset`'),
        ('model = dict()\ntest_dataloader = dict(dataset=dict())', 'has default_scope=None'),
    ],
)
def test_a_file_that_is_no_config_is_an_error(content, words, files):
    files[0].write_text(content)
    with pytest.raises(ValueError, match=words):
        load_predictor(*files, 'cpu')


def test_an_empty_checkpoint_is_an_error(files):
    files[1].write_bytes(b'')
    with pytest.raises(ValueError, match='is empty; download or copy it again'):
        load_predictor(*files, 'cpu')


def test_the_test_set_may_be_wrapped(files):
    config = Config.fromfile(files[0])
    dataset = config.test_dataloader.dataset
    config.test_dataloader.dataset = dict(
        _delete_=True, type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=dataset)]
    )
    config.dump(files[0])
    assert load_predictor(*files, 'cpu').classes == CLASSES
