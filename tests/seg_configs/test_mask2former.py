"""The Mask2Former configs for ADE20K: their numbers, and that small copies run."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope

from tests.configs import assert_groups_follow_the_rule, build_model, load_config
from tests.published_numbers import HUGE_WEIGHTS, RELEASE
from tests.tiny_models import segmentation_batch, tiny_config

# arch, checkpoint, crop, input of the head, images a GPU
RECIPES = {
    'revcol_t_mask2former': (
        *('tiny', f'{RELEASE}revcol_tiny_1k.pth', 512, (64, 128, 256, 512), 2),
    ),
    'revcol_h_mask2former': ('huge', HUGE_WEIGHTS, 640, (360, 720, 1440, 2880), 1),
}
every_config = pytest.mark.parametrize('name', RECIPES)


def config_of(name):
    return load_config(f'seg_configs/{name}.py')


@every_config
def test_the_recipe_is_mmsegs_with_revcols_backbone_and_layer_decay(name):
    arch, checkpoint, crop, channels, images = RECIPES[name]
    config = config_of(name)
    model, wrapper = config.model, config.optim_wrapper
    assert (model.backbone.arch, model.backbone.drop_path_rate) == (arch, 0.3)
    assert model.backbone.init_cfg == dict(type='Pretrained', checkpoint=checkpoint)
    assert (model.backbone.get('kernel_size'), model.backbone.get('save_memory', False)) == (
        (7, True) if arch == 'huge' else (None, False)
    )
    head = model.decode_head
    queries, width, feedforward = (200, 1024, 4096) if arch == 'huge' else (100, 256, 2048)
    assert (head.type, head.num_queries) == ('Mask2FormerHead', queries)
    assert head.feat_channels == head.out_channels == width
    assert head.transformer_decoder.layer_cfg.ffn_cfg.feedforward_channels == feedforward
    assert tuple(model.decode_head.in_channels) == channels
    assert model.data_preprocessor.size == (crop, crop)
    assert model.test_cfg == dict(mode='whole')
    assert (wrapper.type, wrapper.loss_scale) == ('PortableAmpOptimWrapper', 'dynamic')
    assert wrapper.optimizer.lr == (1e-4 if images == 2 else 5e-5)  # 16 images, or 8
    assert wrapper.optimizer.weight_decay == 0.05
    assert config.randomness == dict(seed=0, deterministic=True)
    assert wrapper.clip_grad.max_norm == 0.01
    assert wrapper.paramwise_cfg == dict(decay_rate=0.9)
    (poly,) = config.param_scheduler
    assert (poly.type, poly.power, poly.eta_min, poly.end) == ('PolyLR', 0.9, 0, 160000)
    assert config.train_cfg.max_iters == 160000
    assert config.train_dataloader.batch_size == images
    assert config.auto_scale_lr.base_batch_size == 8 * images


@every_config
def test_images_are_resized_and_cropped_as_in_mmsegs_recipe_for_the_crop(name):
    config = config_of(name)
    crop = RECIPES[name][2]
    _, _, resize, random_crop, *_ = config.train_dataloader.dataset.pipeline
    assert resize.scales == [int(crop * 0.1 * tenth) for tenth in range(5, 21)]
    assert resize.max_size == 4 * crop
    assert (random_crop.crop_size, random_crop.cat_max_ratio) == ((crop, crop), 0.75)
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.dataset.pipeline[1].scale == (4 * crop, crop)


@every_config
def test_learning_rate_and_weight_decay_groups_follow_the_rule(name):
    config = config_of(name)
    assert_groups_follow_the_rule(config, build_model(config, 'meta'))


def test_a_shrunk_copy_trains_and_predicts():
    torch.manual_seed(0)
    model = build_model(tiny_config('seg_configs/revcol_h_mask2former.py')).train()
    inputs, samples = segmentation_batch()

    with DefaultScope.overwrite_default_scope('mmseg'):
        losses = model.loss(inputs, samples)
    parsed, _ = model.parse_losses(losses)
    parsed.backward()
    assert {'decode.loss_cls', 'decode.loss_mask', 'decode.d0.loss_dice'} <= losses.keys()
    assert torch.isfinite(parsed)
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0

    model.eval()
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmseg'):
        predictions = model.predict(inputs, samples)
    for prediction in predictions:
        assert prediction.pred_sem_seg.shape == (64, 96)
        assert prediction.seg_logits.data.shape == (150, 64, 96)
