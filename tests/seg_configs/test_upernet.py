"""The ADE20K configs: their numbers against the published recipes, and that they run."""

import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import PixelData

from tests.configs import (
    HUGE_CHECKPOINT,
    RELEASES,
    ROOT,
    TINY,
    assert_groups_follow_the_rule,
    build_model,
    light_loaders,
    load_config,
    millions,
    mim,
    use_tiny_backbone,
)
from tests.tiny_data import make_ade20k

TINY_TO_SMALL = (64, 128, 256, 512)
BASE, LARGE, HUGE = (72, 144, 288, 576), (128, 256, 512, 1024), (360, 720, 1440, 2880)
# arch, checkpoint, crop, stride, lr, layer decay, warm-up, input of the heads, millions of
# parameters: as published, but for B. Its 122M is below its backbone alone; 168.9M was counted.
RECIPES = {
    'revcol_t_upernet': ('tiny', '1k', 512, 341, 6e-5, 1.0, 1500, TINY_TO_SMALL, 60),
    'revcol_s_upernet': ('small', '1k', 512, 341, 4e-5, 1.0, 1500, TINY_TO_SMALL, 90),
    'revcol_b_upernet': ('base', '1k', 512, 426, 4e-5, 1.0, 1500, BASE, 168.9),
    'revcol_b_upernet_in22k': ('base', '22k', 640, 426, 4e-5, 0.9, 1500, BASE, 168.9),
    'revcol_l_upernet_in22k': ('large', '22k', 640, 426, 4e-5, 0.9, 3000, LARGE, 306),
    'revcol_h_upernet': ('huge', None, 640, 426, 4e-5, 0.9, 3000, HUGE, 2421),
}
TTA_SIDES = (32, 48, 64, 80, 96, 112)
every_config = pytest.mark.parametrize('name', RECIPES)


def config_of(name):
    return load_config(f'seg_configs/{name}.py')


@every_config
def test_a_variant_has_the_numbers_of_its_published_recipe(name):
    arch, weights, crop, stride, lr, decay, warmup, channels, parameters = RECIPES[name]
    config = config_of(name)
    model, backbone = config.model, config.model.backbone
    assert (backbone.type, backbone.arch, backbone.drop_path_rate) == ('RevCol', arch, 0.3)
    checkpoint = f'{RELEASES}revcol_{arch}_{weights}.pth' if weights else HUGE_CHECKPOINT
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=checkpoint)
    assert tuple(model.decode_head.in_channels) == channels
    assert model.auxiliary_head.in_channels == channels[2]
    assert model.test_cfg == dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride))
    assert model.data_preprocessor.size == (crop, crop)
    assert config.optim_wrapper.optimizer.lr == lr
    assert config.optim_wrapper.paramwise_cfg == dict(decay_rate=decay)
    assert [schedule.begin for schedule in config.param_scheduler] == [0, warmup]
    assert [schedule.end for schedule in config.param_scheduler] == [warmup, 160000]
    assert millions(build_model(config, 'meta')) == pytest.approx(parameters, rel=0.01)


@every_config
def test_the_shared_recipe_is_the_published_one(name):
    config = config_of(name)
    assert (config.train_cfg.type, config.train_cfg.max_iters) == ('IterBasedTrainLoop', 160000)
    warmup, poly = config.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.by_epoch) == ('LinearLR', 1e-6, False)
    assert (poly.type, poly.power, poly.eta_min, poly.by_epoch) == ('PolyLR', 1.0, 0.0, False)
    wrapper = config.optim_wrapper
    assert (wrapper.type, wrapper.loss_scale) == ('PortableAmpOptimWrapper', 'dynamic')
    assert wrapper.optimizer.type == 'AdamW'
    assert wrapper.optimizer.betas == (0.9, 0.999)
    assert wrapper.optimizer.weight_decay == 0.01
    images = 1 if name == 'revcol_h_upernet' else 2
    assert config.train_dataloader.batch_size == images
    assert config.auto_scale_lr.base_batch_size == 8 * images


@every_config
def test_the_heads_are_those_of_the_recipe(name):
    model = config_of(name).model
    decode, auxiliary = model.decode_head, model.auxiliary_head
    assert (decode.type, auxiliary.type) == ('UPerHead', 'FCNHead')
    assert decode.channels == (1440 if name == 'revcol_h_upernet' else 512)
    assert (auxiliary.channels, auxiliary.in_index) == (256, 2)
    assert (decode.loss_decode.loss_weight, auxiliary.loss_decode.loss_weight) == (1.0, 0.4)
    for head in (decode, auxiliary):
        assert (head.num_classes, head.norm_cfg.type) == (150, 'SyncBN')


