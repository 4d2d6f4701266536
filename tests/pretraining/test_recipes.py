"""The published numbers of every recipe, typed in by hand, against the resolved configs."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from tests.configs import load_config

TABLE = """
recipe                   arch   pixels classes batch epochs warmup lr      warmup_lr min_lr decay
revcol_t_in1k            tiny   224    1000    128   300    20     1e-3    1e-5      1e-6   0.05
revcol_s_in1k            small  224    1000    128   300    20     1e-3    1e-5      1e-6   0.05
revcol_b_in1k            base   224    1000    128   300    20     1e-3    1e-5      1e-8   0.05
revcol_b_in22k           base   224    21841   128   90     5      1.25e-4 1e-5      1e-7   0.1
revcol_l_in22k           large  224    21841   128   90     5      1.25e-4 1e-5      1e-7   0.1
revcol_xl_in22k          xlarge 224    21841   128   90     5      1.25e-4 1e-5      1e-7   0.1
revcol_b_in22k_in1k      base   224    1000    64    30     0      1e-4    None      2e-7   1e-8
revcol_b_in22k_in1k_384  base   384    1000    64    30     0      1e-4    None      2e-7   1e-8
revcol_l_in22k_in1k      large  224    1000    64    30     0      5e-5    None      2e-7   1e-8
revcol_l_in22k_in1k_384  large  384    1000    64    30     0      5e-5    None      2e-7   1e-8
revcol_xl_in22k_in1k_384 xlarge 384    1000    64    30     0      2e-5    None      2e-7   1e-8
revcol_h_in1k_640        huge   640    1000    64    20     0      4e-5    None      2e-8   1e-8
revcol_h_in1k_640_fsdp   huge   640    1000    64    20     0      4e-5    None      2e-8   1e-8

