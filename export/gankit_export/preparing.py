"""What every export does first: rewrite and type the generator, and find what it is compared with and on what."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gankit_export.formats import InOut
from gankit_export.latent import export_latent_onnx, latent_samples, typed_latent
from gankit_export.onnx import export_onnx
from gankit_export.parity import Batch, Inputs, ShapeParity, measure
from gankit_export.pixel_edges import PIXEL_RANGE, pixel_batch, with_pixel_edges
from gankit_export.precision import RangeError, typed
from gankit_export.precisions import Precision
from gankit_export.rewrites import for_inference

if TYPE_CHECKING:
    from collections.abc import Callable

    from gankit_export.artefact import Source

_IMAGES = 4  # axes


@dataclass(frozen=True)
class Prepared:
    """A generator that is ready to be exported.

    Attributes:
        source: facts of the generator.
        reference: the generator as loaded, with the edges of the file: what the file is compared with.
        module: what is exported: rewritten, typed, in eval mode.
        batches: inputs of the comparison.
        in_out: what the file takes and gives.
    """

    source: Source
    reference: nn.Module
    module: nn.Module
    batches: Sequence[Inputs]
    in_out: InOut = "float32"

    def write_onnx(self, path: Path, opset: int) -> None:
        """Export the module as ONNX.

        Raises:
            ExportError: It cannot be exported.
            OSError: The file cannot be written.
        """
        source = self.source
        if source.latent:
            export_latent_onnx(self.module, path, latent=source.latent, classes=source.classes, opset=opset)
            return
        export_onnx(
            self.module, path, channels=source.channels, multiple=source.multiple, opset=opset, in_out=self.in_out
        )

    def measured(self, run: Callable[..., Batch]) -> tuple[ShapeParity, ...]:
        """Compare a file with the generator; see :func:`gankit_export.parity.measure`.

        Args:
            run: the file: the inputs in their order, to the first output.
        """
        pixels = self.in_out == "uint8"
        value_range = PIXEL_RANGE if pixels else self.source.value_range
        figures = measure(run, self.reference, self.module, self.batches, value_range=value_range)
        if not pixels:
            return figures
        return tuple(replace(item, shape=_as_nchw(item.shape)) for item in figures)

    @property
    def edges(self) -> dict[str, Any]:
        """The fields of a manifest that depend on what the file takes and gives."""
        return edge_fields(self.source, self.in_out)


def prepare(
    generator: nn.Module,
    source: Source,
    batches: Sequence[Batch],
    precision: Precision,
    *,
    in_out: InOut = "float32",
) -> Prepared:
    """Rewrite and type a generator.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        batches: real images, (N, C, H, W) float32 in the value range, from ``parity.samples``. A generator of latents
            is compared on seeded ones instead.
        precision: of everything but normalisations.
        in_out: what the file takes and gives.

    Raises:
        RangeError: A weight is too large for the precision.
    """
    conditional = source.classes > 0

    def convert(module: nn.Module) -> nn.Module:
        return typed_latent(module, precision, conditional=conditional) if source.latent else typed(module, precision)

    try:
        module = convert(for_inference(generator))
    except RangeError:
        raise
    except ValueError:  # no graph by symbolic tracing: the exporter, which traces with sizes, may find one
        module = convert(generator)
    given: Sequence[Inputs] = latent_samples(source.latent, source.classes) if source.latent else batches
    if in_out == "uint8":
        edges = {"latents": source.latent > 0, "conditional": conditional}
        generator, module = (with_pixel_edges(item, source.value_range, **edges) for item in (generator, module))
        if not source.latent:
            given = [pixel_batch(batch, source.value_range) for batch in batches]  # type: ignore[misc]
    return Prepared(source, generator, module, given, in_out)


def with_half_weights(prepared: Prepared) -> Prepared:
    """Round the weights to fp16 while the arithmetic stays fp32, as formats do that only store weights in fp16.

    Raises:
        RangeError: A weight is too large for fp16.
    """
    module = copy.deepcopy(prepared.module)
    for name, item in [*module.named_parameters(), *module.named_buffers()]:
        if not item.is_floating_point():
            continue
        narrow = item.data.half()
        if not bool(torch.isfinite(narrow).all()):
            raise RangeError(f"'{name}' has values beyond the range of fp16; take bf16 or fp32")
        item.data = narrow.float()
    return replace(prepared, module=module)


def edge_fields(source: Source, in_out: InOut) -> dict[str, Any]:
    """Return the fields of a manifest that say what the file takes and gives."""
    from gankit_export.formats import INPUT, OUTPUT
    from gankit_export.latent import LATENTS

    layout = "NHWC" if in_out == "uint8" else "NCHW"
    images = {"dtype": in_out, "layout": layout}
    return {
        "input": {"name": LATENTS, "dtype": "float32"} if source.latent else {"name": INPUT, **images},
        "output": {"name": OUTPUT, **images},
        "value_range": PIXEL_RANGE if in_out == "uint8" else source.value_range,
    }


def _as_nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == _IMAGES else shape
