"""Tracing a graph to an ``ExportedProgram``, and ``torch.export`` files of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

SMALLEST_DYNAMIC_SIZE = 64  # below it the coarsest level is one pixel, which tracing would fix
SMALLEST_DYNAMIC_BATCH = 2


def trace(graph: nn.Module, image: Tensor, dynamic: bool = True) -> ExportedProgram:
    """Trace a graph for one size, or for any batch, height and width.

    Args:
        graph: As returned by :func:`~revcol_backbone.export.graphs.make_exportable`.
        image: A normalized batch (B, 3, H, W) of the size to trace with.
        dynamic: Let batch, height and width vary; height and width are then at least 64.

    Raises:
        ValueError: The graph cannot be traced, or not without fixing a size.
    """
    if dynamic and min(image.shape[-2:]) < SMALLEST_DYNAMIC_SIZE:
        raise ValueError(
            f'A size of {image.shape[-2]} x {image.shape[-1]} is too small for an export of any '
            f'size, which takes images from {SMALLEST_DYNAMIC_SIZE} x {SMALLEST_DYNAMIC_SIZE}; '
            'give a larger size, or export for this one alone.'
        )
    if dynamic and len(image) < SMALLEST_DYNAMIC_BATCH:
        # Tracing treats a size of one as a constant.
        image = image.repeat(SMALLEST_DYNAMIC_BATCH, 1, 1, 1)
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    try:
        return torch.export.export(graph, (image,), dynamic_shapes=(free,) if dynamic else None)
    except Exception as error:  # anything in a model can be what the tracer cannot follow
        raise ValueError(
            f'{type(graph).__name__} of this model cannot be traced '
            f'({type(error).__name__}: {str(error).strip().splitlines()[0]}); export another part '
            'of it' + (', or for one size alone.' if dynamic else '.')
        ) from error


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced graph with its weights by ``torch.export.save``.

    Args:
        program: As from :func:`trace`.
        path: The file; its suffix is ``.pt2``.
        metadata: Files of text to store beside the graph.
    """
    # Writing into a file itself, PyTorch aborts the process when the disk is full.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=dict(metadata))
    path.write_bytes(content.getbuffer())


def load_program(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """Return a function that runs a ``.pt2`` file: a batch of images to all outputs."""
    module = torch.export.load(path).module()

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            outputs = module(image)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    return run
