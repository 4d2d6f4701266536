"""The command that tests a published model: one index, server and data set, all small and local."""

import pytest
import torch
from mmengine.fileio import dump
from mmengine.runner import CheckpointLoader

from tests.configs import build_model
from tests.dataset_trees import make_ade20k_tree, make_coco_tree
from tests.file_server import serve
from tests.tiny_models import CASCADE, UPERNET, tiny_config
from tests.tools.commands import error_of
from tools.reproduce import compare, main


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))


@pytest.fixture
def segmentor(tmp_path):
    """The bytes of a fine-tuned shrunk UPerNet, whose config is ``seg_configs/tiny.py``."""
    config = tiny_config(UPERNET)
    for resize in config.tta_pipeline[1].transforms[0]:
        resize.scale = (64, 64)
    make_ade20k_tree(tmp_path / 'data/ade/ADEChallengeData2016')
    return _publish(config, tmp_path, 'seg_configs')


@pytest.fixture
def detector(tmp_path):
    """The bytes of a fine-tuned shrunk Cascade Mask R-CNN, config ``det_configs/tiny.py``."""
    config = tiny_config(CASCADE)
    config.model.test_cfg.rcnn.max_per_img = 5
    make_coco_tree(tmp_path / 'data/coco')
    return _publish(config, tmp_path, 'det_configs')


def _publish(config, tmp_path, folder):
    torch.manual_seed(0)
    path = tmp_path / 'published.pth'
    torch.save({'meta': {}, 'state_dict': build_model(config).state_dict()}, path)
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    config.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    (tmp_path / folder).mkdir()
    config.dump(tmp_path / folder / 'tiny.py')
    return path.read_bytes()


def write_index(tmp_path, folder, dataset, figures, weights):
    entry = {
        'Name': 'tiny',
        'Config': f'{folder}/tiny.py',
        'Metadata': {},
        'Results': [{'Task': 'Any', 'Dataset': dataset, 'Metrics': figures}],
    }
    if weights:
        entry['Weights'] = weights
    dump({'Models': [entry]}, tmp_path / 'metafile.yml')
    dump({'Import': ['metafile.yml']}, tmp_path / 'model-index.yml')
    return ['tiny', '--index', str(tmp_path / 'model-index.yml')]


def test_a_segmentor_is_fetched_tested_and_compared(segmentor, tmp_path, capsys):
    figures = {'mIoU': 0.0, 'mIoU(ms+flip)': 99.0}
    with serve(segmentor) as server:
        arguments = write_index(
            tmp_path, 'seg_configs', 'ADE20K', figures, server.url('upernet_tiny.pth')
        )
        main([*arguments, '--count', '2'])
        printed = capsys.readouterr().out
        assert 'tiny on val: 2 images, 2 label maps' in printed
        assert 'single scale' in printed
        assert 'on another set they do not compare' in printed
        (row,) = [line.split() for line in printed.splitlines() if line.startswith('mIoU  ')]
        name, published, measured, difference, verdict = row
        assert (name, published, verdict) == ('mIoU', '0.0', 'reproduced')
        assert 0 <= float(measured) == float(difference) <= 100

        # The multi-scale figure is compared in a multi-scale test, and nothing is fetched twice.
        assert main([*arguments, '--count', '2', '--tta']) == 1
        assert server.requests == [None]
    printed = capsys.readouterr().out
    assert 'multi-scale and flip' in printed
    assert '99.0' in printed
    assert 'falls short' in printed


def test_a_detector_is_tested_for_boxes_and_masks(detector, tmp_path, capsys):
    data = (tmp_path / 'data/coco').rename(tmp_path / 'elsewhere')
    weights = tmp_path / 'mine.pth'
    weights.write_bytes(detector)
    figures = {'box AP': 0.0, 'mask AP': 80.0}
    arguments = write_index(tmp_path, 'det_configs', 'COCO', figures, None)
    options = ['--checkpoint', str(weights), '--data-root', str(data), '--count', '2']
    assert main([*arguments, *options]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['box', 'AP', '0.0', '0.0', '+0.0', 'reproduced'] in lines
    assert ['mask', 'AP', '80.0', '0.0', '-80.0', 'falls', 'short'] in lines


def test_an_interrupted_download_goes_on_in_the_next_run(segmentor, tmp_path, capsys):
    with serve(segmentor) as server:
        arguments = write_index(
            tmp_path, 'seg_configs', 'ADE20K', {'mIoU': 0.0}, server.url('upernet_tiny.pth')
        )
        server.breaks_after = 5000
        assert 'ended after 5000 of' in error_of(main, *arguments, '--count', '2')
        server.breaks_after = None
        main([*arguments, '--count', '2'])
        assert server.requests == [None, 'bytes=5000-']
    assert 'reproduced' in capsys.readouterr().out


def test_a_missing_data_set_is_told_before_anything_is_fetched(segmentor, tmp_path):
    (tmp_path / 'data').rename(tmp_path / 'gone')
    with serve(segmentor) as server:
        arguments = write_index(
            tmp_path, 'seg_configs', 'ADE20K', {'mIoU': 0.0}, server.url('upernet_tiny.pth')
        )
        message = error_of(main, *arguments)
        assert server.requests == []
    assert 'tiny was not tested' in message
    assert 'data/ade/ADEChallengeData2016 is not a folder; correct the path, or download' in message
    assert 'ADEChallengeData2016.zip' in message


def test_an_incomplete_data_set_is_told(segmentor, tmp_path):
    arguments = write_index(tmp_path, 'seg_configs', 'ADE20K', {'mIoU': 0.0}, None)
    assert 'has 2 images where ADE20K' in error_of(main, *arguments)


def test_a_model_without_published_file_says_how_to_get_one(segmentor, tmp_path):
    arguments = write_index(tmp_path, 'seg_configs', 'ADE20K', {'mIoU': 0.0}, None)
    message = error_of(main, *arguments, '--count', '2')
    assert 'no fine-tuned file of tiny was published' in message
    assert '`mim train mmseg seg_configs/tiny.py`' in message


def test_the_file_of_another_model_is_refused(segmentor, tmp_path):
    arguments = write_index(tmp_path, 'seg_configs', 'ADE20K', {'mIoU': 0.0}, None)
    torch.save({'state_dict': {'head.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    message = error_of(
        main, *arguments, '--count', '2', '--checkpoint', str(tmp_path / 'other.pth')
    )
    assert 'does not fit the model of this config, and nothing was loaded' in message


def test_an_unknown_name_and_a_figure_that_was_not_published_are_told(segmentor, tmp_path):
    arguments = write_index(tmp_path, 'seg_configs', 'ADE20K', {'mIoU': 0.0}, None)
    assert 'large is unknown; the models are tiny.' in error_of(main, 'large', *arguments[1:])
    assert 'no published multi-scale figures' in error_of(main, *arguments, '--tta')


def test_the_list_has_every_published_model(capsys):
    main(['--list'])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 25
    assert lines[0].split()[:2] == ['revcol_t_cascade', 'COCO']
    assert lines[0].endswith('/detection/cmr_tiny_3x_in1k_AP508.pth')


def test_a_figure_may_be_below_the_published_one_by_the_tolerance(capsys):
    assert compare({'mIoU': 47.4}, {'mIoU': 47.26}, tolerance=0.1) == 0
    assert compare({'mIoU': 47.4}, {'mIoU': 47.2}, tolerance=0.1) == 1
    assert compare({'mIoU': 47.4}, {'mIoU': 49.0}, tolerance=0.0) == 0
    assert '-0.1  reproduced' in capsys.readouterr().out
