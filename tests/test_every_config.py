"""What every config of this project brings, whatever its task, model and data set."""

import pytest

from tests.configs import ROOT, load_config

TEMPLATE = 'custom_dataset.py'  # has tests of its own: it reads the data that a user fills in
DETECTORS = sorted(path.name for path in (ROOT / 'det_configs').glob('*.py'))
SEGMENTORS = sorted(path.name for path in (ROOT / 'seg_configs').glob('*.py'))
DETECTORS.remove(TEMPLATE)
SEGMENTORS.remove(TEMPLATE)
ALL = [*(f'det_configs/{name}' for name in DETECTORS), *(f'seg_configs/{n}' for n in SEGMENTORS)]
CLASSIFIERS = sorted(f'cls_configs/{path.name}' for path in (ROOT / 'cls_configs').glob('*.py'))
every_config = pytest.mark.parametrize('path', ALL)
SMALL = ('quickstart', 'trees')  # for a CPU
RATIOS = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def is_small(name):
    return any(word in name for word in SMALL)


@every_config
def test_fine_tuned_checkpoints_are_checked_without_naming_the_hook(path):
    config = load_config(path)
    assert dict(type='FineTunedCheckpointHook') in config.custom_hooks
    assert all(name.split('.')[0] in ('revcol_backbone', 'mmdet') for name in imports(config))
    assert any(name.split('.')[0] == 'revcol_backbone' for name in imports(config))


@pytest.mark.parametrize('path', [*ALL, *CLASSIFIERS])
def test_a_long_training_is_safe_without_naming_the_hooks(path):
    config = load_config(path)
    names = {hook.type for hook in config.custom_hooks}
    assert names >= {'ExactResumeHook', 'NonFiniteLossHook', 'TerminationHook', 'HeartbeatHook'}
    assert config.default_hooks.checkpoint.type == 'AtomicCheckpointHook'


@every_config
def test_a_test_is_single_scale_unless_asked_otherwise(path):
    pipeline = load_config(path).test_dataloader.dataset.pipeline
    assert 'TestTimeAug' not in {transform.type for transform in pipeline}


@pytest.mark.parametrize('name', [name for name in DETECTORS if not is_small(name)])
def test_a_detector_can_be_tested_at_several_scales_with_flips(name):
    config = load_config(f'det_configs/{name}')
    assert config.tta_model.type == 'InstanceTTAModel'
    assert 'revcol_backbone.engine.instance_tta' in imports(config)
    is_htc, is_dino = 'htc' in name, 'dino' in name
    assert config.tta_model.tta_cfg == dict(
        nms=dict(type='soft_nms' if is_htc else 'nms', iou_threshold=0.7 if is_dino else 0.5),
        max_per_img=300 if is_dino else 100,
    )
    resizes, flips, *_ = config.tta_pipeline[1].transforms
    sides = [600, 800, 1000, 1200, 1400]
    if name in ('revcol_h_dino.py', 'revcol_h_dino_fsdp.py'):  # tested at 1.5 times the size
        sides = [900, 1200, 1500, 1800, 2100]
    assert [min(resize.scale) for resize in resizes] == sides
    assert [flip.prob for flip in flips] == [0.0, 1.0]


@pytest.mark.parametrize('name', [name for name in SEGMENTORS if not is_small(name)])
def test_a_segmentor_can_be_tested_at_six_scales_of_its_test_size_with_flips(name):
    config = load_config(f'seg_configs/{name}')
    assert config.tta_model.type == 'SegTTAModel'
    resizes, flips, *_ = config.tta_pipeline[1].transforms
    assert [flip.prob for flip in flips] == [0.0, 1.0]
    long_side, short_side = config.test_dataloader.dataset.pipeline[1].scale
    if (
        name.startswith('rednet50') or 'cityscapes' in name
    ):  # every image of Cityscapes has the test size
        assert (long_side, short_side) == (2048, 1024)
        assert [resize.scale_factor for resize in resizes] == RATIOS
    else:
        assert [resize.scale for resize in resizes] == [
            (int(long_side * ratio), int(short_side * ratio)) for ratio in RATIOS
        ]


def imports(config):
    return config.custom_imports.imports
