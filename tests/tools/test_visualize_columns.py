"""Figures and similarities of the columns, from config files and folders of images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from revcol_backbone.analysis.cka import MinibatchCKA
from revcol_backbone.analysis.network_input import make_batch
from revcol_backbone.engine.building import build_model, read_model_config
from tests.tiny_models import CASCADE, UPERNET, write_backbone, write_config
from tools.visualize_columns import INPUT, SCORES, TOP_LEVEL, main, spread

SIZES = [(64, 96), (70, 100), (96, 64), (64, 96), (130, 200)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five images of different sizes, and a file that is none."""
    generator = np.random.default_rng(0)
    folder = tmp_path / 'images'
    folder.mkdir()
    for index, (height, width) in enumerate(SIZES):
        image = np.full((height, width, 3), 40 * index + 30, np.uint8)
        image[10:40, 20:50] = generator.integers(0, 255, 3)
        cv2.imwrite(str(folder / f'{index}.png'), image)
    (folder / 'notes.txt').write_text('not an image')
    return folder


def results(out: Path) -> dict:
    return json.loads((out / 'cka.json').read_text())


def test_a_segmentor_is_compared_with_its_input_and_its_scores(images, tmp_path, capsys):
    config, out = write_config(UPERNET, tmp_path / 'segmentor.py'), tmp_path / 'out'
    checkpoint = tmp_path / 'trained.pth'
    torch.manual_seed(0)
    torch.save({'state_dict': build_model(Config.fromfile(config)).state_dict()}, checkpoint)
    # Options may stand anywhere among the files.
    arguments = [config, checkpoint, '--out', out, images, '--shape', 64, 96]
    assert main([*map(str, arguments), '--feature-maps', '2', '--device', 'cpu']) == 0

    found = results(out)
    assert found['images'] == 5
    assert found['shape'] == [64, 96]
    assert list(found['cka']) == [INPUT, SCORES]
    for table in found['cka'].values():
        assert np.shape(table) == (4, 2)
        assert np.all(np.abs(np.array(table)) <= 1)
    # At random weights nothing is nearer to the pixels than the first level.
    assert found['cka'][INPUT][0][0] == np.max(found['cka'][INPUT])
    names = {path.name for path in out.iterdir()}
    assert names == {'cka.json', 'cka.png', 'features_0.png', 'features_1.png'}
    for name in names - {'cka.json'}:
        with Image.open(out / name) as image:
            image.load()
            assert min(image.size) > 200
    printed = capsys.readouterr().out
    assert f'CKA with the {SCORES}' in printed
    assert f'{found["cka"][INPUT][3][1]:.3f}' in printed


