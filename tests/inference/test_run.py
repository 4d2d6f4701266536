"""Runs over files: which ones are found, what becomes of them, and what a second run does."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from revcol_backbone.inference import load_predictor, predict_files
from revcol_backbone.inference.media import find_inputs
from revcol_backbone.inference.results import UNFINISHED, OutputFolder


@pytest.fixture
def predictor(color_detector):
    return load_predictor(*color_detector, 'cpu', batch_size=2)


@pytest.fixture
def folder(tmp_path):
    """Images of one stem in several formats and sub-folders."""
    root = tmp_path / 'in'
    for name in ('a.jpg', 'a.png', 'sub/a.png', 'sub/deeper/a.png'):
        save_image(root / name)
    return root


def save_image(path, color=(200, 30, 30), size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, color).save(path)


def names_of(inputs):
    return [item.name for item in inputs.found]


def files_in(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def test_a_folder_is_searched_with_its_sub_folders(folder, tmp_path):
    (folder / 'notes.txt').write_text('')
    save_image(folder / 'B.PNG')
    inputs = find_inputs(folder)
    assert names_of(inputs) == ['B.PNG', 'a.jpg', 'a.png', 'sub/a.png', 'sub/deeper/a.png']
    assert inputs.skipped == (folder / 'notes.txt',)


def test_one_file_and_globs_are_found(folder, tmp_path):
    assert names_of(find_inputs(folder / 'a.png')) == ['a.png']
    assert names_of(find_inputs(f'{folder}/*.png')) == ['a.png']
    assert names_of(find_inputs(f'{folder}/*/a.*')) == ['sub/a.png']
    assert names_of(find_inputs(f'{folder}/**/*.png')) == [
        *('a.png', 'sub/a.png', 'sub/deeper/a.png')
    ]


def test_a_name_with_the_signs_of_a_glob_is_a_file_first(tmp_path):
    save_image(tmp_path / 'in/a[1].png')
    assert names_of(find_inputs(tmp_path / 'in/a[1].png')) == ['a[1].png']


def test_results_inside_the_input_are_no_input(folder, predictor):
    predict_files(predictor, folder, folder / 'out')
    outcome = predict_files(predictor, folder, folder / 'out')
    assert (len(outcome.done), outcome.earlier, outcome.failures) == (4, 4, [])


def test_results_may_lie_beside_the_input(folder, predictor):
    for _ in range(2):
        outcome = predict_files(predictor, folder, folder)
        assert len(outcome.done) == 4
        assert outcome.failures == []
    assert outcome.earlier == 4


@pytest.mark.parametrize('name', ['visualizations/b.png', 'predictions.json', 'class_shares.csv'])
def test_files_of_other_origin_are_not_replaced(name, folder, predictor, tmp_path):
    save_image(tmp_path / 'image.png')
    own = tmp_path / 'out' / name
    own.parent.mkdir(parents=True)
    shutil.move(tmp_path / 'image.png', own)
    before = files_in(tmp_path / 'out')
    with pytest.raises(ValueError, match='which this tool did not write and would replace'):
        predict_files(predictor, folder, tmp_path / 'out')
    assert files_in(tmp_path / 'out') == before


def test_a_link_that_leads_nowhere_is_a_file_that_fails(folder, predictor, tmp_path):
    (folder / 'link.png').symlink_to(tmp_path / 'nowhere.png')
    outcome = predict_files(predictor, folder, tmp_path / 'out')
    assert len(outcome.done) == 4
    assert outcome.failures == [f'{folder}/link.png cannot be read: No such file or directory.']


@pytest.mark.parametrize(
    ('name', 'error', 'words'),
    [
        ('missing', FileNotFoundError, 'is not a file or folder, and no file matches it'),
        ('missing/*.png', FileNotFoundError, 'is not a file or folder, and no file matches it'),
        ('empty', ValueError, 'has no images or videos; their names end in .avi, .bmp'),
        ('notes.txt', ValueError, 'has no images or videos'),
    ],
)
def test_an_input_without_images_is_an_error(name, error, words, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'notes.txt').write_text('')
    with pytest.raises(error, match=words):
        find_inputs(tmp_path / name)


def test_inputs_of_one_stem_have_results_of_their_own(folder, predictor, tmp_path):
    out = tmp_path / 'out'
    predict_files(predictor, folder, out)
    stems = ['a.jpg', 'a.png', 'sub/a.png', 'sub/deeper/a.png']
    assert sorted(files_in(out)) == sorted(
        [
            *(f'visualizations/{stem}.jpg' for stem in stems),
            *(f'predictions/{stem}.json' for stem in stems),
            'predictions.json',
            'run.json',
        ]
    )


def test_a_second_run_does_only_what_is_missing_or_changed(folder, predictor, tmp_path):
    out = tmp_path / 'out'
    predict_files(predictor, folder, out)
    records = {path: path.stat().st_ctime_ns for path in (out / 'predictions').rglob('*.json')}
    (out / 'predictions/a.png.json').unlink()
    save_image(folder / 'sub/a.png', size=(50, 30))
    os.utime(folder / 'sub/a.png', (1, 1))  # older than its results, and yet another image
    outcome = predict_files(predictor, folder, out)
    assert (len(outcome.done), outcome.earlier) == (4, 2)
    kept = {p.relative_to(out).as_posix() for p, t in records.items() if p.stat().st_ctime_ns == t}
    assert kept == {'predictions/a.jpg.json', 'predictions/sub/deeper/a.png.json'}
    sizes = [(i['width'], i['height']) for i in json.loads(outcome.summary.read_text())['images']]
    assert sizes == [(40, 40), (40, 40), (50, 30), (40, 40)]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(score_threshold=0.5), 'score_threshold was 0.3, is 0.5'),
        (dict(visualizations=False), 'visualizations was with, is without'),
    ],
)
def test_results_of_another_run_are_not_mixed(change, words, folder, predictor, tmp_path):
    predict_files(predictor, folder, tmp_path / 'out')
    before = files_in(tmp_path / 'out')
    with pytest.raises(ValueError, match=words):
        predict_files(predictor, folder, tmp_path / 'out', **change)
    assert files_in(tmp_path / 'out') == before
    assert not (tmp_path / 'out' / UNFINISHED).exists()


def test_results_of_another_model_or_input_are_not_mixed(
    folder, predictor, color_detector, tmp_path
):
    out = tmp_path / 'out'
    predict_files(predictor, folder, out)
    other = shutil.copytree(folder, tmp_path / 'other')
    with pytest.raises(ValueError, match=f'input was {folder}, is {other}'):
        predict_files(predictor, other, out)
    for changes, words in (
        (dict(tile=64), 'tiles was none, is 64 overlapping by 16'),
        (dict(cfg_options={'model.data_preprocessor.pad_size_divisor': 2}), 'config was'),
    ):
        with pytest.raises(ValueError, match=words):
            predict_files(load_predictor(*color_detector, 'cpu', **changes), folder, out)


def test_a_batch_of_another_size_goes_on_with_a_run(folder, predictor, color_detector, tmp_path):
    predict_files(predictor, folder, tmp_path / 'out')
    other = load_predictor(*color_detector, 'cpu', batch_size=1)
    assert predict_files(other, folder, tmp_path / 'out').earlier == 4


def test_a_image_that_the_model_refuses_does_not_take_its_batch_along(
    folder, predictor, tmp_path, monkeypatch
):
    save_image(folder / 'b.png', size=(41, 40))
    forward = predictor.inferencer.model.predict

    def refuse(inputs, samples):
        if any(sample.img_shape == (40, 41) for sample in samples):
            raise RuntimeError('too\nodd')
        return forward(inputs, samples)

    monkeypatch.setattr(predictor.inferencer.model, 'predict', refuse)
    outcome = predict_files(predictor, folder, tmp_path / 'out')
    assert len(outcome.done) == 4
    assert outcome.failures == [
        f'{folder}/b.png (41 x 40 pixels) could not be predicted: RuntimeError: too odd'
    ]


@pytest.mark.parametrize('threshold', [-0.1, 1.5, float('nan')])
def test_a_threshold_that_no_score_can_have_is_an_error(threshold, folder, predictor, tmp_path):
    with pytest.raises(ValueError, match='a score threshold of .* is not allowed; give 0 to 1'):
        predict_files(predictor, folder, tmp_path / 'out', score_threshold=threshold)


def test_what_fails_while_it_is_written_leaves_no_file(tmp_path):
    out = OutputFolder(tmp_path / 'out', {})
    with out.replacing('a.txt') as path:
        path.write_text('whole')
    for name in ('a.txt', 'b.txt'):
        with contextlib.suppress(RuntimeError), out.replacing(name) as path:
            path.write_text('ha')
            raise RuntimeError
    assert (tmp_path / 'out/a.txt').read_text() == 'whole'
    assert not (tmp_path / 'out/b.txt').exists()
    OutputFolder(tmp_path / 'out', {}).close()
    assert sorted(files_in(tmp_path / 'out')) == ['a.txt', 'run.json']


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='cannot be written to .* choose another --out'):
        OutputFolder(tmp_path / 'file/out', {})


def test_progress_does_not_disturb_the_output(folder, predictor, tmp_path, capsys):
    predict_files(predictor, folder, tmp_path / 'out')
    captured = capsys.readouterr()
    assert captured.out == ''
    assert 'images' in captured.err


def test_detections_are_those_of_the_images(folder, predictor, tmp_path):
    image = np.full((60, 80, 3), 128, np.uint8)
    image[10:30, 20:50] = (220, 40, 40)
    Image.fromarray(image).save(folder / 'red.png')
    outcome = predict_files(predictor, f'{folder}/red.png', tmp_path / 'out')
    (annotation,) = json.loads(outcome.summary.read_text())['annotations']
    assert annotation['bbox'] == [20, 10, 30, 20]
    assert annotation['area'] == 600
