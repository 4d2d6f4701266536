"""Names of weights in mmdet 2.x and mmseg 0.x: which are the same, and how the others map."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope

from revcol_backbone.checkpoints.finetuned import rename_old_keys
from revcol_backbone.checkpoints.state_dict import shapes_of
from tests.configs import build_model, load_config
from tests.old_checkpoints import old_cascade_shapes, old_upernet_shapes

CHANNELS = (64, 128, 256, 512)


def heads_of(path):
    weights = shapes_of(build_model(load_config(path), 'meta').state_dict())
    return {key: shape for key, shape in weights.items() if not key.startswith('backbone.')}


def test_cascade_mask_rcnn_has_the_names_and_shapes_of_mmdet_2():
    old = old_cascade_shapes(CHANNELS, width=256, fc=1024, classes=80)
    assert heads_of('det_configs/revcol_t_cascade.py') == old


def test_upernet_has_the_names_and_shapes_of_mmseg_0():
    old = old_upernet_shapes(CHANNELS, width=512, auxiliary=256, classes=150)
    assert heads_of('seg_configs/revcol_t_upernet.py') == old


@pytest.mark.parametrize(
    'shapes',
    [
        old_cascade_shapes(CHANNELS, width=256, fc=1024, classes=80),
        old_upernet_shapes(CHANNELS, width=512, auxiliary=256, classes=150),
    ],
)
def test_nothing_is_renamed_in_their_files(shapes):
    assert rename_old_keys(shapes, shapes) == (shapes, {})


@pytest.fixture(scope='module')
def mask2former():
    """The weights of the installed Mask2Former, as shapes."""
    config: Config = get_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        return shapes_of(MODELS.build(config.model).state_dict())


def old_name(key):
    """The name in mmdet 2.x, whose layers hold lists in the order of their operations."""
    if 'transformer_decoder.layers' in key:
        key = key.replace('.cross_attn.', '.attentions.0.')
        key = key.replace('.self_attn.', '.attentions.1.')
    if 'pixel_decoder.encoder.layers' in key:
        key = key.replace('.self_attn.', '.attentions.0.')
    return key.replace('.ffn.', '.ffns.0.')


def test_every_old_name_of_mask2former_gets_its_present_one(mask2former):
    old = {old_name(key): shape for key, shape in mask2former.items()}
    weights, renamed = rename_old_keys(old, mask2former)
    assert weights == mask2former
    # 9 decoder layers with two attentions of 4 weights, 6 encoder layers with one of 8, each layer
    # with a feed-forward network of 4.
    assert len(renamed) == 9 * (2 * 4 + 4) + 6 * (8 + 4)
    layer = 'panoptic_head.transformer_decoder.layers.0'
    assert renamed[f'{layer}.attentions.0.attn.in_proj_weight'] == (
        f'{layer}.cross_attn.attn.in_proj_weight'
    )
    assert renamed[f'{layer}.attentions.1.attn.out_proj.bias'] == (
        f'{layer}.self_attn.attn.out_proj.bias'
    )
    assert renamed[f'{layer}.ffns.0.layers.0.0.weight'] == f'{layer}.ffn.layers.0.0.weight'
    layer = 'panoptic_head.pixel_decoder.encoder.layers.5'
    assert renamed[f'{layer}.attentions.0.sampling_offsets.weight'] == (
        f'{layer}.self_attn.sampling_offsets.weight'
    )


def test_the_segmentors_head_is_mapped_like_the_detectors(mask2former):
    in_segmentor = {
        re.sub('^panoptic_head', 'decode_head', key): shape for key, shape in mask2former.items()
    }
    old = {old_name(key): shape for key, shape in in_segmentor.items()}
    assert rename_old_keys(old, in_segmentor)[0] == in_segmentor


def test_present_names_stay(mask2former):
    assert rename_old_keys(mask2former, mask2former) == (mask2former, {})


def test_a_name_that_the_model_does_not_have_stays_as_it_is():
    weights = {'panoptic_head.transformer_decoder.layers.99.ffns.0.layers.1.bias': 1}
    assert rename_old_keys(weights, {'other.weight'}) == (weights, {})