def test_only_revcol_h_has_large_kernels_and_the_memory_saving_backward():
    for name in RECIPES:
        backbone = config_of(name).model.backbone
        is_huge = name == 'revcol_h_upernet'
        assert backbone.get('kernel_size') == (7 if is_huge else None)
        assert backbone.get('save_memory', False) == is_huge


@every_config
def test_images_are_resized_and_cropped_as_in_the_recipe(name):
    config = config_of(name)
    crop = RECIPES[name][2]
    _, _, resize, random_crop, flip, *_ = config.train_dataloader.dataset.pipeline
    assert (resize.scale, resize.ratio_range) == ((4 * crop, crop), (0.5, 2.0))
    assert (random_crop.crop_size, random_crop.cat_max_ratio) == ((crop, crop), 0.75)
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.dataset.pipeline[1].scale == (4 * crop, crop)


@every_config
def test_learning_rate_and_weight_decay_groups_follow_the_rule(name):
    config = config_of(name)
    assert_groups_follow_the_rule(config, build_model(config, 'meta'))


@every_config
def test_a_variant_is_at_most_twenty_lines(name):
    assert len((ROOT / f'seg_configs/{name}.py').read_text().splitlines()) <= 20


@pytest.mark.parametrize('name', ['revcol_t_upernet', 'revcol_h_upernet'])
def test_a_shrunk_copy_trains_and_predicts(name):
    torch.manual_seed(0)
    config = config_of(name)
    shrink(config)
    model = build_model(config).train()
    inputs, samples = batch()

    losses = model.loss(inputs, samples)
    parsed, _ = model.parse_losses(losses)
    parsed.backward()
    assert {'decode.loss_ce', 'aux.loss_ce'} <= losses.keys()
    assert torch.isfinite(parsed)
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0

    model.eval()
    with torch.no_grad():
        predictions = model.predict(inputs, samples)
    for prediction in predictions:
        assert prediction.pred_sem_seg.shape == (64, 96)
        assert prediction.seg_logits.data.shape == (150, 64, 96)


def shrink(config):
    """Keep the structure of the model, with a few channels and a small window."""
    model = config.model
    use_tiny_backbone(config)
    model.decode_head.update(in_channels=TINY['channels'], channels=16)
    model.auxiliary_head.update(in_channels=TINY['channels'][2], channels=8)
    for head in (model.decode_head, model.auxiliary_head):
        head.norm_cfg.type = 'BN'
    model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))


def batch():
    """Two images with one label map each, a part of it ignored."""
    from mmseg.structures import SegDataSample

    samples = []
    for label in range(2):
        labels = torch.full((1, 64, 96), label)
        labels[:, :8] = 255
        size = dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96))
        samples.append(SegDataSample(metainfo=size, gt_sem_seg=PixelData(data=labels)))
    return torch.rand(2, 3, 64, 96), samples


def test_a_missing_data_set_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = config_of('revcol_h_upernet').train_dataloader.dataset
    with (
        DefaultScope.overwrite_default_scope('mmseg'),
        pytest.raises(FileNotFoundError, match='data/ade/ADEChallengeData2016'),
    ):
        DATASETS.build(dataset)


@pytest.mark.slow
def test_mim_trains_and_tests_a_small_data_set_on_a_cpu_through_options_alone(tmp_path):
    data = make_ade20k(tmp_path / 'data', images=1)
    config = ROOT / 'seg_configs/revcol_t_upernet.py'
    options = ['--cfg-options', 'model.backbone.init_cfg=None']
    options += [f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val')]
    options += [f'test_dataloader.dataset.data_root={data}', *fast_options()]
    work_dir = tmp_path / 'work'
    output = mim('train', 'mmseg', config, '--work-dir', work_dir, *options, cwd=tmp_path)
    assert 'training runs in float32' in output
    assert 'mIoU' in output

    checkpoint = work_dir / 'iter_1.pth'
    arguments = ('test', 'mmseg', config, '--checkpoint', checkpoint, '--work-dir', work_dir)
    output = mim(*arguments, '--tta', *options, cwd=tmp_path)
    assert f'Load checkpoint from {checkpoint}' in output
    assert 'mIoU' in output


def fast_options():
    """One iteration on small images and windows."""
    options = [
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=1',
        'train_dataloader.dataset.pipeline.2.scale=(64,64)',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
        'model.data_preprocessor.size=(64,64)',
        'model.decode_head.channels=64',
        'model.test_cfg.crop_size=(64,64)',
        'model.test_cfg.stride=(42,42)',
        'default_hooks.checkpoint.save_optimizer=False',
    ]
    options += [f'tta_pipeline.1.transforms.0.{i}.scale=({s},{s})' for i, s in enumerate(TTA_SIDES)]
    return [*options, *light_loaders(64)]
