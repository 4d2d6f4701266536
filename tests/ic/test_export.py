"""IC networks as ONNX files: backbone and segmentor, folded, at sizes they were not traced with."""

from __future__ import annotations

import importlib

import pytest
import torch
from mmengine.registry import DefaultScope

from revcol_backbone.engine.building import build_model
from revcol_backbone.export import (
    DEFAULT_OPSET,
    check_agreement,
    load_onnx,
    make_exportable,
    part_of,
    trace,
    write_onnx,
)
from revcol_backbone.ic.folding import FoldedICConv2d
from tests.configs import load_config
from tests.ic.test_resnet import train_like


@pytest.mark.slow
@pytest.mark.parametrize('part', ['backbone', 'segmentor'])
@pytest.mark.parametrize('gain', [False, True])
def test_onnxruntime_computes_what_the_trained_model_does(part, gain, tmp_path):
    torch.manual_seed(0)
    config = load_config('seg_configs/ic_resnet18_quickstart.py')
    for module in config.custom_imports.imports:
        importlib.import_module(module)
    config.model.backbone.update(base_channels=8, collision_gain=gain)
    config.model.decode_head.in_channels = [8, 16, 32, 64]
    config.model.auxiliary_head.in_channels = 32
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = train_like(build_model(config)).eval()
    reference = part_of(model, part)
    graph = make_exportable(reference)
    assert any(isinstance(module, FoldedICConv2d) for module in graph.modules())
    with torch.no_grad():
        program = trace(graph, torch.zeros(2, 3, 64, 96), dynamic=True)
    names = graph.name_outputs(len(program.graph_signature.user_outputs))
    write_onnx(program, tmp_path / 'ic.onnx', names, {}, DEFAULT_OPSET)
    shapes = [(2, 64, 96), (1, 65, 131)]
    run = load_onnx(tmp_path / 'ic.onnx')
    for _, error in check_agreement(run, reference, shapes, torch.float32):
        assert error < 1e-5
