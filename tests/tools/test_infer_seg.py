"""The command that segments: files of every kind, interruptions, tiles, video and mistakes."""

import csv
import signal

import cv2
import numpy as np
import pytest

from revcol_backbone.inference import read_image
from tests.inference import models
from tests.inference.run_files import (
    BOX,
    SIZE,
    interrupt,
    read_video,
    write_bad_ones,
    write_every_kind,
    write_video,
)
from tests.tiny_data import CLASSES, make_ade20k
from tools.infer_seg import main

LEFT, TOP, RIGHT, BOTTOM = BOX
RED_SHARE = (RIGHT - LEFT) * (BOTTOM - TOP) / (SIZE[0] * SIZE[1])


@pytest.fixture(scope='module')
def blue_segmentor(tmp_path_factory):
    return models.make_blue_segmentor(tmp_path_factory.mktemp('blue_segmentor'))


def infer(model, source, out, *options):
    return main([*map(str, model), str(source), '--out', str(out), *options])


def read_labels(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def read_shares(out):
    """The rows of the table, by file and frame."""
    with (out / 'class_shares.csv').open(newline='') as file:
        return {(row.pop('file'), row.pop('frame')): row for row in csv.DictReader(file)}


def assert_box(labels):
    assert (labels.shape, labels.dtype) == (SIZE, np.uint8)
    assert (labels[TOP:BOTTOM, LEFT:RIGHT] == 0).all()
    assert labels.mean() == pytest.approx(1 - RED_SHARE)


def test_every_kind_of_image_is_segmented_as_a_person_sees_it(color_segmentor, tmp_path):
    names = write_every_kind(tmp_path / 'in')
    out = tmp_path / 'out'
    assert infer(color_segmentor, tmp_path / 'in', out, '--batch-size', '3') == 0
    shares = read_shares(out)
    assert list(shares) == [(name, '') for name in names]
    for name in names:
        labels = read_labels(out / f'label_maps/{name}.png')
        row = shares[name, '']
        assert list(row) == list(CLASSES)
        assert float(row['red_box']) == pytest.approx((labels == 0).mean(), abs=1e-6)
        assert sum(map(float, row.values())) == pytest.approx(1, abs=1e-5)
        drawn = read_image(out / f'visualizations/{name}.jpg')
        assert drawn.shape[1] > labels.shape[1]  # for the legend
    for name in ('color.png', 'transparent.png', '16_bit.png', 'turned.png', 'palette.png'):
        labels = read_labels(out / f'label_maps/{name}.png')
        assert labels.shape == SIZE
        assert (labels[TOP:BOTTOM, LEFT:RIGHT] == 0).all()


def test_bad_files_are_listed_and_the_others_segmented(color_segmentor, tmp_path, capsys):
    good = write_every_kind(tmp_path / 'in')
    bad = write_bad_ones(tmp_path / 'in')
    assert infer(color_segmentor, tmp_path / 'in', tmp_path / 'out') == 1
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith('failed: ')]
    assert sorted(line.split()[1].split('/')[-1] for line in failed) == bad
    assert len(read_shares(tmp_path / 'out')) == len(good)


@pytest.mark.parametrize('options', [[], ['--tile', '40', '--overlap', '8', '--batch-size', '2']])
@pytest.mark.parametrize('tta', [[], ['--tta']])
def test_tiles_and_augmentation_give_the_same_label_map(options, tta, blue_segmentor, tmp_path):
    write_every_kind(tmp_path / 'in')
    image = read_image(tmp_path / 'in/color.png')
    image[TOP:BOTTOM, LEFT:RIGHT] = (220, 60, 40)  # blue
    cv2.imwrite(str(tmp_path / 'blue.png'), image)
    out = tmp_path / 'out'
    assert (
        infer(blue_segmentor, tmp_path / 'blue.png', out, '--no-visualizations', *options, *tta)
        == 0
    )
    labels = read_labels(out / 'label_maps/blue.png.png')
    expected = np.zeros(SIZE, np.uint8)
    expected[TOP:BOTTOM, LEFT:RIGHT] = 1
    assert np.array_equal(labels, expected)
    assert not (out / 'visualizations').exists()


