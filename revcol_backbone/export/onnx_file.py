"""Writing and running ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

DEFAULT_OPSET = 20  # the first with exact GELU as one operator
SMALLEST_OPSET = 18
# A protobuf file holds less than 2 GiB; more weights go to a second file beside it.
LARGEST_SINGLE_FILE = 2**31 - 2**27


def write_onnx(
    program: ExportedProgram,
    path: Path,
    output_names: Sequence[str],
    metadata: Mapping[str, str],
    opset: int = DEFAULT_OPSET,
    largest_single_file: int = LARGEST_SINGLE_FILE,
) -> None:
    """Write a traced graph as ONNX.

    Args:
        program: As returned by :func:`~revcol_backbone.export.torch_file.trace`.
        path: The file; with weights of more than ``largest_single_file`` bytes there is also a
            ``PATH.data`` beside it, which has to stay there.
        output_names: Names of the outputs; the input is ``image``.
        metadata: Entries of the file's metadata.
        opset: Version of the operator set.
        largest_single_file: In bytes.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: The graph has an operator without a counterpart in ONNX.
    """
    require('onnx', 'onnxscript')
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=['image'],
            output_names=list(output_names),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(
            f'The graph cannot be written as ONNX of opset {opset} '
            f'({cause.split(". See the")[0]}); choose another part or opset, or the format '
            'torch-export.'
        ) from error
    assert exported is not None  # None only if it were told to write the file itself
    _name_dimensions(exported.model)
    exported.model.metadata_props.update(metadata)
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    exported.save(path, external_data=weights > largest_single_file)


def load_onnx(path: Path, threads: int | None = None) -> Callable[[Tensor], list[Tensor]]:
    """Make a function of an ONNX file: a batch of images to all outputs, by onnxruntime on a CPU.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: onnxruntime cannot run the file.
    """
    require('onnxruntime')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    # Threads that wait actively after a run would take the cores of what comes next.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
    except Exception as error:  # its own classes, which have no common base
        raise ValueError(f'onnxruntime cannot run {path.name}: {error}') from error

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {'image': image.numpy()})]

    return run


def require(*packages: str) -> None:
    """Check that packages of the extra ``export`` are installed.

    Raises:
        ImportError: One of them is not; the message says how to install it.
    """
    for package in packages:
        try:
            __import__(package)
        except ImportError:
            raise ImportError(
                f'The package {package} is not installed; run `pip install -e ".[export]"`, which '
                'installs what the export to ONNX needs.'
            ) from None


def _name_dimensions(model) -> None:
    """Call the input's free dimensions by what they are, instead of by the tracer's symbols."""
    image = model.graph.inputs[0]
    names = ('batch', None, 'height', 'width')
    free = {str(d): n for d, n in zip(image.shape, names, strict=True) if not isinstance(d, int)}
    image.shape = type(image.shape)(
        [d if isinstance(d, int) else free[str(d)] for d in image.shape]
    )
