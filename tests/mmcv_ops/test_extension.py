import re
from pathlib import Path

import mmcv.ops
import mmdet
import mmseg
import pytest
import torch
from mmcv.utils import ext_loader
from mmdet.registry import MODELS
from mmengine.utils.dl_utils import mmcv_full_available
from torch import nn

from revcol_backbone.mmcv_ops.extension import OPERATORS

PROVIDED = {
    'nms',
    'softnms',
    'nms_match',
    'roi_align_forward',
    'roi_align_backward',
    'sigmoid_focal_loss_forward',
    'sigmoid_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softmax_focal_loss_backward',
    'deform_conv_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'modulated_deform_conv_forward',
    'modulated_deform_conv_backward',
    'ms_deform_attn_forward',
    'ms_deform_attn_backward',
    'masked_im2col_forward',
    'masked_col2im_forward',
    'psamask_forward',
    'psamask_backward',
    'carafe_forward',
    'carafe_backward',
    'carafe_naive_forward',
    'carafe_naive_backward',
    'roi_pool_forward',
    'roi_pool_backward',
    'deform_roi_pool_forward',
    'deform_roi_pool_backward',
    'bbox_overlaps',
    'box_iou_rotated',
    'nms_rotated',
}
INFORMATION = {'get_compiler_version', 'get_compiling_cuda_version'}


def names_mmcv_asks_for():
    sources = (path.read_text() for path in Path(mmcv.ops.__file__).parent.glob('*.py'))
    lists = (re.findall(r"load_ext\(\s*'_ext',\s*\[(.*?)\]", text, re.DOTALL) for text in sources)
    return {name for found in lists for text in found for name in re.findall(r"'(\w+)'", text)}


def test_every_operator_is_provided_or_refused_by_name_when_called():
    names = names_mmcv_asks_for()
    assert set(OPERATORS) == PROVIDED
    assert names > PROVIDED | INFORMATION
    extension = ext_loader.load_ext('_ext', sorted(names))
    for name in names - PROVIDED - INFORMATION:
        with pytest.raises(NotImplementedError) as raised:
            getattr(extension, name)(torch.zeros(1), keyword=1)
        assert re.fullmatch(rf"[^.]* '{name}' .*a compiled mmcv .*https://\S+\.", str(raised.value))


MISSING_LAYERS = {
    'PrRoIPool': (lambda layer: layer(7, 1.0), 'prroi_pool_backward'),
    'RoIAlignRotated': (lambda layer: layer(7, 1.0), 'roi_align_rotated_backward'),
    'Correlation': (lambda layer: layer(), 'correlation_backward'),
    'TINShift': (lambda layer: layer(), 'tin_shift_backward'),
}


@pytest.mark.parametrize('name', MISSING_LAYERS)
@pytest.mark.parametrize('build', [nn.Sequential, lambda layer: nn.ModuleDict({'pool': layer})])
def test_a_model_with_a_layer_of_a_missing_operator_cannot_be_built(name, build):
    make, operator = MISSING_LAYERS[name]
    with pytest.raises(NotImplementedError, match=f"^{name} needs .* '{operator}'.*compiled mmcv"):
        build(make(getattr(mmcv.ops, name)))


def test_a_subclass_of_such_a_layer_is_refused_too():
    class Pool(mmcv.ops.PrRoIPool):
        pass

    with pytest.raises(NotImplementedError, match="^Pool needs mmcv's operator 'prroi_pool"):
        nn.Sequential(Pool(7, 1.0))


def test_a_detector_with_such_a_layer_is_refused_when_it_is_built():
    extractor = dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='PrRoIPool', output_size=7),
        out_channels=8,
        featmap_strides=[4],
    )
    with pytest.raises(NotImplementedError, match='PrRoIPool needs'):
        MODELS.build(extractor)
    extractor['roi_layer'] = dict(type='RoIPool', output_size=7)
    MODELS.build(extractor)


def test_layers_that_mmcv_computes_on_cpus_itself_are_built():
    layer = nn.Sequential(mmcv.ops.FusedBiasLeakyReLU(3))
    assert layer(torch.ones(1, 3, 2, 2)).shape == (1, 3, 2, 2)


def test_every_layer_that_mmdet_and_mmseg_take_from_mmcv_is_provided():
    layers = set()
    for package in (mmdet, mmseg):
        for path in Path(package.__file__).parent.rglob('*.py'):
            for names in re.findall(
                r'from mmcv\.ops[.\w]* import \(?([\w, \n]+)', path.read_text()
            ):
                layers |= set(re.findall(r'\b[A-Z]\w+', names))
    assert {'MaskedConv2d', 'PSAMask', 'CARAFEPack', 'RoIPool', 'DeformConv2d'} <= layers
    for name in layers:
        kind = getattr(mmcv.ops, name, None)
        if kind is not None and issubclass(kind, nn.Module):
            layer = kind.__new__(kind)
            nn.Module.__init__(layer)
            nn.Sequential(layer)


def test_private_names_are_missing_as_in_any_module():
    extension = ext_loader.load_ext('_ext', [])
    for name in ('__path__', '_private'):
        assert not hasattr(extension, name)


def test_environment_reports_say_what_the_operators_are():
    assert 'torchvision' in mmcv.ops.get_compiler_version()
    cuda = mmcv.ops.get_compiling_cuda_version()
    assert cuda == (torch.version.cuda or 'not available')
    assert mmcv_full_available()
