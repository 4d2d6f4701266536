"""The command that detects: files of every kind, interruptions, tiles, video and mistakes."""

import json
import shutil
import signal

import numpy as np
import pytest
from pycocotools.coco import COCO

from revcol_backbone.inference import read_image
from revcol_backbone.inference.results import UNFINISHED
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
from tests.tiny_data import CLASSES, make_coco
from tools.infer_det import main

LEFT, TOP, RIGHT, BOTTOM = BOX


def infer(model, source, out, *options):
    return main([*map(str, model), str(source), '--out', str(out), *options])


def read_coco(out):
    return COCO(str(out / 'predictions.json'))


def annotations_of(coco, name):
    (image,) = [image for image in coco.imgs.values() if image['file_name'] == name]
    return coco.imgToAnns[image['id']]


def test_every_kind_of_image_is_predicted_as_a_person_sees_it(color_detector, tmp_path):
    names = write_every_kind(tmp_path / 'in')
    assert infer(color_detector, tmp_path / 'in', tmp_path / 'out', '--batch-size', '3') == 0
    coco = read_coco(tmp_path / 'out')
    assert [image['file_name'] for image in coco.imgs.values()] == names
    assert [category['name'] for category in coco.cats.values()] == list(CLASSES)
    for name in names:
        annotations = annotations_of(coco, name)
        if name in ('gray.png', 'one_pixel.png'):
            assert annotations == []
            continue
        (annotation,) = annotations
        assert annotation['bbox'] == [LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP]
        assert (annotation['category_id'], annotation['score']) == (1, pytest.approx(0.9))
        mask = coco.annToMask(annotation)
        assert mask.shape == SIZE
        assert mask[TOP:BOTTOM, LEFT:RIGHT].all()
        assert annotation['area'] == mask.sum() == (RIGHT - LEFT) * (BOTTOM - TOP)
    drawn = read_image(tmp_path / 'out/visualizations/color.png.jpg')
    assert drawn.shape == (*SIZE, 3)
    changes = np.abs(drawn.astype(int) - read_image(tmp_path / 'in/color.png'))
    assert changes[BOTTOM : BOTTOM + 5, LEFT:RIGHT].mean() > 20  # the name
    assert changes[: TOP - 2].mean() < 2


def test_results_can_be_evaluated_by_pycocotools(color_detector, tmp_path):
    data = make_coco(tmp_path / 'coco')
    assert infer(color_detector, data / 'val', tmp_path / 'out') == 0
    truth = COCO(str(data / 'val.json'))
    ids = {image['file_name']: image['id'] for image in truth.imgs.values()}
    predicted = read_coco(tmp_path / 'out')
    results = [
        dict(annotation, image_id=ids[predicted.imgs[annotation['image_id']]['file_name']])
        for annotation in predicted.anns.values()
    ]
    loaded = truth.loadRes(results)
    assert len(loaded.anns) == len(truth.anns)
    for annotation in truth.anns.values():
        (match,) = [
            other
            for other in loaded.imgToAnns[annotation['image_id']]
            if other['category_id'] == annotation['category_id']
        ]
        assert match['bbox'] == annotation['bbox']


def test_bad_files_are_listed_and_the_others_predicted(color_detector, tmp_path, capsys):
    good = write_every_kind(tmp_path / 'in')
    bad = write_bad_ones(tmp_path / 'in')
    (tmp_path / 'in/notes.txt').write_text('')
    assert infer(color_detector, tmp_path / 'in', tmp_path / 'out', '--batch-size', '4') == 1
    output = capsys.readouterr()
    failed = [line for line in output.err.splitlines() if line.startswith('failed: ')]
    assert sorted(line.split()[1].split('/')[-1] for line in failed) == bad
    assert f'{len(good)} files have results (0 of them from earlier runs), 4 failed' in output.out
    assert 'skipped 1 files that are not images or videos (notes.txt)' in output.out
    assert len(read_coco(tmp_path / 'out').imgs) == len(good)


def test_the_threshold_decides_what_is_written_and_drawn(color_detector, tmp_path):
    write_every_kind(tmp_path / 'in')
    source = tmp_path / 'in/color.png'
    assert infer(color_detector, source, tmp_path / 'out', '--score-thr', '0.95') == 0
    assert read_coco(tmp_path / 'out').anns == {}
    drawn = read_image(tmp_path / 'out/visualizations/color.png.jpg').astype(int)
    assert np.abs(drawn - read_image(source)).mean() < 2


def test_without_images_there_are_only_results(color_detector, tmp_path):
    write_every_kind(tmp_path / 'in')
    assert infer(color_detector, tmp_path / 'in', tmp_path / 'out', '--no-visualizations') == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        *('predictions', 'predictions.json', 'run.json')
    ]


def test_a_real_detector_predicts_in_tiles_and_augmented(cascade, tmp_path):
    write_every_kind(tmp_path / 'in')
    options = ['--tta', '--tile', '64', '--overlap', '32', '--batch-size', '2', '--device', 'cpu']
    options += ['--score-thr', '0', '--cfg-options', 'model.test_cfg.rcnn.max_per_img=3']
    assert infer(cascade, tmp_path / 'in', tmp_path / 'out', *options) == 0
    coco = read_coco(tmp_path / 'out')
    assert len(coco.imgs) == 7
    boxes = np.array([a['bbox'] for a in annotations_of(coco, 'color.png')])
    assert boxes.min() >= 0
    assert 64 < (boxes[:, 0] + boxes[:, 2]).max() <= SIZE[1]
    assert annotations_of(coco, 'one_pixel.png')  # the pipeline makes it larger


