"""A generator that starts from latents -> one ONNX file with a dynamic batch, and what it is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from gankit_export.onnx import write_onnx
from gankit_export.parity import Inputs
from gankit_export.precision import DTYPES, Float32Edges, typed
from gankit_export.precisions import Precision

LATENTS, CLASSES = "latents", "classes"
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
    batch = Dim("batch", min=1, max=1 << 20)
    inputs = {LATENTS: torch.randn(_EXAMPLES, latent).to(dtype)}
    if classes:
        inputs[CLASSES] = torch.arange(_EXAMPLES) % classes
    write_onnx(module, inputs, [{0: batch} for _ in inputs], Path(path), opset=opset, axes=(0,))


def typed_latent(module: nn.Module, precision: Precision, *, conditional: bool) -> nn.Module:
    """``precision.typed`` for a generator of latents: they and its images are float32, classes stay integers.

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
        """(N, latent) float32 and (N,) int64 in, float32 images out."""
        result: Tensor = self.inner(x.to(self.dtype), classes).float()
        return result
