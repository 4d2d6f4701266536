import re
from pathlib import Path

import mmcv.ops
import pytest
import torch
from mmcv.utils import ext_loader
from mmengine.utils.dl_utils import mmcv_full_available

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


def test_a_layer_of_a_missing_operator_says_which_one():
    pool = mmcv.ops.RoIPool(2)
    with pytest.raises(NotImplementedError, match="'roi_pool_forward'"):
        pool(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))


def test_private_names_are_missing_as_in_any_module():
    extension = ext_loader.load_ext('_ext', [])
    for name in ('__path__', '_private'):
        assert not hasattr(extension, name)


def test_environment_reports_say_what_the_operators_are():
    assert 'torchvision' in mmcv.ops.get_compiler_version()
    cuda = mmcv.ops.get_compiling_cuda_version()
    assert cuda == (torch.version.cuda or 'not available')
    assert mmcv_full_available()