def test_a_bare_backbone_is_compared_with_its_top_level_as_computed_by_hand(images, tmp_path):
    config, out = write_backbone(tmp_path), tmp_path / 'out'
    checkpoint = tmp_path / 'backbone.pth'
    model = build_model(read_model_config(config))
    torch.save(model.state_dict(), checkpoint)
    names = sorted(images.glob('[03].png'))
    chosen = [cv2.imread(str(name)) for name in names * 2]
    for index, image in enumerate(chosen):
        cv2.imwrite(str(images / f'same_{index}.png'), image // (index + 1))
    arguments = [config, checkpoint, f'{images}/same_*', '--out', out, '--device', 'cpu']
    assert main([*map(str, arguments)]) == 0

    batch = make_batch(model, [i // (n + 1) for n, i in enumerate(chosen)], torch.device('cpu'))
    with torch.no_grad():
        stem = model.stem(batch)
        first = model.subnet0(stem)
        second = model.subnet1(stem, first)
    cka = MinibatchCKA()
    cka.update({'first': first[2], 'second': second[3]}, {INPUT: batch, TOP_LEVEL: second[3]})
    expected, found = cka.compute(), results(out)['cka']
    assert found[INPUT][2][0] == pytest.approx(expected['first', INPUT])
    assert found[TOP_LEVEL][2][0] == pytest.approx(expected['first', TOP_LEVEL])
    assert found[TOP_LEVEL][3][1] == pytest.approx(1)


def test_a_detector_works_without_a_checkpoint_and_memory_saving_makes_no_difference(
    images, tmp_path
):
    config = Config.fromfile(write_config(CASCADE, tmp_path / 'detector.py'))
    # What a run starts from is then the same in both.
    config.model.backbone.init_cfg = dict(type='Constant', layer='Conv2d', val=0.02)
    found = []
    for save_memory in (False, True):
        config.model.backbone.save_memory = save_memory
        config.dump(tmp_path / 'detector.py')
        torch.manual_seed(0)
        out = tmp_path / f'out_{save_memory}'
        arguments = [tmp_path / 'detector.py', images, '--out', out, '--device', 'cpu']
        assert main([*map(str, arguments)]) == 0
        found.append(results(out)['cka'])
    assert list(found[0]) == [INPUT, TOP_LEVEL]
    assert found[0] == found[1]


def test_a_deployed_backbone_shows_the_same(images, tmp_path):
    found = []
    for deploy in (False, True):
        torch.manual_seed(0)
        config = write_backbone(tmp_path, deploy=deploy)
        out = tmp_path / f'out_{deploy}'
        assert main([str(config), str(images), '--out', str(out), '--device', 'cpu']) == 0
        found.append(np.array(results(out)['cka'][INPUT]))
    np.testing.assert_allclose(*found, atol=1e-4)


def test_a_level_that_is_the_same_everywhere_has_no_similarity(images, tmp_path):
    config = write_backbone(tmp_path, init_cfg=dict(type='Constant', layer='Conv2d', val=0))
    out = tmp_path / 'out'
    assert main([str(config), str(images), '--out', str(out), '--device', 'cpu']) == 0
    assert results(out)['cka'][INPUT][3] == [None, None]


@pytest.mark.parametrize(
    ('case', 'words'),
    [
        ('three images', 'There are 3 images and a batch size of 8; .* at least 4 of both'),
        ('small batches', 'There are 5 images and a batch size of 2; .* at least 4 of both'),
        ('no images', 'has no images; give an image, a folder or a quoted glob'),
        ('no config', 'missing.py is not a file; give a config'),
        ('another backbone', 'The backbone of .*config.py is ResNet, not RevCol'),
        ('a broken image', '4.png is not an image, or it is damaged'),
        ('small images', r'image of 16 x 16 pixels; .* must be at least 32'),
        ('another checkpoint', 'does not fit the model of this config, and nothing was loaded'),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(case, words, images, tmp_path, capfd):
    config, arguments = write_backbone(tmp_path), []
    if case == 'three images':
        for name in ('3.png', '4.png'):
            (images / name).unlink()
    elif case == 'small batches':
        arguments = ['--batch-size', '2']
    elif case == 'no images':
        images = tmp_path / 'empty'
        images.mkdir()
    elif case == 'no config':
        config = tmp_path / 'missing.py'
    elif case == 'another backbone':
        config = tmp_path / 'config.py'
        model = "dict(type='mmdet.ResNet', depth=18)"
        config.write_text(
            f"custom_imports = dict(imports=['revcol_backbone', 'mmdet.models'])\nmodel = {model}\n"
        )
    elif case == 'a broken image':
        (images / '4.png').write_bytes(b'\x89PNG but no more')
    elif case == 'small images':
        arguments = ['--shape', '16', '16']
    checkpoint = []
    if case == 'another checkpoint':
        checkpoint = [str(tmp_path / 'other.pth')]
        torch.save({'stem.0.weight': torch.zeros(1)}, checkpoint[0])
    out = tmp_path / 'out'
    status = main([str(config), *checkpoint, str(images), '--out', str(out), *arguments])
    assert status == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
    assert len(errors) == 1
    assert re.search(words, errors[0])
    assert not (out / 'cka.json').exists()


def test_a_map_shows_where_the_channels_depart_from_their_means():
    features = torch.zeros(2, 3, 3) + 5
    assert not spread(features).any()
    features[1, 0, 2] = 14  # its mean is then 6
    shown = spread(features)
    assert shown[0, 2] == pytest.approx((8**2 / 2) ** 0.5)
    assert shown[1, 1] == pytest.approx((1 / 2) ** 0.5)
