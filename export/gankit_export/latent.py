"""A generator that starts from latents -> one ONNX file with a dynamic batch, and what it is measured on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from gankit_export.onnx import ExportError, _first_line, _quiet
from gankit_export.parity import Inputs
from gankit_export.precision import DTYPES, Float32Edges, Precision, typed

LATENTS, CLASSES, OUTPUT = "latents", "classes", "output"
BATCHES = (1, 5, 16)
"""Sizes of the batches at which parity is measured."""
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


def typed_latent(module: nn.Module, precision: Precision, *, conditional: bool) -> nn.Module:
    """``precision.typed`` for a generator of latents: they and its pictures are float32, classes stay integers.

    Raises:
        RangeError: a weight is too large for the precision.
    """
    inner = typed(module, precision, float32_edges=False)
    if precision == "fp32":
        return inner
    return (_ConditionalEdges if conditional else Float32Edges)(inner, DTYPES[precision])


def latent_samples(latent: int, classes: int = 0, seed: int = 0) -> list[Inputs]:
    """Batches to measure a generator on: standard normal latents, and classes in turn.

    Args:
        latent: numbers in one.
        classes: of a conditional generator, else 0.
        seed: of the random numbers.

    Returns:
        For each of ``BATCHES``: (N, latent) float32 and, with classes, (N,) int64.
    """
    stream = np.random.default_rng(seed)
    batches: list[Inputs] = []
    for size in BATCHES:
        given = stream.standard_normal((size, latent), dtype=np.float32)
        batches.append((given, np.arange(size, dtype=np.int64) % classes) if classes else (given,))
    return batches


class _ConditionalEdges(Float32Edges):
    """``Float32Edges`` with a class beside the latent."""

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:  # type: ignore[override]
        """(N, latent) float32 and (N,) int64 in, float32 pictures out."""
        return self.inner(x.to(self.dtype), classes).float()


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