recipe                   drop_path clip ema   layer_decay supervised mixed
revcol_t_in1k            0.1       None True  1           True       True
revcol_s_in1k            0.3       None True  1           True       True
revcol_b_in1k            0.4       5    True  1           True       True
revcol_b_in22k           0.3       10   False 1           True       True
revcol_l_in22k           0.3       10   False 1           True       True
revcol_xl_in22k          0.4       10   False 1           True       True
revcol_b_in22k_in1k      0.2       10   False 0.9         False      False
revcol_b_in22k_in1k_384  0.2       10   False 0.9         False      False
revcol_l_in22k_in1k      0.3       10   False 0.8         False      False
revcol_l_in22k_in1k_384  0.3       10   False 0.8         False      False
revcol_xl_in22k_in1k_384 0.4       10   True  0.8         False      False
revcol_h_in1k_640        0.4       100  True  0.8         False      False
revcol_h_in1k_640_fsdp   0.4       100  True  0.8         False      False
"""


def read_table(text: str) -> dict[str, dict[str, str]]:
    recipes: dict[str, dict[str, str]] = {}
    for block in text.strip().split('\n\n'):
        fields, *rows = (line.split() for line in block.splitlines())
        for name, *values in rows:
            recipes.setdefault(name, {}).update(zip(fields[1:], values, strict=True))
    return recipes


RECIPES = read_table(TABLE)
every_recipe = pytest.mark.parametrize('name', RECIPES)


@every_recipe
def test_numbers_are_the_published_ones(name: str) -> None:
    config = load_config(f'cls_configs/{name}.py')
    found = numbers_of(config)
    assert found.keys() == RECIPES[name].keys()
    for field, expected in RECIPES[name].items():
        value = found[field]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert value == pytest.approx(float(expected), rel=1e-9, abs=0), field
        else:
            assert str(value) == expected, field


@every_recipe
def test_what_all_recipes_share(name: str) -> None:
    config = load_config(f'cls_configs/{name}.py')
    assert config.model.save_memory
    assert config.model.label_smoothing == 0.1
    wrapper = config.optim_wrapper
    assert (wrapper.type, wrapper.loss_scale) == ('PortableAmpOptimWrapper', 'dynamic')
    assert wrapper.optimizer.type == 'AdamW'
    assert (wrapper.optimizer.betas, wrapper.optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert wrapper.paramwise_cfg.decay_alpha
    assert config.auto_scale_lr == dict(base_batch_size=1024, enable=True)
    augmentation = dict(config.train_dataloader.dataset.pipeline[1], size=None)
    assert augmentation == dict(
        type='PretrainingAugmentation',
        size=None,
        auto_augment='rand-m9-mstd0.5-inc1',
        color_jitter=0.4,
        interpolation='bicubic',
        re_prob=0.25,
        re_mode='pixel',
        re_count=1,
    )
    cosine = config.param_scheduler[-1]
    assert cosine.type == 'CosineAnnealingLR'
    assert cosine.convert_to_iter_based
    assert cosine.get('begin', 0) + cosine.T_max == cosine.end == config.train_cfg.max_epochs


@every_recipe
def test_mixing_and_heads(name: str) -> None:
    model = load_config(f'cls_configs/{name}.py').model
    if RECIPES[name]['mixed'] == 'True':
        mixup, cutmix = model.train_cfg.augments
        assert (mixup.type, mixup.alpha) == ('Mixup', 0.8)
        assert (cutmix.type, cutmix.alpha) == ('CutMix', 1.0)
        assert 'head_init_scale' not in model
    else:
        assert model.head_init_scale == 0.001
        assert model.init_cfg.type == 'Pretrained'


def test_the_recipe_of_h_comes_sharded_too() -> None:
    config = load_config('cls_configs/revcol_h_in1k_640_fsdp.py')
    assert config.runner_type == 'FlexibleRunner'
    assert config.strategy.type == 'RevColFSDPStrategy'


def numbers_of(config: Config) -> dict:
    model, wrapper = config.model, config.optim_wrapper
    *warmup, cosine = config.param_scheduler
    ema = [hook.momentum for hook in config.custom_hooks if hook.type == 'ShardableEMAHook']
    assert ema in ([], [1e-4])  # 1 - 0.9999
    sizes = {config.train_dataloader.dataset.pipeline[1].size}
    if config.val_dataloader:
        sizes |= {config.val_dataloader.dataset.pipeline[1].size}
        assert config.test_dataloader == config.val_dataloader
    assert len(sizes) == 1
    return dict(
        arch=model.arch,
        pixels=sizes.pop(),
        classes=model.num_classes,
        batch=config.train_dataloader.batch_size,
        epochs=config.train_cfg.max_epochs,
        warmup=warmup[0].end if warmup else 0,
        lr=wrapper.optimizer.lr,
        warmup_lr=warmup[0].start_factor * wrapper.optimizer.lr if warmup else None,
        min_lr=cosine.eta_min,
        decay=wrapper.optimizer.weight_decay,
        drop_path=model.drop_path_rate,
        clip=wrapper.get('clip_grad', {}).get('max_norm'),
        ema=bool(ema),
        layer_decay=wrapper.paramwise_cfg.decay_rate,
        supervised=model.get('intermediate_supervision', True),
        mixed='train_cfg' in model,
    )


@pytest.mark.parametrize(
    ('name', 'student', 'teacher'),
    [
        ('revcol_t_in1k_distilled', 'tiny', 'base'),
        ('ic_resnet50_in1k_distilled', 'ICResNet', 'ResNet'),
    ],
)
def test_distilled_recipes_are_the_plain_ones_with_a_teacher(
    name: str, student: str, teacher: str
) -> None:
    config = load_config(f'cls_configs/{name}.py')
    plain = load_config(f'cls_configs/{name.removesuffix("_distilled")}.py')
    model = config.pop('model')
    assert model.type == 'WeakLogitDistillation'
    assert model.student == plain.pop('model')
    found = [part.get('arch') or part.backbone.type for part in (model.student, model.teacher)]
    assert found == [student, teacher]
    config.pop('teacher')
    assert config.to_dict() == plain.to_dict()
