"""Where the C++ functions do not fit, a native network computes as a deployed one does."""

from __future__ import annotations

import pytest
import torch

from tests.golden import image, relative_error
from tests.native.test_native_network import assert_close, calls, native, run, trained


def test_float64_is_computed_in_float64() -> None:
    model, reference, x = trained().double(), trained().double(), image((1, 3, 64, 64)).double()
    model.switch_to_deploy(native=True)
    assert calls(model, x) == [0, 0]
    for output, expected in zip(run(model, x), run(reference, x), strict=True):
        assert relative_error(output, expected) < 1e-12


def test_bfloat16_weights_and_autocast_are_computed_in_bfloat16() -> None:
    x = image((1, 3, 64, 64))
    expected = run(trained(), x)
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
        model = native()
        assert calls(model, x) == [0, 0]
        cast = model(x)
    whole = run(native().bfloat16(), x.bfloat16())
    for output, first, second in zip(expected, cast, whole, strict=True):
        assert first.dtype == torch.float32
        assert second.dtype == torch.bfloat16
        assert relative_error(first, output) < 0.05
        assert relative_error(second, output) < 0.05


def test_gradients_reach_the_image() -> None:
    gradients = []
    for network in (native(), trained()):
        x = image((1, 3, 64, 64)).requires_grad_()
        sum(output.sum() for output in network(x)).backward()
        gradients.append(x.grad)
    assert relative_error(*gradients) < 1e-4


@pytest.mark.parametrize('backend', ['aot_eager', 'inductor'])
def test_it_compiles_whole(backend: str) -> None:
    model, x = native(), image((2, 3, 77, 45))
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    assert_close(run(compiled, x), run(model, x))
    with torch.no_grad():
        assert calls(compiled, x)[0] == 15


def test_an_exported_graph_has_none_of_the_functions() -> None:
    model, x = native(), image((1, 3, 64, 64))
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=False)
        traced = torch.jit.trace(model, x)
    assert 'revcol_backbone' not in str(program.graph)
    assert 'packed' not in str(traced.inlined_graph)
    assert_close(program.module()(x), run(model, x))
    assert_close(traced(x), run(model, x))


def test_shapes_on_the_meta_device_are_right() -> None:
    model, x = native().to('meta'), torch.empty(2, 3, 77, 45, device='meta')
    expected = run(trained(), torch.zeros(2, 3, 77, 45))
    assert [output.shape for output in model(x)] == [output.shape for output in expected]
