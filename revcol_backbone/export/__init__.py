"""Export for inference without this package: ONNX, ``torch.export`` and int8.

``tools/export.py`` uses these functions; ``docs/export.md`` describes them.
"""

from revcol_backbone.export.agreement import TOLERANCES, check_agreement, shapes_to_check
from revcol_backbone.export.graphs import (
    PARTS,
    BackboneGraph,
    make_exportable,
    part_of,
    parts_in_python,
)
from revcol_backbone.export.metadata import describe_input_and_output
from revcol_backbone.export.onnx_file import (
    DEFAULT_OPSET,
    SMALLEST_OPSET,
    load_onnx,
    write_onnx,
)
from revcol_backbone.export.quantization import quantize
from revcol_backbone.export.torch_file import load_program, trace, write_program

__all__ = [
    'DEFAULT_OPSET',
    'PARTS',
    'SMALLEST_OPSET',
    'TOLERANCES',
    'BackboneGraph',
    'check_agreement',
    'describe_input_and_output',
    'load_onnx',
    'load_program',
    'make_exportable',
    'part_of',
    'parts_in_python',
    'quantize',
    'shapes_to_check',
    'trace',
    'write_onnx',
    'write_program',
]