def test_a_image_that_the_model_cannot_take_is_a_sentence(upernet, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'one_pixel.png'), np.zeros((1, 1, 3), np.uint8))
    keep = 'test_dataloader.dataset.pipeline.1.scale=(1,1)'
    out = tmp_path / 'out'
    assert infer(upernet, tmp_path / 'one_pixel.png', out, '--cfg-options', keep) == 1
    error = capsys.readouterr().err
    assert 'one_pixel.png (1 x 1 pixels) could not be predicted: ValueError: RevCol' in error
    assert 'at least 32' in error


def test_a_real_segmentor_predicts_in_tiles_and_augmented(upernet, tmp_path):
    write_every_kind(tmp_path / 'in')
    out = tmp_path / 'out'
    options = ['--tta', '--tile', '64', '--overlap', '32', '--batch-size', '2', '--device', 'cpu']
    assert infer(upernet, f'{tmp_path}/in/*.png', out, *options) == 0
    assert len(read_shares(out)) == 7
    assert read_labels(out / 'label_maps/color.png.png').shape == SIZE


def test_a_video_has_a_image_and_a_label_map_of_each_frame(color_segmentor, tmp_path):
    write_video(tmp_path / 'clip.avi', frames=4)
    out = tmp_path / 'out'
    assert infer(color_segmentor, tmp_path / 'clip.avi', out, '--batch-size', '3') == 0
    frames = read_video(out / 'visualizations/clip.avi.mp4')
    assert len(frames) == 4
    assert frames[0].shape[1] > SIZE[1]
    label_maps = sorted((out / 'label_maps/clip.avi').iterdir())
    assert [path.name for path in label_maps] == [f'{frame:06}.png' for frame in range(4)]
    assert list(read_shares(out)) == [('clip.avi', str(frame)) for frame in range(4)]
    assert infer(color_segmentor, tmp_path / 'clip.avi', out, '--batch-size', '3') == 0
    assert sorted((out / 'label_maps/clip.avi').iterdir()) == label_maps


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_resume_and_resumes(upernet, tmp_path):
    source = make_ade20k(tmp_path / 'ade', images=20) / 'images/validation'
    out = tmp_path / 'out'
    arguments = [*upernet, source, '--out', out]
    status, errors, records = interrupt(
        'infer_seg.py', arguments, out / 'label_maps', 2, signal.SIGINT
    )
    assert status == 130
    assert 'interrupted; run the same command again to resume' in errors
    assert 'Traceback' not in errors
    assert [record.name for record in records] == [
        f'{index:06}.jpg.png' for index in range(len(records))
    ]
    before = {record: record.stat().st_ctime_ns for record in records}

    assert infer(upernet, source, out) == 0
    assert {record: record.stat().st_ctime_ns for record in records} == before
    assert infer(upernet, source, tmp_path / 'at_once') == 0
    table = (out / 'class_shares.csv').read_text()
    assert table == (tmp_path / 'at_once/class_shares.csv').read_text()
    assert table.count('\n') == 21


def test_more_than_256_classes_need_16_bits(tmp_path):
    model = models.make_blue_segmentor(tmp_path / 'model')
    write_every_kind(tmp_path / 'in')
    names = [f'class {label}' for label in range(300)]
    options = [
        *('--cfg-options', 'model.num_classes=300'),
        f'test_dataloader.dataset.metainfo.classes={names!r}'.replace(' ', ''),
    ]
    out = tmp_path / 'out'
    assert infer(model, tmp_path / 'in/color.png', out, *options) == 0
    assert read_labels(out / 'label_maps/color.png.png').dtype == np.uint16


def test_a_detector_is_sent_to_its_own_tool(tmp_path, capsys):
    model = models.make_color_detector(tmp_path)
    assert infer(model, tmp_path, tmp_path / 'out') == 1
    assert 'is the config of a detector; use tools/infer_det.py' in capsys.readouterr().err


def test_the_checkpoint_of_another_config_is_an_error(upernet, color_segmentor, tmp_path, capsys):
    model = (upernet.config, color_segmentor.checkpoint)
    assert infer(model, tmp_path, tmp_path / 'out') == 1
    assert 'does not fit the model of this config' in capsys.readouterr().err
