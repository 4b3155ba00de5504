"""Make an artefact: rewrite, type, export, measure, and only then put the file and its manifest in their place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from gankit_export import manifest as manifests
from gankit_export.files import atomic_path
from gankit_export.formats import InOut
from gankit_export.manifest import Manifest
from gankit_export.messages import first_line
from gankit_export.onnx import (
    CONVOLUTIONS,
    PRODUCTS,
    ExportError,
    default_opset,
    describe,
    dims,
    half_convolutions,
)
from gankit_export.parity import Batch, ShapeParity, open_file, runtime_for
from gankit_export.precisions import Precision
from gankit_export.preparing import Prepared, edge_fields, prepare

# dB. Measured on trained super-resolution networks: fp32 above 120, fp16 above 60, bf16 above 48.
THRESHOLDS: Mapping[Precision, float] = {"fp32": 80.0, "fp16": 50.0, "bf16": 45.0}
PIXEL_THRESHOLD = 60.0
"""dB for uint8 pixels: a difference of 1e-6 rounds 1 of 2000 values to the neighbouring level, which is 81 dB."""


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        model: name of the generator.
        weights: file name of its weights.
        weights_sha256: of that file.
        options: what builds the generator.
        scale: output side over input side.
        channels: colour channels of the input.
        multiple: input sides must be a multiple of this.
        value_range: of input and output.
        versions: of packages that the manifest shall name beside torch and ONNX.
        minimum: input sides must be at least this.
        latent: numbers in one latent of a generator that starts from them; 0 for one that takes images.
        classes: that it takes beside the latent; 0 for none.
        metadata: more entries for ``metadata_props`` of the file, such as the licence of the weights.
    """

    model: str
    weights: str
    weights_sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 1
    channels: int = 3
    multiple: int = 1
    value_range: tuple[float, float] = (0.0, 1.0)
    versions: Mapping[str, str] = field(default_factory=dict)
    minimum: int = 1
    latent: int = 0
    classes: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def described(self, precision: Precision, in_out: InOut = "float32") -> dict[str, str]:
        """What an ONNX file says about itself in ``metadata_props``, so that it can be run from the file alone.

        Texts by name: ``model``, ``weights``, ``weights_sha256``, ``precision`` (of the arithmetic), ``dtype`` (of
        images), ``value_range`` (of images, lowest and highest), versions as ``PACKAGE_version``, and
        :attr:`metadata`. A generator that takes images also has ``layout``, ``colour_order``, ``channels``, ``scale``,
        ``multiple`` and ``minimum`` (both of input sides, in pixels); one that takes latents has ``latent`` and, where
        it has classes, ``classes``. ``value_range`` is a JSON list.
        """
        taken: dict[str, object] = {"latent": self.latent, "classes": self.classes or None}
        if not self.latent:
            taken = {"channels": self.channels, "scale": self.scale, "multiple": self.multiple, "minimum": self.minimum}
        edges = edge_fields(self, in_out)
        facts = {
            "model": self.model,
            "weights": self.weights.encode("utf-8", "backslashreplace").decode(),
            "weights_sha256": self.weights_sha256,
            "precision": precision,
            "dtype": in_out,
            "layout": edges["output"]["layout"],
            "colour_order": "RGB" if self.channels == 3 else "gray" if self.channels == 1 else None,
            "value_range": json.dumps(edges["value_range"]),
            **taken,
            **{f"{package}_version": version for package, version in self.versions.items()},
            **self.metadata,
        }
        return {name: str(value) for name, value in facts.items() if value is not None}

    def manifest(self, precision: Precision, in_out: InOut = "float32", **measured: Any) -> Manifest:
        """Return the manifest of a file of this generator.

        Args:
            precision: precision of the file.
            in_out: what the file takes and gives.
            measured: the fields of :class:`~gankit_export.manifest.Manifest` that the generator does not determine.
        """
        return Manifest(
            model=self.model,
            weights=self.weights,
            weights_sha256=self.weights_sha256,
            options=dict(self.options),
            precision=precision,
            scale=self.scale,
            multiple=self.multiple,
            takes="latents" if self.latent else "images",
            minimum=self.minimum,
            latent=self.latent,
            classes=self.classes,
            metadata=dict(self.metadata),
            **edge_fields(self, in_out),
            **measured,
        )


