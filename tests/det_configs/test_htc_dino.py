"""The COCO configs behind the headline figures: their numbers, and that small copies run."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from tests.configs import assert_groups_follow_the_rule, build_model, load_config
from tests.published_numbers import HUGE_WEIGHTS, RELEASE
from tests.tiny_models import detection_batch, tiny_config

SMALL, HUGE = (64, 128, 256, 512), (360, 720, 1440, 2880)
TINY_CHECKPOINT = f'{RELEASE}revcol_tiny_1k.pth'
# drop path, learning rate, weight decay, checkpoint of the backbone, images a GPU and in a step
RECIPES = {
    'revcol_t_htc': (0.3, 2e-4, 0.05, TINY_CHECKPOINT, 2, 16),
    'revcol_h_htc': (0.5, 1e-4, 0.05, HUGE_WEIGHTS, 2, 16),
    'revcol_t_dino': (0.3, 1e-4, 1e-4, TINY_CHECKPOINT, 2, 16),
    'revcol_h_dino': (0.5, 1e-4, 1e-4, None, 1, 16),
    'revcol_h_dino_o365': (0.5, 1e-4, 1e-4, HUGE_WEIGHTS, 1, 64),
}
HTC = [name for name in RECIPES if 'htc' in name]
DINO = [name for name in RECIPES if 'dino' in name]
every_config = pytest.mark.parametrize('name', RECIPES)


def config_of(name):
    return load_config(f'det_configs/{name}.py')


@every_config
def test_optimizer_and_backbone_are_those_of_the_recipe_that_the_config_names(name):
    drop_path, lr, weight_decay, checkpoint, images, step = RECIPES[name]
    config = config_of(name)
    backbone, wrapper = config.model.backbone, config.optim_wrapper
    is_huge = name.startswith('revcol_h')
    assert (backbone.type, backbone.arch) == ('RevCol', 'huge' if is_huge else 'tiny')
    assert backbone.drop_path_rate == drop_path
    assert (backbone.get('kernel_size'), backbone.get('save_memory', False)) == (
        (7, True) if is_huge else (None, False)
    )
    assert (backbone.get('init_cfg') or {}).get('checkpoint') == checkpoint
    assert (wrapper.type, wrapper.loss_scale) == ('PortableAmpOptimWrapper', 'dynamic')
    assert (wrapper.optimizer.type, wrapper.optimizer.lr) == ('AdamW', lr)
    assert wrapper.optimizer.weight_decay == weight_decay
    assert wrapper.paramwise_cfg == dict(decay_rate=0.85)
    assert config.train_dataloader.batch_size == images
    assert config.auto_scale_lr.base_batch_size == step


@every_config
def test_learning_rate_and_weight_decay_groups_follow_the_rule(name):
    config = config_of(name)
    assert_groups_follow_the_rule(config, build_model(config, 'meta'))


@every_config
def test_images_are_tested_at_1333_by_800_or_for_the_headline_at_2000_by_1200(name):
    config = config_of(name)
    scale = (2000, 1200) if name == 'revcol_h_dino' else (1333, 800)
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.dataset.pipeline[1].scale == scale


@pytest.mark.parametrize('name', HTC)
def test_htc_has_the_semantic_branch_soft_nms_and_multi_scale_training(name):
    config = config_of(name)
    model, cascade = config.model, load_config('det_configs/revcol_t_cascade.py').model
    roi_head = model.roi_head
    assert (model.type, roi_head.type) == ('HybridTaskCascade', 'HybridTaskCascadeRoIHead')
    assert (roi_head.interleaved, roi_head.mask_info_flow) == (True, True)
    assert (roi_head.semantic_head.type, roi_head.semantic_head.num_classes) == (
        *('FusedSemanticHead', 183),
    )
    assert roi_head.bbox_head == cascade.roi_head.bbox_head
    assert [head.type for head in roi_head.mask_head] == ['HTCMaskHead'] * 3
    assert [head.get('with_conv_res', True) for head in roi_head.mask_head] == [False, True, True]
    assert model.test_cfg.rcnn.nms.type == 'soft_nms'
    dataset = config.train_dataloader.dataset
    assert dataset.data_prefix.seg == 'stuffthingmaps/train2017/'
    assert dataset.pipeline[1].with_seg
    assert dataset.pipeline[2].scale == [(1600, 400), (1600, 1400)]
    epochs, steps = (72, [63, 69]) if name == 'revcol_h_htc' else (36, [27, 33])
    assert config.train_cfg.max_epochs == config.param_scheduler[1].end == epochs
    assert config.param_scheduler[1].milestones == steps


@pytest.mark.parametrize('name', DINO)
def test_dino_has_mmdets_structure_and_the_epochs_of_dinos_own_models(name):
    config = config_of(name)
    model = config.model
    scales, queries, epochs, step = {
        'revcol_t_dino': (4, 100, 12, [11]),
        'revcol_h_dino': (5, 1000, 18, [16]),
        'revcol_h_dino_o365': (5, 1000, 26, [24]),
    }[name]
    assert model.dn_cfg.group_cfg.num_dn_queries == queries
    assert (model.type, model.num_queries, model.num_feature_levels) == ('DINO', 900, scales)
    assert model.neck.num_outs == scales
    assert tuple(model.neck.in_channels) == (SMALL[1:] if scales == 4 else HUGE)
    assert model.backbone.get('out_indices', (0, 1, 2, 3)) == tuple(range(5 - scales, 4))
    assert model.encoder.layer_cfg.self_attn_cfg.num_levels == scales
    assert model.decoder.layer_cfg.cross_attn_cfg.num_levels == scales
    assert config.train_cfg.max_epochs == epochs
    (schedule,) = config.param_scheduler
    assert (schedule.milestones, schedule.gamma, schedule.end) == (step, 0.1, epochs)
    assert config.optim_wrapper.clip_grad.max_norm == 0.1


def test_objects365_comes_first_and_coco_starts_from_its_last_epoch():
    first, then = config_of('revcol_h_dino_o365'), config_of('revcol_h_dino')
    assert (first.model.bbox_head.num_classes, then.model.bbox_head.num_classes) == (365, 80)
    assert first.load_from is None
    assert then.load_from == 'work_dirs/revcol_h_dino_o365/epoch_26.pth'
    sharded = config_of('revcol_h_dino_fsdp')
    assert sharded.load_from == 'work_dirs/revcol_h_dino_o365_fsdp/epoch_26.pth'
    sets = [*first.train_dataloader.dataset.datasets]
    sets += [first.val_dataloader.dataset, first.test_dataloader.dataset]
    files = ['train', 'val_after5000', 'val_first5000', 'val_first5000']
    for dataset, name in zip(sets, files, strict=True):
        assert dataset.type == 'Objects365V2Dataset'
        assert dataset.data_root == 'data/Objects365/Obj365_v2/'
        assert dataset.ann_file == f'annotations/zhiyuan_objv2_{name}.json'
        assert dataset.data_prefix == dict(img=f'{name.split("_")[0]}/')
    for evaluator in (first.val_evaluator, first.test_evaluator):
        assert evaluator.ann_file.endswith('annotations/zhiyuan_objv2_val_first5000.json')
    for loader in ('train', 'val', 'test'):
        assert then[f'{loader}_dataloader'].dataset.type == 'CocoDataset'


def test_images_are_one_and_a_half_times_as_large_for_the_headline_of_dino():
    large, base = config_of('revcol_h_dino'), config_of('revcol_t_dino')
    (resize,), (small, crop, again) = large.train_dataloader.dataset.pipeline[3].transforms
    assert resize == again
    assert resize.scales == [(side, 2000) for side in range(720, 1201, 48)]
    assert small.scales == [(600, 6300), (750, 6300), (900, 6300)]
    assert crop.crop_size == (576, 900)
    (resize,), (small, crop, _) = base.train_dataloader.dataset.pipeline[3].transforms
    assert resize.scales == [(side, 1333) for side in range(480, 801, 32)]
    assert small.scales == [(400, 4200), (500, 4200), (600, 4200)]
    assert crop.crop_size == (384, 600)


@pytest.mark.parametrize('name', ['revcol_h_htc', 'revcol_t_dino', 'revcol_h_dino'])
def test_a_shrunk_copy_trains_predicts_and_merges_augmented_views(name):
    torch.manual_seed(0)
    config = tiny_config(f'det_configs/{name}.py')
    model = build_model(config).train()
    inputs, samples = detection_batch()

    with DefaultScope.overwrite_default_scope('mmdet'):
        losses = model.loss(inputs, samples)
    parsed, _ = model.parse_losses(losses)
    parsed.backward()
    expected = {'s2.loss_bbox', 's2.loss_mask', 'loss_semantic_seg'}
    if 'dino' in name:
        expected = {'loss_cls', 'enc_loss_bbox', 'dn_loss_iou'}
    assert expected <= losses.keys()
    assert torch.isfinite(parsed)
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0

    with DefaultScope.overwrite_default_scope('mmdet'):
        merged = predict_with_flips(model.eval(), config)
    found = merged.pred_instances
    assert 0 < len(found) <= config.tta_model.tta_cfg.max_per_img
    assert ('masks' in found) == ('htc' in name)
    if 'htc' in name:
        assert found.masks.shape == (len(found), 64, 96)


def predict_with_flips(model, config):
    """One image and its mirror image through the model, merged by the config's TTA model."""
    tta_model = MODELS.build(dict(config.tta_model, module=model))
    inputs, (sample, _) = detection_batch()
    views = []
    for flip in (False, True):
        view = copy.deepcopy(sample)
        view.set_metainfo(dict(flip=flip, flip_direction='horizontal' if flip else None))
        image = inputs[0].flip(2) if flip else inputs[0]
        views.append({'inputs': [image * 255], 'data_samples': [view]})
    data = {key: [view[key] for view in views] for key in ('inputs', 'data_samples')}
    with torch.no_grad():
        (merged,) = tta_model.test_step(data)
    return merged


