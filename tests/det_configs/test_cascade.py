"""The COCO configs: their numbers against the published recipes, and that they run."""

import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope

from tests.configs import (
    ROOT,
    assert_groups_follow_the_rule,
    build_model,
    light_loaders,
    load_config,
    mim,
)
from tests.published_numbers import CASCADE, HUGE_WEIGHTS
from tests.tiny_data import CLASSES, make_coco
from tests.tiny_models import detection_batch, tiny_config

ALL = [*CASCADE, 'revcol_h_cascade']
SHORT_SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
TTA_SIDES = (64, 80, 96, 112, 128)
every_config = pytest.mark.parametrize('name', ALL)


def config_of(name):
    return load_config(f'det_configs/{name}.py')


def test_revcol_h_follows_revcol_l():
    config, large = config_of('revcol_h_cascade'), config_of('revcol_l_cascade_in22k')
    assert config.model.backbone == dict(
        type='RevCol',
        arch='huge',
        kernel_size=7,
        drop_path_rate=0.5,
        save_memory=True,
        init_cfg=dict(type='Pretrained', checkpoint=HUGE_WEIGHTS),
    )
    assert config.model.neck.in_channels == [360, 720, 1440, 2880]
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
        assert config[key] == large[key]
    assert config.model.roi_head == large.model.roi_head


@every_config
def test_the_shared_recipe_is_the_published_one(name):
    config = config_of(name)
    assert config.train_cfg.max_epochs == 36
    warmup, steps = config.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.end) == ('LinearLR', 0.001, 500)
    assert warmup.by_epoch is False
    assert (steps.type, steps.milestones, steps.gamma) == ('MultiStepLR', [27, 33], 0.1)
    assert (steps.by_epoch, steps.end) == (True, 36)
    wrapper = config.optim_wrapper
    assert (wrapper.type, wrapper.loss_scale) == ('PortableAmpOptimWrapper', 'dynamic')
    assert wrapper.optimizer.type == 'AdamW'
    assert wrapper.optimizer.betas == (0.9, 0.999)
    assert wrapper.optimizer.weight_decay == 0.05
    assert config.train_dataloader.batch_size == 2
    assert config.auto_scale_lr.base_batch_size == 16


@every_config
def test_the_heads_are_those_of_the_recipe(name):
    model = config_of(name).model
    assert (model.neck.out_channels, model.neck.num_outs) == (256, 5)
    assert model.roi_head.mask_head.type == 'FCNMaskHead'
    assert model.data_preprocessor.pad_size_divisor == 32
    assert len(model.roi_head.bbox_head) == 3
    for head in model.roi_head.bbox_head:
        assert (head.type, head.num_classes) == ('ConvFCBBoxHead', 80)
        assert (head.num_shared_convs, head.num_shared_fcs, head.fc_out_channels) == (4, 1, 1024)
        assert head.norm_cfg.type == 'SyncBN'
        assert (head.reg_class_agnostic, head.reg_decoded_bbox) == (False, True)
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ('GIoULoss', 10.0)


@every_config
def test_images_are_augmented_as_in_detr_and_tested_at_1333_by_800(name):
    config = config_of(name)
    flip, choice = config.train_dataloader.dataset.pipeline[2:4]
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    (resize,), (small, crop, again) = choice.transforms
    assert resize == again
    assert resize.scales == [(side, 1333) for side in SHORT_SIDES]
    assert [scale[0] for scale in small.scales] == [400, 500, 600]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.dataset.pipeline[1].scale == (1333, 800)


@every_config
def test_learning_rate_and_weight_decay_groups_follow_the_rule(name):
    config = config_of(name)
    assert_groups_follow_the_rule(config, build_model(config, 'meta'))


@pytest.mark.parametrize('name', ['revcol_t_cascade', 'revcol_h_cascade'])
def test_a_shrunk_copy_trains_and_predicts(name):
    torch.manual_seed(0)
    model = build_model(tiny_config(f'det_configs/{name}.py')).train()
    inputs, samples = detection_batch()

    with DefaultScope.overwrite_default_scope('mmdet'):
        losses = model.loss(inputs, samples)
    parsed, _ = model.parse_losses(losses)
    parsed.backward()
    assert {'loss_rpn_cls', 's0.loss_cls', 's2.loss_bbox', 's2.loss_mask'} <= losses.keys()
    assert torch.isfinite(parsed)
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0

    model.eval()
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmdet'):
        predictions = model.predict(inputs, samples)
    for prediction in predictions:
        found = prediction.pred_instances
        assert 0 < len(found) <= 100
        assert found.masks.shape == (len(found), 64, 96)


def test_a_missing_data_set_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = config_of('revcol_h_cascade').train_dataloader.dataset
    with (
        DefaultScope.overwrite_default_scope('mmdet'),
        pytest.raises(FileNotFoundError, match='data/coco/annotations/instances_train2017.json'),
    ):
        DATASETS.build(dataset)


@pytest.mark.slow
def test_mim_trains_and_tests_any_coco_format_set_on_a_cpu_through_options_alone(tmp_path):
    data = make_coco(tmp_path / 'data', images=2)
    config = ROOT / 'det_configs/revcol_t_cascade.py'
    options = [
        '--cfg-options',
        'model.backbone.init_cfg=None',
        *data_options(data),
        *fast_options(),
    ]
    work_dir = tmp_path / 'work'
    output = mim('train', 'mmdet', config, '--work-dir', work_dir, *options, cwd=tmp_path)
    assert 'training runs in float32' in output
    assert 'coco/segm_mAP' in output

    checkpoint = work_dir / 'epoch_1.pth'
    output = mim(
        *('test', 'mmdet', config, '--checkpoint', checkpoint, '--work-dir', work_dir, '--tta'),
        *options,
        cwd=tmp_path,
    )
    assert f'Load checkpoint from {checkpoint}' in output
    assert 'coco/segm_mAP' in output


def data_options(data):
    """What a user types to replace COCO by a data set of their own."""
    classes = ','.join(CLASSES)
    options = [f'model.roi_head.bbox_head.{stage}.num_classes={len(CLASSES)}' for stage in range(3)]
    options.append(f'model.roi_head.mask_head.num_classes={len(CLASSES)}')
    for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        dataset = f'{loader}_dataloader.dataset'
        options += [
            f'{dataset}.data_root={data}',
            f'{dataset}.ann_file={split}.json',
            f'{dataset}.data_prefix.img={split}',
            f'{dataset}.metainfo.classes={classes}',
        ]
    return [*options, *(f'{s}_evaluator.ann_file={data}/val.json' for s in ('val', 'test'))]


def fast_options():
    """One iteration on small images with few proposals."""
    choice = 'train_dataloader.dataset.pipeline.3.transforms'
    options = [
        'train_cfg.max_epochs=1',
        f'{choice}.0.0.scales=[(96,96)]',
        f'{choice}.1.0.scales=[(96,96)]',
        f'{choice}.1.1.crop_size=(64,96)',
        f'{choice}.1.2.scales=[(96,96)]',
        'model.test_cfg.rpn.max_per_img=20',
        'model.test_cfg.rcnn.max_per_img=5',
        'default_hooks.checkpoint.save_optimizer=False',
    ]
    options += [f'model.train_cfg.rcnn.{stage}.sampler.num=8' for stage in range(3)]
    options += [f'tta_pipeline.1.transforms.0.{i}.scale=({s},{s})' for i, s in enumerate(TTA_SIDES)]
    return [*options, *light_loaders(96)]
