"""The template for a user's own label maps, on a set that nothing was made for."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from tests.configs import ROOT
from tests.custom_configs import fill_in, small, write_published
from tests.shapes_data import CLASSES, make_shape_maps
from tests.tiny_models import UPERNET

TEMPLATE = 'seg_configs/custom_dataset.py'
NAMES = ('background', *CLASSES)
PUBLISHED = "_base_.fine_tuned + 'segmentation/upernet_revcol_tiny_fp16_512x512_160k_ade20k.pth'"


def filled_in(data: Path, target: Path, published: Path | None = None) -> Path:
    return fill_in(
        TEMPLATE,
        target,
        ("'data/my_dataset/'", f"'{data}/'"),
        ("('background', 'road')", repr(NAMES)),
        (PUBLISHED, repr(str(published)) if published else 'None'),
    )


def test_it_has_fewer_than_25_lines():
    assert len((ROOT / TEMPLATE).read_text().splitlines()) < 25


def test_heads_and_metainfo_follow_from_the_names(tmp_path):
    config = Config.fromfile(filled_in(tmp_path / 'data', tmp_path / 'mine.py'))
    assert config.model.decode_head.num_classes == config.model.auxiliary_head.num_classes == 4
    for split in ('train', 'val', 'test'):
        dataset = config[f'{split}_dataloader'].dataset
        assert (dataset.type, dataset.metainfo.classes) == ('BaseSegDataset', NAMES)
        assert not dataset.get('reduce_zero_label')


def test_it_trains_and_tests_from_a_published_segmentor(tmp_path):
    data = make_shape_maps(tmp_path / 'data')
    published = write_published(UPERNET, tmp_path / 'upernet_tiny.pth')
    config = small(filled_in(data, tmp_path / 'mine.py', published), tmp_path)
    config.optim_wrapper.optimizer.lr = 0.0
    runner = Runner.from_cfg(config)
    runner.train()

    stored = torch.load(published, weights_only=True)['state_dict']
    trained = runner.model.state_dict()
    key = 'backbone.stem.0.weight'
    assert torch.equal(trained[key], stored[key])
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'the current batch size is 2. Scaling the original LR by 0.125' in log
    assert '|    disc    |' in log  # a row of the table of classes
    assert 0 <= runner.test()['mIoU'] <= 100
