"""The LazyConfigs: the published recipe, and learning rates as in the configs of MMDetection."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin import register_all_ade20k
from mmengine.optim import build_optim_wrapper
from omegaconf import DictConfig
from torch import nn

from revcol_backbone import RevCol
from tests.configs import ROOT, load_config
from tests.tiny_data import make_ade20k

# Architecture, weights, drop path, learning rate and layer decay.
PUBLISHED = {
    'revcol_t_cascade': ('tiny', 'revcol_tiny_1k.pth', 0.3, 2e-4, 0.85),
    'revcol_s_cascade': ('small', 'revcol_small_1k.pth', 0.4, 2e-4, 0.85),
    'revcol_b_cascade': ('base', 'revcol_base_1k.pth', 0.4, 2e-4, 0.9),
    'revcol_b_cascade_in22k': ('base', 'revcol_base_22k.pth', 0.4, 1e-4, 0.9),
    'revcol_l_cascade_in22k': ('large', 'revcol_large_22k.pth', 0.5, 1e-4, 0.85),
}
OURS = {'revcol_h_cascade': ('huge', 'revcol_huge_k7padded.pth', 0.5, 1e-4, 0.85)}
EPOCH = 7330  # iterations


def load(name: str) -> DictConfig:
    folder = 'seg_configs' if 'semantic' in name else 'det_configs'
    return LazyConfig.load(str(ROOT / folder / 'detectron2' / f'{name}.py'))


@pytest.mark.parametrize('name', [*PUBLISHED, *OURS])
def test_a_variant_says_in_a_few_lines_what_was_published(name: str) -> None:
    arch, weights, drop_path, lr, decay = {**PUBLISHED, **OURS}[name]
    config = load(name)
    backbone = config.model.backbone.bottom_up
    assert (backbone.arch, backbone.drop_path_rate) == (arch, drop_path)
    assert backbone.pretrained.endswith(f'/{weights}')
    assert config.optimizer.lr == lr
    assert config.optimizer.params.lr_factor_func.decay_rate == decay
    assert len((ROOT / f'det_configs/detectron2/{name}.py').read_text().splitlines()) < 20
    if arch == 'huge':
        assert (backbone.kernel_size, backbone.save_memory) == (7, True)


def test_the_schedule_is_36_epochs_of_16_images_with_two_steps() -> None:
    config = load('revcol_t_cascade')
    assert config.dataloader.train.total_batch_size == 16
    assert config.train.max_iter == 36 * EPOCH
    assert config.train.amp.enabled
    assert config.optimizer.weight_decay == 0.05
    assert tuple(config.optimizer.betas) == (0.9, 0.999)
    factor = instantiate(config.lr_multiplier)
    at = {step: factor(step / config.train.max_iter) for step in (0, 250, 500)}
    assert at == pytest.approx({0: 0.001, 250: 0.5005, 500: 1.0}, rel=1e-6)
    for epoch, expected in ((26.9, 1.0), (27.1, 0.1), (32.9, 0.1), (33.1, 0.01)):
        assert factor(epoch / 36) == pytest.approx(expected)


def test_images_are_normalized_as_published() -> None:
    config = load('revcol_t_cascade')
    assert config.model.input_format == config.dataloader.train.mapper.image_format == 'RGB'
    assert config.dataloader.test.mapper.image_format == 'RGB'
    assert list(config.model.pixel_mean) == [123.675, 116.28, 103.53]
    assert list(config.model.pixel_std) == [58.395, 57.12, 57.375]
    (resize,) = config.dataloader.test.mapper.augmentations
    assert (resize.short_edge_length, resize.max_size) == (800, 1333)


def test_the_heads_follow_the_recipe() -> None:
    heads = load('revcol_t_cascade').model.roi_heads
    for head in heads.box_heads:
        assert (list(head.conv_dims), list(head.fc_dims)) == ([256] * 4, [1024])
        assert head.conv_norm == 'SyncBN'
    deviations = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    for predictor, expected, weight in zip(
        heads.box_predictors, deviations, (1, 0.5, 0.25), strict=True
    ):
        assert [1 / value for value in predictor.box2box_transform.weights] == pytest.approx(
            expected
        )
        assert predictor.box_reg_loss_type == 'giou'
        # Detectron2 multiplies the gradients of features by 1/3.
        assert predictor.loss_weight.loss_cls / 3 == weight
        assert predictor.loss_weight.loss_box_reg / 3 == 10 * weight


def test_the_augmentation_resizes_crops_and_resizes() -> None:
    flip, crop, resize = load('revcol_t_cascade').dataloader.train.mapper.augmentations
    assert flip.horizontal
    assert crop.prob == 0.5
    first, cut = crop.tfm_or_aug.augs
    assert list(first.short_edge_length) == [400, 500, 600]
    assert (cut.crop_type, list(cut.crop_size)) == ('absolute_range', [384, 600])
    sides = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
    assert list(resize.short_edge_length) == sides
    assert (first.max_size, resize.max_size) == (1333, 1333)


@pytest.mark.parametrize('name', [*PUBLISHED, *OURS])
def test_every_tensor_learns_as_with_mmdetection(name: str) -> None:
    config = load(name)
    config.model.backbone.bottom_up.pretrained = None
    with torch.device('meta'):
        model = instantiate(config.model)
    config.optimizer.params.model = model
    groups = instantiate(config.optimizer).param_groups
    found = {p: (g['lr'], g['weight_decay']) for g in groups for p in g['params']}

    reference = nn.Module()
    backbone = config.model.backbone.bottom_up
    with torch.device('meta'):
        reference.backbone = RevCol(backbone.arch, kernel_size=backbone.get('kernel_size', 3))
    wrapper = load_config(f'det_configs/{name}.py').optim_wrapper
    wrapper.type = 'OptimWrapper'
    wrapper.pop('loss_scale')
    groups = build_optim_wrapper(reference, wrapper).optimizer.param_groups
    rates = {p: (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    expected = {name: rates[p] for name, p in reference.backbone.named_parameters()}

    own = dict(model.backbone.bottom_up.named_parameters())
    assert own.keys() == expected.keys()
    if name == 'revcol_t_cascade':
        assert len(own) == 464
    for key, parameter in own.items():
        assert found.pop(parameter) == pytest.approx(expected[key], rel=1e-12), key
    for parameter, rate in found.items():  # of the pyramid and the heads
        assert rate == (config.optimizer.lr, 0.05 if parameter.ndim > 1 else 0.0)


def test_the_segmentor_follows_the_recipe_of_upernet() -> None:
    config = load('revcol_t_semantic_fpn')
    assert config.model.backbone.bottom_up.arch == 'tiny'
    assert config.model.backbone.bottom_up.pretrained.endswith('/revcol_tiny_1k.pth')
    assert config.model.sem_seg_head.num_classes == 150
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (6e-5, 0.01)
    assert config.optimizer.params.lr_factor_func.decay_rate == 1.0
    assert config.train.max_iter == 160_000
    factor = instantiate(config.lr_multiplier)
    assert factor(0.0) == pytest.approx(1e-6)
    assert factor(0.5) == pytest.approx(0.5)
    with torch.device('meta'):
        config.model.backbone.bottom_up.pretrained = None
        model = instantiate(config.model)
    assert model.sem_seg_head.predictor.out_channels == 150


def test_ade20k_is_read_as_detectron2_prepares_it(tmp_path: Path) -> None:
    """A tree of two pictures and label maps of 0 to 149, 255 ignored."""
    tree = make_ade20k(tmp_path / 'ADEChallengeData2016', images=2)
    (tree / 'annotations').rename(tree / 'annotations_detectron2')
    for split in ('train', 'val'):
        DatasetCatalog.remove(f'ade20k_sem_seg_{split}')
        MetadataCatalog.remove(f'ade20k_sem_seg_{split}')
    register_all_ade20k(str(tmp_path))
    config = load('revcol_t_semantic_fpn')
    config.dataloader.train.update(total_batch_size=2, num_workers=0)
    (one, other) = next(iter(instantiate(config.dataloader.train)))
    for entry in (one, other):
        assert entry['image'].shape[1:] == entry['sem_seg'].shape
        assert max(entry['sem_seg'].shape) <= 512
        assert set(entry['sem_seg'].unique().tolist()) <= {0, 1, 2, 255}
    instantiate(config.dataloader.evaluator).reset()
