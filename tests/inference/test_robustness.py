"""Files that would hang, crash or end a run: each is a sentence, and the others are predicted."""

import csv
import os
import resource
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from revcol_backbone.inference import load_predictor, predict_files, read_image
from revcol_backbone.inference.media import find_inputs
from revcol_backbone.inference.video import VideoReader, VideoWriter
from tests.configs import ROOT
from tests.inference.run_files import red_box_image, write_every_kind, write_video

IMAGE = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
NOT_UTF8 = os.fsdecode(b'caf\xe9')


@pytest.fixture
def detector(color_detector):
    return load_predictor(*color_detector, 'cpu')


@pytest.mark.parametrize('kind', ['pipe', 'device', 'folder'])
def test_what_is_not_a_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / 'endless.png'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    else:
        path.mkdir()
    with pytest.raises(ValueError, match=f'{path} is a .*, not a file; give a file'):
        read_image(path)
    with pytest.raises(ValueError, match=f'{path} is a .*, not a file; give a file'):
        VideoReader(path)


def test_pipes_and_links_in_a_circle_fail_alone_in_every_run(detector, tmp_path):
    folder = tmp_path / 'in'
    write_every_kind(folder)
    os.mkfifo(folder / 'pipe.png')
    os.mkfifo(folder / 'pipe.mp4')
    (folder / 'circle.png').symlink_to('circle.png')
    (folder / 'up').symlink_to('..')
    for earlier in (0, 7):
        outcome = predict_files(detector, folder, tmp_path / 'out')
        assert len(outcome.failures) == 3
        assert (len(outcome.done), outcome.earlier) == (7, earlier)


def test_a_glob_does_not_follow_links_to_folders(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/image.png').write_bytes(IMAGE)
    (tmp_path / 'a/back').symlink_to('..')
    assert [item.name for item in find_inputs(f'{tmp_path}/**/*.png').found] == ['a/image.png']
    assert [item.name for item in find_inputs(f'{tmp_path}/**').found] == ['a/image.png']


def test_a_name_that_is_not_utf8_is_predicted(detector, color_segmentor, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / f'in/{NOT_UTF8}.png').write_bytes(IMAGE)
    outcome = predict_files(detector, tmp_path / 'in', tmp_path / 'detected')
    assert (len(outcome.done), outcome.failures) == (1, [])
    segmentor = load_predictor(*color_segmentor, 'cpu')
    outcome = predict_files(segmentor, tmp_path / 'in', tmp_path / 'segmented')
    assert (len(outcome.done), outcome.failures) == (1, [])
    with outcome.summary.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
        (row,) = csv.DictReader(file)
    assert row['file'] == f'{NOT_UTF8}.png'


def test_a_video_whose_name_is_not_utf8_is_a_failure(detector, tmp_path):
    write_video(tmp_path / 'clip.avi', frames=2)
    (tmp_path / 'in').mkdir()
    (tmp_path / 'clip.avi').rename(tmp_path / f'in/{NOT_UTF8}.avi')
    (failure,) = predict_files(detector, tmp_path / 'in', tmp_path / 'out').failures
    assert 'is not valid UTF-8' in failure


def test_a_name_that_the_results_make_too_long_is_a_failure(detector, tmp_path):
    write_every_kind(tmp_path / 'in')
    (tmp_path / 'in' / f'{"x" * 251}.png').write_bytes(IMAGE)
    write_video(tmp_path / 'clip.avi', frames=1)
    (tmp_path / 'clip.avi').rename(tmp_path / 'in' / f'{"y" * 251}.avi')
    for _ in range(2):
        outcome = predict_files(detector, tmp_path / 'in', tmp_path / 'out')
        assert len(outcome.done) == 7
        assert len(outcome.failures) == 2
        for failure in outcome.failures:
            assert 'too long for the file system; rename it' in failure


def test_a_name_with_markup_is_shown_as_it_is(detector, tmp_path):
    write_video(tmp_path / 'clip.avi', frames=2)
    (tmp_path / 'in/[bold][').mkdir(parents=True)
    (tmp_path / 'clip.avi').rename(tmp_path / 'in/[bold][/red].avi')
    (done,) = predict_files(detector, tmp_path / 'in', tmp_path / 'out').done
    assert done.name == '[bold][/red].avi'


def test_a_video_that_does_not_fit_the_disk_is_not_done(color_detector, tmp_path):
    """The largest file that the process may write stands in for the space on the disk."""
    noise = np.random.default_rng(0)
    writer = cv2.VideoWriter(
        str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 25, (160, 120)
    )
    for _ in range(30):
        writer.write(noise.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    writer.release()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools/infer_det.py'), *color_detector]
    command += [tmp_path / 'clip.avi', '--out', tmp_path / 'out', '--score-thr', '1']
    run = subprocess.run(
        list(map(str, command)),
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    (error,) = [line for line in run.stderr.splitlines() if line.startswith('error: ')]
    assert 'free space on the disk' in error
    assert 'Traceback' not in run.stderr
    assert not (tmp_path / 'out/visualizations/clip.avi.mp4').exists()
    assert not list((tmp_path / 'out').glob('predictions/*'))


def test_a_video_is_read_back_after_writing(tmp_path):
    with VideoWriter(tmp_path / 'a.mp4', 5.0) as writer:
        writer.add(red_box_image())
    writer = VideoWriter(tmp_path / 'b.mp4', 5.0)
    # Enough for the encoder to have begun the file, which then vanishes.
    for _ in range(120):
        writer.add(red_box_image())
    (tmp_path / 'b.mp4').unlink()
    with pytest.raises(OSError, match='b.mp4 has 0 of 120 frames after writing'):
        writer.close()


@pytest.mark.parametrize('seed', range(8))
def test_damaged_images_are_decoded_or_an_error(seed, tmp_path):
    """3,000 damaged images in all: bits turned over, parts cut out, ends cut off."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for number in range(375):
        suffix = ('.png', '.jpg', '.bmp', '.webp', '.tiff')[number % 5]
        data = bytearray(cv2.imencode(suffix, noise)[1].tobytes())
        kind = number % 3
        if kind == 0:
            for place in generator.integers(0, len(data), 8):
                data[place] ^= int(generator.integers(1, 256))
        elif kind == 1:
            start = int(generator.integers(0, len(data)))
            del data[start : start + 40]
        else:
            del data[int(generator.integers(0, len(data))) :]
        try:
            image = read_image(bytes(data))
        except ValueError:
            continue
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
