"""Make an artefact: rewrite, type, export, measure, and only then put the file and its manifest in their place."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from gankit_export import manifest as manifests
from gankit_export.manifest import Manifest
from gankit_export.onnx import INPUT, OUTPUT, default_opset, dims, export_onnx, half_convolutions
from gankit_export.parity import Batch, measure, open_file, runtime_for
from gankit_export.precision import Precision, typed
from gankit_export.rewrites import for_inference

# dB. Measured on trained super-resolution networks: fp32 above 120, fp16 above 60, bf16 above 48.
THRESHOLDS: Mapping[Precision, float] = {"fp32": 80.0, "fp16": 50.0, "bf16": 45.0}


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


class ParityFailedError(RuntimeError):
    """The file is too far from the fp32 generator and was not kept.

    Attributes:
        manifest: with the figures.
    """

    def __init__(self, manifest: Manifest) -> None:
        worst = min(manifest.parity, key=lambda item: item.worst)
        self.manifest = manifest
        super().__init__(
            f"{manifest.precision} reaches {worst.worst:.1f} dB at {worst.shape[3]}×{worst.shape[2]}, "
            f"{manifest.threshold:g} dB are needed"
        )


def make_onnx(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    batches: Sequence[Batch],
    *,
    precision: Precision = "fp32",
    opset: int | None = None,
    threshold: float | None = None,
    pictures: Sequence[str] = (),
) -> Manifest:
    """Write an ONNX file and its manifest; both are there and proven, or what was there before is untouched.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the ``.onnx`` file; replaced if there.
        batches: real pictures, (N, C, H, W) float32 in the value range, from ``parity.samples``.
        precision: of everything but normalisations. The file takes and gives float32 in all of them.
        opset: ``None`` for ``onnx.default_opset``.
        threshold: PSNR in dB that each shape has to reach; ``None`` for ``THRESHOLDS``.
        pictures: names of the pictures that the batches were cut from, for the manifest.

    Raises:
        ParityFailedError: it does not.
        ExportError: the generator cannot be exported.
        RangeError: a weight is too large for the precision.
        ImportError: the runtime that can measure the file is not installed; ``name`` is the package.
        OSError: the files cannot be written.
    """
    path = Path(path)
    opset = default_opset(precision) if opset is None else opset
    threshold = THRESHOLDS[precision] if threshold is None else threshold
    runtime = runtime_for(precision)
    import_module(runtime)  # before minutes of work
    module = typed(for_inference(generator), precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        export_onnx(module, draft, channels=source.channels, multiple=source.multiple, opset=opset)
        figures = measure(open_file(draft, runtime), generator, module, batches, value_range=source.value_range)
        manifest = Manifest(
            model=source.model,
            weights=source.weights,
            weights_sha256=source.weights_sha256,
            options=dict(source.options),
            precision=precision,
            opset=opset,
            input={"name": INPUT, "dtype": "float32"},
            output={"name": OUTPUT, "dtype": "float32"},
            dims=dims(draft),
            value_range=source.value_range,
            scale=source.scale,
            multiple=source.multiple,
            sha256=manifests.sha256(draft),
            half_convolutions=half_convolutions(draft),
            threshold=threshold,
            runtime=runtime,
            parity=figures,
            versions={**source.versions, **manifests.versions("torch", "onnx", "onnxscript", runtime)},
            pictures=tuple(pictures),
        )
        if not all(item.worst >= threshold for item in figures):
            raise ParityFailedError(manifest)
        manifests.write(manifest, draft)
        # an artefact without its manifest is unproven: the manifest goes first, and names the artefact's checksum
        manifests.manifest_path(draft).replace(manifests.manifest_path(path))
        draft.replace(path)
    return manifest
