"""What a name of ``mmcv._ext`` that is not provided does: it says so, if possible at building time.

``mmcv.ops`` looks all its operators up at import, so each must exist. One that is not provided
raises when it is called, which would be epochs after the start where a model needs it in testing
only. A layer of ``mmcv.ops`` that needs one is therefore refused when a model takes it in.
"""

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Collection
from typing import NoReturn

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

COMPILED_MMCV = 'https://mmcv.readthedocs.io/en/latest/get_started/build.html'
# Tensors on CPUs go through mmcv's own Python code instead.
NATIVE_ON_CPU = frozenset({'bias_act', 'filtered_lrelu', 'fused_bias_leakyrelu', 'upfirdn2d'})


def refusal(name: str) -> Callable[..., NoReturn]:
    """Make the function that stands for an operator that is not provided.

    Raises:
        NotImplementedError: When the function is called.
    """

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f"revcol_backbone does not provide mmcv's operator '{name}' beside mmcv-lite: "
            f'install a compiled mmcv to use it ({COMPILED_MMCV}).'
        )

    refuse.__name__ = name
    return refuse


def refuse_layers_without(provided: Collection[str]) -> None:
    """From now on refuse the layers of ``mmcv.ops`` that need other operators.

    They raise ``NotImplementedError`` when a module takes them in. Calling this again changes
    nothing.

    Args:
        provided: Names of the operators that there are.
    """
    provided = frozenset(provided) | NATIVE_ON_CPU
    _register(provided)


@functools.cache
def _register(provided: frozenset[str]) -> None:
    def check(module: nn.Module, name: str, layer: nn.Module | None) -> None:
        if layer is None:
            return
        kind: type = type(layer)
        missing = _operators_of(kind) - provided
        if missing:
            raise NotImplementedError(
                f"{type(layer).__name__} needs mmcv's operator '{min(missing)}', which "
                'revcol_backbone does not provide beside mmcv-lite: install a compiled mmcv to use '
                f'it ({COMPILED_MMCV}).'
            )

    register_module_module_registration_hook(check)


@functools.cache
def _operators_of(layer: type) -> frozenset[str]:
    """The operators that a layer's module of ``mmcv.ops`` asks ``mmcv._ext`` for."""
    names = [base.__module__ for base in layer.__mro__ if base.__module__.startswith('mmcv.ops.')]
    return frozenset().union(*(_operators_asked_by(name) for name in names))


@functools.cache
def _operators_asked_by(module: str) -> frozenset[str]:
    source = ast.parse(inspect.getsource(sys.modules[module]))
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call)]
    lists = [ast.literal_eval(call.args[1]) for call in calls if _loads_extension(call)]
    return frozenset(name for found in lists for name in found)


def _loads_extension(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == 'load_ext'
