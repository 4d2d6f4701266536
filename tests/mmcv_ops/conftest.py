"""Makes ``mmcv.ops`` importable for the tests of this folder, and lists the devices to run on."""

import pytest
import torch

from revcol_backbone import mmcv_ops

mmcv_ops.enable()


@pytest.fixture(params=['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu'])
def device(request):
    return request.param
