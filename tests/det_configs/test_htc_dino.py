"""The COCO configs behind the headline figures: their numbers, and that small copies run."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from tests.configs import (
    HUGE_CHECKPOINT,
    RELEASES,
    ROOT,
    TINY,
    assert_groups_follow_the_rule,
    build_model,
    load_config,
    use_tiny_backbone,
)
from tests.det_configs import test_cascade

SMALL, HUGE = (64, 128, 256, 512), (360, 720, 1440, 2880)
TINY_CHECKPOINT = f'{RELEASES}revcol_tiny_1k.pth'
# drop path, learning rate, weight decay, checkpoint of the backbone
RECIPES = {
    'revcol_t_htc': (0.3, 2e-4, 0.05, TINY_CHECKPOINT),
    'revcol_h_htc': (0.5, 1e-4, 0.05, HUGE_CHECKPOINT),
    'revcol_t_dino': (0.3, 1e-4, 1e-4, TINY_CHECKPOINT),
    'revcol_h_dino': (0.5, 1e-4, 1e-4, None),
    'revcol_h_dino_o365': (0.5, 1e-4, 1e-4, HUGE_CHECKPOINT),
}
HTC = [name for name in RECIPES if 'htc' in name]
DINO = [name for name in RECIPES if 'dino' in name]
every_config = pytest.mark.parametrize('name', RECIPES)


def config_of(name):
    return load_config(f'det_configs/{name}.py')


@every_config
def test_optimizer_and_backbone_are_those_of_the_recipe_that_the_config_names(name):
    drop_path, lr, weight_decay, checkpoint = RECIPES[name]
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
    assert config.train_dataloader.batch_size == 2
    assert config.auto_scale_lr.base_batch_size == 16


@every_config
def test_learning_rate_and_weight_decay_groups_follow_the_rule(name):
    config = config_of(name)
    assert_groups_follow_the_rule(config, build_model(config, 'meta'))


@every_config
def test_a_variant_is_at_most_twenty_lines_and_says_whose_values_it_has(name):
    lines = (ROOT / f'det_configs/{name}.py').read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith('#')]) <= 20
    assert lines[0].startswith('# ')


@every_config
def test_images_are_tested_at_1333_by_800(name):
    config = config_of(name)
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.dataset.pipeline[1].scale == (1333, 800)


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
    assert config.train_cfg.max_epochs == 36
    assert config.param_scheduler[1].milestones == [27, 33]


@pytest.mark.parametrize('name', DINO)
def test_dino_follows_mmdets_recipes(name):
    config = config_of(name)
    model = config.model
    scales, epochs, step = (5, 36, [27, 33]) if name == 'revcol_h_dino' else (5, 12, [11])
    if name == 'revcol_t_dino':
        scales = 4
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
    assert then.load_from == f'work_dirs/revcol_h_dino_o365/epoch_{first.train_cfg.max_epochs}.pth'
    for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        dataset = first[f'{loader}_dataloader'].dataset
        assert dataset.type == 'Objects365V2Dataset'
        assert dataset.data_root == 'data/Objects365/Obj365_v2/'
        assert dataset.ann_file == f'annotations/zhiyuan_objv2_{split}.json'
        assert dataset.data_prefix == dict(img=f'{split}/')
        assert then[f'{loader}_dataloader'].dataset.type == 'CocoDataset'
    for evaluator in (first.val_evaluator, first.test_evaluator):
        assert evaluator.ann_file.endswith('Obj365_v2/annotations/zhiyuan_objv2_val.json')


@pytest.mark.parametrize('name', ['revcol_h_htc', 'revcol_t_dino', 'revcol_h_dino'])
def test_a_shrunk_copy_trains_predicts_and_merges_augmented_views(name):
    torch.manual_seed(0)
    config = config_of(name)
    shrink(config)
    model = build_model(config).train()
    inputs, samples = batch()

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
    inputs, (sample, _) = batch()
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


def shrink(config):
    """Keep the structure of the model, with a few channels, proposals and queries."""
    if config.model.type == 'HybridTaskCascade':
        shrink_htc(config)
    else:
        shrink_dino(config)


def shrink_htc(config):
    roi_head = config.model.roi_head
    mask_heads = roi_head.mask_head
    roi_head.mask_head = copy.deepcopy(mask_heads[0])
    test_cascade.shrink(config)
    roi_head.mask_head = mask_heads
    roi_head.semantic_roi_extractor.out_channels = 16
    for head in (*mask_heads, roi_head.semantic_head):
        head.update(in_channels=16, conv_out_channels=16)


def shrink_dino(config):
    model = config.model
    outputs = model.backbone.get('out_indices', (0, 1, 2, 3))
    use_tiny_backbone(config)
    model.num_queries = 20
    model.neck.in_channels = [TINY['channels'][index] for index in outputs]
    for part in (model.encoder, model.decoder):  # mmdet fixes their width at 256
        part.num_layers = 2
        part.layer_cfg.ffn_cfg.feedforward_channels = 64
    model.dn_cfg.group_cfg.num_dn_queries = 10
    model.test_cfg.max_per_img = 20


def batch():
    """Two images with one object each, and a label map at an eighth of their size."""
    inputs, samples = test_cascade.batch()
    for sample in samples:
        sample.gt_sem_seg = PixelData(sem_seg=torch.randint(0, 183, (1, 64, 96)))
        sample.set_metainfo(dict(batch_input_shape=(64, 96)))
    return inputs, samples


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
