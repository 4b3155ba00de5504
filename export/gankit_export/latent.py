"""A generator that starts from latents -> one ONNX file with a dynamic batch."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.export import Dim

from gankit_export.onnx import ExportError, _first_line, _quiet

LATENTS, CLASSES, OUTPUT = "latents", "classes", "output"
_EXAMPLES = 3  # an example of 1 would fix the batch


def export_latent_onnx(
    module: nn.Module,
    path: Path | str,
    *,
    latent: int,
    classes: int = 0,
    opset: int = 18,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``module`` as ONNX; the file appears whole and checked, or not at all.

    Args:
        module: (N, latent) to (N, C, H, W), or with a class for each, (N,) int64, as its second argument. In eval
            mode, in its final precision.
        path: the ``.onnx`` file; replaced if there. All weights are inside. Its inputs are ``latents`` and, of a
            conditional one, ``classes``.
        latent: numbers in a latent.
        classes: how many the generator knows; 0 for one without.
        opset: of the file.
        dtype: of the latents.

    Raises:
        ExportError: the module has no graph, the batch came out fixed, or the checker objects.
        OSError: the file cannot be written.
    """
    path = Path(path)
    batch = Dim("batch", min=1, max=1 << 20)
    arguments = [torch.randn(_EXAMPLES, latent).to(dtype)]
    names = [LATENTS]
    if classes:
        arguments.append(torch.arange(_EXAMPLES) % classes)
        names.append(CLASSES)
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                tuple(arguments),
                dynamo=True,
                opset_version=opset,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=tuple({0: batch} for _ in arguments),
                external_data=False,
                optimize=True,
                verify=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds, each with pages of text
        raise ExportError(f"{type(module).__name__} cannot be exported: {_first_line(error)}") from error
    if program is None:
        raise ExportError(f"{type(module).__name__} cannot be exported: the exporter returned nothing")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        program.save(temporary, external_data=False)
        _check(temporary)
        temporary.replace(path)


def _check(path: Path) -> None:
    """Hold a file against the ONNX checker and against what :func:`export_latent_onnx` promises."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker objects: {_first_line(error)}") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in graph.initializer):
        raise ExportError("weights came out in a second file")
    if not all(value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)):
        raise ExportError("the batch came out fixed; rewrite the module")