def test_a_video_has_a_image_and_results_of_each_frame(color_detector, tmp_path):
    write_video(tmp_path / 'clip.avi', frames=5)
    out = tmp_path / 'out'
    assert infer(color_detector, tmp_path / 'clip.avi', out, '--batch-size', '2') == 0
    frames = read_video(out / 'visualizations/clip.avi.mp4')
    assert len(frames) == 5
    assert frames[0].shape == (*SIZE, 3)
    coco = read_coco(out)
    assert [(i['file_name'], i['frame_id']) for i in coco.imgs.values()] == [
        ('clip.avi', frame) for frame in range(5)
    ]
    for annotations in coco.imgToAnns.values():
        assert np.abs(np.array(annotations[0]['bbox']) - [20, 10, 30, 20]).max() <= 1
    assert len(coco.anns) >= 5


def test_a_video_that_is_cut_short_is_told(color_detector, tmp_path, capsys):
    video = tmp_path / 'clip.avi'
    write_video(video, frames=40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert infer(color_detector, video, tmp_path / 'out', '--no-visualizations') == 0
    frames = len(read_coco(tmp_path / 'out').imgs)
    assert 0 < frames < 40
    assert f'may be truncated: {frames} frames could be decoded, its header says 40' in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_at_once(cascade, tmp_path):
    source, out = make_coco(tmp_path / 'coco', images=40) / 'val', tmp_path / 'out'
    arguments = [*cascade, source, '--out', out, '--score-thr', '0', '--device', 'cpu']
    kept = {}
    for after in (1, 6, 11, 17, 22, 28, 34):
        status, _, records = interrupt(
            'infer_det.py', arguments, out / 'predictions', after, signal.SIGKILL
        )
        assert status == -signal.SIGKILL
        assert [record.name for record in records] == [
            f'{index:06}.png.json' for index in range(len(records))
        ]
        for record in records:
            assert json.loads(record.read_text())['images']
            drawing = out / 'visualizations' / f'{record.stem}.jpg'
            assert read_image(drawing).shape == (96, 96, 3)
        times = {record: record.stat().st_ctime_ns for record in records}
        assert kept.items() <= times.items()
        kept = times
        assert not (out / 'predictions.json').exists()

    assert infer(cascade, source, out, '--score-thr', '0', '--device', 'cpu') == 0
    assert (
        kept.items()
        <= {record: record.stat().st_ctime_ns for record in (out / 'predictions').iterdir()}.items()
    )
    assert not (out / UNFINISHED).exists()
    at_once = tmp_path / 'at_once'
    assert infer(cascade, source, at_once, '--score-thr', '0', '--device', 'cpu') == 0
    for file in at_once.rglob('*'):
        if file.is_file():
            assert (out / file.relative_to(at_once)).read_bytes() == file.read_bytes(), file


def test_another_checkpoint_does_not_add_to_a_folder(color_detector, tmp_path, capsys):
    write_every_kind(tmp_path / 'in')
    infer(color_detector, tmp_path / 'in', tmp_path / 'out')
    other = models.make_color_detector(tmp_path / 'other')
    other.checkpoint.write_bytes(other.checkpoint.read_bytes() + b'\0')
    shutil.copy(other.checkpoint, tmp_path / 'epoch_12.pth')
    capsys.readouterr()
    arguments = (other.config, tmp_path / 'epoch_12.pth')
    assert infer(arguments, tmp_path / 'in', tmp_path / 'out') == 1
    message = capsys.readouterr().err
    assert 'holds the results of another run (checkpoint was model.pth (sha256' in message
    assert 'is epoch_12.pth' in message


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(checkpoint='missing.pth'), 'missing.pth is not a file; give the checkpoint'),
        (dict(config='missing.py'), 'missing.py is not a file; give a config'),
        (dict(source='missing'), 'missing is not a file or folder, and no file matches it'),
        (dict(out='in/color.png/out'), 'cannot be written to (Not a directory); choose another'),
        (dict(options=['--device', 'cuda:99']), "device 'cuda:99' cannot be used"),
        (dict(options=['--tta']), 'has no `tta_model` and no `tta_pipeline`'),
        (dict(options=['--tile', '16']), 'a tile of 16 pixels is not allowed'),
        (dict(options=['--tile', '64', '--overlap', '64']), 'cannot overlap by 64; give 0 to 63'),
        (dict(options=['--batch-size', '0']), 'a batch size of 0 is not allowed'),
        (dict(options=['--score-thr', '30']), 'a score threshold of 30.0 is not allowed'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_a_mistake_is_one_sentence(change, words, color_detector, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_every_kind(tmp_path / 'in')
    model = (
        change.get('config', color_detector.config),
        change.get('checkpoint', color_detector.checkpoint),
    )
    source, out = change.get('source', 'in'), change.get('out', 'out')
    assert infer(model, source, out, *change.get('options', [])) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert words in error
    assert error.count('\n') == 1


def test_the_checkpoint_of_another_config_is_an_error(cascade, color_detector, tmp_path, capsys):
    write_every_kind(tmp_path / 'in')
    model = (cascade.config, color_detector.checkpoint)
    assert infer(model, tmp_path / 'in', tmp_path / 'out') == 1
    error = capsys.readouterr().err
    assert 'does not fit the model of this config, and nothing was loaded' in error
    assert not (tmp_path / 'out').exists()


def test_a_segmentor_is_sent_to_its_own_tool(tmp_path, capsys):
    model = models.make_color_segmentor(tmp_path)
    assert infer(model, tmp_path, tmp_path / 'out') == 1
    assert 'is the config of a segmentor; use tools/infer_seg.py' in capsys.readouterr().err


def test_an_overlap_without_tiles_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        infer(('config.py', 'model.pth'), tmp_path, tmp_path / 'out', '--overlap', '8')
    assert '--overlap needs --tile' in capsys.readouterr().err
