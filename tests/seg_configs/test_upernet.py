"""The ADE20K configs: their numbers against the published recipes, and that they run."""

import pytest
import torch
from mmengine.registry import DATASETS, PARAM_SCHEDULERS, DefaultScope

from tests.configs import (
    ROOT,
    assert_groups_follow_the_rule,
    build_model,
    light_loaders,
    load_config,
    mim,
)
from tests.published_numbers import UPERNET
from tests.tiny_data import make_ade20k
from tests.tiny_models import segmentation_batch, tiny_config

TTA_SIDES = (32, 48, 64, 80, 96, 112)
every_config = pytest.mark.parametrize('name', UPERNET)


def config_of(name):
    return load_config(f'seg_configs/{name}.py')


@every_config
def test_the_shared_recipe_is_the_published_one(name):
    config = config_of(name)
    assert (config.train_cfg.type, config.train_cfg.max_iters) == ('IterBasedTrainLoop', 160000)
    warmup, poly = config.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.by_epoch) == ('LinearLR', 1e-6, False)
    assert (poly.type, poly.power, poly.eta_min, poly.by_epoch) == ('PolyLR', 1.0, 0.0, False)
    assert config.randomness == dict(seed=0, deterministic=True)
    wrapper = config.optim_wrapper
    assert (wrapper.type, wrapper.loss_scale) == ('PortableAmpOptimWrapper', 'dynamic')
    assert wrapper.optimizer.type == 'AdamW'
    assert wrapper.optimizer.betas == (0.9, 0.999)
    assert wrapper.optimizer.weight_decay == 0.01


@pytest.mark.parametrize('name', ['revcol_t_upernet', 'revcol_l_upernet_in22k'])
def test_the_learning_rate_decays_from_the_start_with_the_warm_up_on_top(name):
    numbers, config = UPERNET[name], config_of(name)
    iterations = [0, 1, 100, 750, 1499, 1500, 2999, 40_000, 120_000, 159_999]
    found = learning_rates(config, iterations)
    print(f'\n{name}\n{"iteration":>9} {"config":>12} {"published":>12}')
    for t in iterations:
        warmup = min(1e-6 + (1 - 1e-6) * t / numbers.warmup, 1)
        published = numbers.lr * (1 - t / 160_000) * warmup
        print(f'{t:>9} {found[t]:>12.6e} {published:>12.6e}')
        assert found[t] == pytest.approx(published, rel=1e-6)


def learning_rates(config, iterations):
    """What mmengine's schedulers make of the learning rate before the given iterations."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer))
        for schedule in config.param_scheduler
    ]
    found = {}
    for iteration in range(max(iterations) + 1):
        if iteration in iterations:
            found[iteration] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    return found


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
    for name in UPERNET:
        backbone = config_of(name).model.backbone
        is_huge = name == 'revcol_h_upernet'
        assert backbone.get('kernel_size') == (7 if is_huge else None)
        assert backbone.get('save_memory', False) == is_huge


@every_config
def test_images_are_resized_and_cropped_as_in_the_recipe(name):
    config = config_of(name)
    crop = UPERNET[name].crop
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


@pytest.mark.parametrize('name', ['revcol_t_upernet', 'revcol_h_upernet'])
def test_a_shrunk_copy_trains_and_predicts(name):
    torch.manual_seed(0)
    model = build_model(tiny_config(f'seg_configs/{name}.py')).train()
    inputs, samples = segmentation_batch()

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
