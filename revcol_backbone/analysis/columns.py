"""Seeing what every column of a RevCol gives, while the model around it runs as always."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from torch import nn

from revcol_backbone.column import Column, Features
from revcol_backbone.deploy import DeployedColumn
from revcol_backbone.memory_saving.recomputation import only_watches
from revcol_backbone.reversible_columns import ReversibleColumns


def find_revcols(model: nn.Module) -> dict[str, ReversibleColumns]:
    """Every network of columns in a model by its name there; that of a bare one is ``''``."""
    kind = ReversibleColumns
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def watch_columns(
    revcol: ReversibleColumns, see: Callable[[int, Column | DeployedColumn, Features], None]
) -> AbstractContextManager:
    """Call a function after each column of each forward pass in this context.

    It works in evaluation and in training; with ``save_memory`` it is called in the forward pass
    alone, because the backward pass recomputes levels and not columns. A network that
    ``torch.compile`` has compiled without it calls nothing.

    Args:
        revcol: The network.
        see: Takes the column's index, the column and its levels, which it must not change.

    Example:
        >>> def show(index, column, levels):
        ...     print(index, [level.shape for level in levels])
        >>> with watch_columns(revcol, show):
        ...     revcol(images)
    """
    stack = ExitStack()
    # Within a wrapper, such as FSDP's, the parameters are whole only while the column itself runs.
    kinds = (Column, DeployedColumn)
    columns = [module for module in revcol.modules() if isinstance(module, kinds)]
    for index, column in enumerate(columns):
        handle = column.register_forward_hook(
            only_watches(lambda column, _, levels, index=index: see(index, column, levels))
        )
        stack.callback(handle.remove)
    return stack
