"""The template for a user's own COCO-format data, on a set that nothing was made for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from tests.configs import ROOT
from tests.custom_configs import fill_in, small, write_published
from tests.shapes_data import CLASSES, make_shapes
from tests.tiny_models import CASCADE

TEMPLATE = 'det_configs/custom_dataset.py'
WITH_MASKS = './revcol_t_cascade.py'


def filled_in(data: Path, target: Path, base: str = WITH_MASKS, published: str = 'None') -> Path:
    return fill_in(
        TEMPLATE,
        target,
        ("'data/my_dataset/'", f"'{data}/'"),
        (
            "_base_.fine_tuned + 'detection/cmr_tiny_3x_in1k_AP508.pth'",
            repr(published) if published != 'None' else published,
        ),
        (f"/{WITH_MASKS.removeprefix('./')}'\nfrom", f"/{base.removeprefix('./')}'\nfrom"),
    )


def test_it_has_fewer_than_25_lines():
    assert len((ROOT / TEMPLATE).read_text().splitlines()) < 25


@pytest.mark.parametrize('boxes', [False, True], ids=['masks', 'boxes'])
def test_heads_evaluators_and_metainfo_follow_from_the_annotation_file(boxes, tmp_path):
    data = make_shapes(tmp_path / 'data', masks=not boxes)
    base = './revcol_t_cascade_boxes.py' if boxes else WITH_MASKS
    config = Config.fromfile(filled_in(data, tmp_path / 'mine.py', base))
    roi_head = config.model.roi_head
    assert [head.num_classes for head in roi_head.bbox_head] == [3, 3, 3]
    assert (roi_head.mask_head is None) == boxes
    if not boxes:
        assert roi_head.mask_head.num_classes == 3
    for split in ('train', 'val', 'test'):
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == CLASSES
        assert dataset.data_root == f'{data}/'
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert evaluator.ann_file == f'{data}/val.json'
        assert evaluator.metric == ('bbox' if boxes else ['bbox', 'segm'])


@pytest.mark.parametrize('boxes', [False, True], ids=['masks', 'boxes'])
def test_it_trains_and_tests_from_a_published_detector(boxes, tmp_path):
    data = make_shapes(tmp_path / 'data', masks=not boxes)
    base = './revcol_t_cascade_boxes.py' if boxes else WITH_MASKS
    published = write_published(CASCADE, tmp_path / 'cmr_tiny.pth')
    config = small(filled_in(data, tmp_path / 'mine.py', base, str(published)), tmp_path)
    config.optim_wrapper.optimizer.lr = 0.0
    runner = Runner.from_cfg(config)
    runner.train()

    stored = torch.load(published, weights_only=True)['state_dict']
    trained = runner.model.state_dict()
    for key in ('backbone.stem.0.weight', 'neck.fpn_convs.0.conv.weight'):
        assert torch.equal(trained[key], stored[key])
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'the current batch size is 2. Scaling the original LR by 0.125' in log
    metrics = runner.test()
    assert 'coco/bbox_mAP' in metrics
    assert ('coco/segm_mAP' in metrics) != boxes


def test_boxes_without_masks_are_an_error_that_names_the_configs_for_them(tmp_path):
    data = make_shapes(tmp_path / 'data', masks=False)
    config = small(filled_in(data, tmp_path / 'mine.py'), tmp_path)
    with pytest.raises(ValueError, match=r'has no mask.*revcol_\{t,s,b,l,h\}_cascade_boxes\.py'):
        Runner.from_cfg(config).train()


def test_a_class_that_the_file_does_not_have_is_an_error_that_lists_what_it_has(tmp_path):
    data = make_shapes(tmp_path / 'data')
    config = small(filled_in(data, tmp_path / 'mine.py'), tmp_path)
    config.train_dataloader.dataset.metainfo.classes = ('disc', 'sqare', 'bar')
    with pytest.raises(ValueError, match=r"has no category 'sqare'.*'square', 'disc', 'bar'"):
        Runner.from_cfg(config).train()


def test_a_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'data/train\.json is not a file; correct'):
        Config.fromfile(filled_in(tmp_path / 'data', tmp_path / 'mine.py'))
