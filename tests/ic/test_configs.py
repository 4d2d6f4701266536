"""The configs of IC-ResNet-50: base configs of mmdet and mmseg with another backbone."""

from __future__ import annotations

import importlib

import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm

from revcol_backbone.analysis.flops import model_multiply_adds
from tests.configs import build_model, load_config, millions

DETECTORS = {
    'ic_resnet50_faster_rcnn': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'ic_resnet50_mask_rcnn': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'ic_resnet50_cascade_mask_rcnn': ('mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'),
    'ic_resnet50_retinanet': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
}
SEGMENTORS = {
    'ic_resnet50_upernet_ade20k': 'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py',
    'ic_resnet50_fpn_ade20k': 'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
    'ic_resnet50_upernet_cityscapes': (
        'mmseg::upernet/upernet_r50_4xb2-80k_cityscapes-512x1024.py'
    ),
    'ic_resnet50_fpn_cityscapes': 'mmseg::sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py',
}
GAINS = 3 * 3776 / 1e6  # millions of w', b1 and g


def library_config(path: str) -> Config:
    """A config of the installed mmdet or mmseg."""
    package, _, name = path.partition('::')
    folder = importlib.import_module(package).__path__[0]
    return Config.fromfile(f'{folder}/.mim/configs/{name}')


def both(name: str, theirs: str) -> tuple[Config, Config]:
    config = load_config(f'{"det" if name in DETECTORS else "seg"}_configs/{name}.py')
    for module in config.custom_imports.imports:
        importlib.import_module(module)
    return config, library_config(theirs)


def without_scopes(value: object) -> object:
    """What inheritance from another project adds says nothing else."""
    if isinstance(value, dict):
        return {key: without_scopes(item) for key, item in value.items() if key != '_scope_'}
    return [without_scopes(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(('name', 'theirs'), [*DETECTORS.items(), *SEGMENTORS.items()])
def test_the_model_and_the_schedule_are_the_library_s_with_another_backbone(name, theirs):
    ours, base = both(name, theirs)
    assert (ours.model.backbone.type, ours.model.backbone.depth) == ('ICResNet', 50)
    assert ours.model.backbone.collision_gain
    assert ours.model.backbone.init_cfg.type == 'Pretrained'
    for key in ('param_scheduler', 'optim_wrapper', 'train_cfg', 'default_scope'):
        assert without_scopes(ours[key]) == without_scopes(base[key]), key
    models = [
        revert_sync_batchnorm(build_model(config, 'meta')).to('meta') for config in (ours, base)
    ]
    keys = [set(model.state_dict()) for model in models]
    assert {key for key in keys[0] if 'collision' not in key} == keys[1]
    assert millions(models[0]) - millions(models[1]) == pytest.approx(GAINS, abs=1e-6)
    size = (512, 1024) if name in SEGMENTORS else (800, 1280)
    with torch.no_grad():
        counts = [model_multiply_adds(model.eval() or model, *size) for model in models]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
