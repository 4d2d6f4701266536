"""Writing and running ``torch.export`` files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced graph with its weights by ``torch.export.save``.

    Args:
        program: As from :func:`~revcol_backbone.export.tracing.trace`.
        path: The file; its suffix is ``.pt2``.
        metadata: Files of text to store beside the graph.
    """
    torch.export.save(program, path, extra_files=dict(metadata))


def load_program(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """Make a function of a ``.pt2`` file: a batch of images to all outputs."""
    module = torch.export.load(path).module()

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            outputs = module(image)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    return run
