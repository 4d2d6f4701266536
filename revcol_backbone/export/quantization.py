"""Static quantization of an exported ONNX file to 8-bit integers, by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from revcol_backbone.export.onnx_file import require

# LayerNorm, GELU, additions and resizing stay in float32: they cost little and need its range.
QUANTIZED_OPERATORS = ('Conv', 'MatMul')


def quantize(source: Path, target: Path, images: Iterable[Tensor]) -> None:
    """Write an int8 copy of an exported file: convolutions and matrix products of 8-bit integers.

    Weights get one scale for each output channel; activations get one for a tensor, from the
    smallest and the largest value that they take on the given images.

    Args:
        source: A float32 file of :func:`~revcol_backbone.export.onnx_file.write_onnx`.
        target: The file to write.
        images: Normalised batches (B, 3, H, W), like those to come.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
    """
    require('onnx', 'onnxruntime')
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / 'prepared.onnx'
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _reader(images: Iterable[Tensor]):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Hands out one batch after another, and then ``None``."""

        def __init__(self) -> None:
            self.batches = iter(images)

        def get_next(self) -> dict | None:
            batch = next(self.batches, None)
            return None if batch is None else {'image': batch.numpy()}

    return Reader()
