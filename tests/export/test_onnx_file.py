"""What is written as ONNX means the same to onnxruntime, at sizes that it was not traced with."""

from __future__ import annotations

import sys

import onnx
import pytest
import torch
from torch import nn

from revcol_backbone.export import load_onnx, trace, write_onnx
from revcol_backbone.export.layers import replace_long_up_branches
from revcol_backbone.level import UpBranch


class UpBranches(nn.Module):
    """``up`` and ``up2`` of a RevCol: from a half and an eighth, rounded down, to the whole."""

    def __init__(self):
        super().__init__()
        self.up, self.up2 = UpBranch(3, 2), UpBranch(3, 2)

    def forward(self, image):
        size = image.shape[-2:]
        half = self.up(image[..., : size[0] // 2, : size[1] // 2], size)
        return half, self.up2(image[..., : size[0] // 8, : size[1] // 8], size)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image):
        return self.conv(image)


def export(graph, path, **options):
    names = ['output'] if isinstance(graph, Linear) else ['half', 'eighth']
    program = trace(graph.eval(), torch.zeros(1, 3, 64, 96))
    write_onnx(program, path, names, {'classes': '["cat", "dog"]'}, **options)
    return load_onnx(path)


def test_upsampling_picks_the_same_pixel_at_every_size(tmp_path):
    torch.manual_seed(0)
    expected, exported = UpBranches().eval(), UpBranches().eval()
    exported.load_state_dict(expected.state_dict())
    replace_long_up_branches(exported)
    run = export(exported, tmp_path / 'up.onnx')
    for width in range(8, 600):
        image = torch.rand(1, 3, 9, width)
        with torch.no_grad():
            wanted = expected(image)
        for found, output in zip(run(image), wanted, strict=True):
            torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)


def test_the_dimensions_and_the_metadata_are_named(tmp_path):
    export(Linear(), tmp_path / 'linear.onnx')
    model = onnx.load(tmp_path / 'linear.onnx')
    (image,) = model.graph.input
    dimensions = image.type.tensor_type.shape.dim
    assert image.name == 'image'
    assert [d.dim_param or d.dim_value for d in dimensions] == ['batch', 3, 'height', 'width']
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [
        ('classes', '["cat", "dog"]')
    ]
    onnx.checker.check_model(model, full_check=True)


def test_weights_that_are_too_large_for_one_file_lie_beside_it(tmp_path):
    graph = Linear()
    run = export(graph, tmp_path / 'large.onnx', largest_single_file=0)
    image = torch.rand(2, 3, 5, 7)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['large.onnx', 'large.onnx.data']
    torch.testing.assert_close(run(image)[0], graph(image), rtol=1e-5, atol=1e-6)


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    class Unknown(nn.Module):
        def forward(self, image):
            return torch.linalg.eigvalsh(image @ image.mT)

    program = trace(Unknown(), torch.zeros(1, 3, 64, 64), dynamic=False)
    with pytest.raises(ValueError, match=r'cannot be written as ONNX of opset 20 \(.*eigh'):
        write_onnx(program, tmp_path / 'unknown.onnx', ['values'], {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named_with_its_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package} is not installed; .*\[export\]'):
        export(Linear(), tmp_path / 'linear.onnx')