class ParityFailedError(RuntimeError):
    """The file is too far from the fp32 generator and was not kept.

    Attributes:
        manifest: with the figures.
    """

    def __init__(self, manifest: Manifest) -> None:
        worst = min(manifest.parity, key=lambda item: item.worst)
        self.manifest = manifest
        super().__init__(
            f"{manifest.precision} reaches {worst.worst:.1f} dB at {worst.title}, {manifest.threshold:g} dB are needed"
        )


def make_onnx(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    batches: Sequence[Batch] = (),
    *,
    precision: Precision = "fp32",
    opset: int | None = None,
    threshold: float | None = None,
    images: Sequence[str] = (),
    in_out: InOut = "float32",
) -> Manifest:
    """Write an ONNX file and its manifest; both are there and proven, or what was there before is untouched.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the ``.onnx`` file; replaced if there.
        batches: real images, (N, C, H, W) float32 in the value range, from ``parity.samples``. A generator that starts
            from latents is measured on three batches of seeded ones instead.
        precision: of everything but normalisations. The file takes and gives float32 in all of them.
        opset: ``None`` for ``onnx.default_opset``.
        threshold: PSNR in dB that each shape has to reach; ``None`` for ``THRESHOLDS``.
        images: names of the images that the batches were cut from, for the manifest.
        in_out: what the file takes and gives: float32, or uint8 pixels.

    Raises:
        ParityFailedError: it does not.
        ExportError: the generator cannot be exported.
        RangeError: a weight is too large for the precision.
        ImportError: the runtime that can measure the file is not installed; ``name`` is the package.
        OSError: the files cannot be written.
    """
    path = Path(path)
    opset = default_opset(precision) if opset is None else opset
    runtime = runtime_for(precision)
    import_module(runtime)  # before minutes of work
    prepared = prepare(generator, source, batches, precision, in_out=in_out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, suffix=path.suffix) as draft:
        prepared.write_onnx(draft, opset)
        describe(draft, source.described(precision, in_out))
        figures = prepared.measured(opened(lambda: open_file(draft, runtime), runtime))
        manifest = judged(
            prepared,
            figures,
            precision,
            threshold,
            opset=opset,
            dims=dims(draft),
            sha256=manifests.sha256(draft),
            half_convolutions=half_convolutions(draft, counted(source)),
            runtime=runtime,
            versions={**source.versions, **manifests.versions("torch", "onnx", "onnxscript", runtime)},
            images=tuple(images),
        )
        # An artefact without its manifest is unproven: the manifest goes first, and names the artefact's checksum.
        manifests.write(manifest, path)
    return manifest


def counted(source: Source) -> tuple[str, ...]:
    """Kinds of ONNX nodes whose precision the manifest counts."""
    return CONVOLUTIONS + (PRODUCTS if source.latent else ())


def opened(open_it: Callable[[], Callable[..., Batch]], runtime: str) -> Callable[..., Batch]:
    """Open a file in its runtime, whose errors derive from nothing in particular.

    Raises:
        ExportError: The runtime has no kernel for a layer.
        ImportError, MemoryError, OSError: As they are.
    """
    try:
        return open_it()
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        raise ExportError(f"{runtime} cannot open the file: {first_line(error)}") from error


def judged(
    prepared: Prepared,
    figures: Sequence[ShapeParity],
    precision: Precision,
    threshold: float | None,
    **measured: Any,
) -> Manifest:
    """Make the manifest of a file that was measured.

    Args:
        prepared: what was exported.
        figures: its parity.
        precision: of the file.
        threshold: PSNR in dB that each figure has to reach; ``None`` for ``THRESHOLDS``.
        measured: further fields of the manifest.

    Raises:
        ParityFailedError: a figure is below the threshold.
    """
    least = THRESHOLDS[precision] if threshold is None else threshold
    if threshold is None and prepared.in_out == "uint8":
        least = min(least, PIXEL_THRESHOLD)
    manifest = prepared.source.manifest(precision, prepared.in_out, threshold=least, parity=tuple(figures), **measured)
    if not all(item.worst >= least for item in figures):
        raise ParityFailedError(manifest)
    return manifest