def test_a_merged_box_has_the_mask_of_its_own_view_turned_back():
    from mmdet.structures import DetDataSample

    config = config_of('revcol_t_htc')
    with DefaultScope.overwrite_default_scope('mmdet'):
        tta_model = MODELS.build(dict(config.tta_model, module=build_model(config, 'meta')))
    mask = torch.zeros(1, 6, 10, dtype=torch.bool)
    mask[0, 1:3, 1:4] = True
    views = []
    for flip, x, score in ((False, 1.0, 0.6), (True, 6.0, 0.9)):
        sample = DetDataSample(metainfo=dict(ori_shape=(6, 10), flip=flip))
        sample.set_metainfo(dict(flip_direction='horizontal' if flip else None))
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([[x, 1.0, x + 3, 3.0]]),
            scores=torch.tensor([score]),
            labels=torch.tensor([3]),
            masks=mask.flip(2) if flip else mask,
        )
        views.append(sample)
    (merged,) = tta_model.merge_preds([views])
    found = merged.pred_instances
    assert found.scores[0] == pytest.approx(0.9)
    assert found.labels[0] == 3
    torch.testing.assert_close(found.bboxes[0], torch.tensor([1.0, 1.0, 4.0, 3.0]))
    assert torch.equal(found.masks[0], mask[0])
