"""nn.Module -> OpenVINO IR: an ``.xml`` file with the graph, and a ``.bin`` file with the weights beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from gankit_export import manifest as manifests
from gankit_export.artefact import Source, judged, opened
from gankit_export.formats import InOut
from gankit_export.manifest import Manifest
from gankit_export.onnx import default_opset, dims
from gankit_export.openvino_core import openvino_core
from gankit_export.parity import Batch, open_file
from gankit_export.precisions import Precision
from gankit_export.preparing import prepare, with_half_weights
from gankit_export.publishing import drafts, publish

_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
_PRODUCTS = ("MatMul",)
_NARROW = ("f16", "bf16")


def make_ir(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    batches: Sequence[Batch] = (),
    *,
    precision: Precision = "fp32",
    threshold: float | None = None,
    images: Sequence[str] = (),
    in_out: InOut = "float32",
) -> Manifest:
    """Write an OpenVINO IR and its manifest; all files are there and proven, or none is.

    An fp16 file stores its weights in fp16, which halves it, and computes in the precision that the device is asked
    for. A bf16 file has bf16 layers.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the ``.xml`` file; replaced if there. The weights go to the ``.bin`` file of the same name.
        batches: real images, as in :func:`gankit_export.artefact.make_onnx`.
        precision: of the weights.
        threshold: PSNR in dB that each shape has to reach; ``None`` for ``THRESHOLDS``.
        images: names of the images that the batches were cut from, for the manifest.
        in_out: what the file takes and gives.

    Raises:
        ParityFailedError, ExportError, RangeError, ImportError, OSError: As :func:`gankit_export.artefact.make_onnx`.
    """
    import openvino

    path = Path(path)
    opset, half = default_opset(precision), precision == "fp16"
    prepared = prepare(generator, source, batches, "fp32" if half else precision, in_out=in_out)
    with drafts(path.parent) as folder:
        model, draft = folder / "model.onnx", folder / path.name
        prepared.write_onnx(model, opset)

        def convert() -> Callable[..., Batch]:
            openvino.save_model(openvino_core().read_model(str(model)), str(draft), compress_to_fp16=half)
            return open_file(draft, "openvino")

        run = opened(convert, "OpenVINO")
        if half:
            prepared = with_half_weights(prepared)
        weights = draft.with_suffix(".bin")
        manifest = judged(
            prepared,
            prepared.measured(run),
            precision,
            threshold,
            opset=opset,
            dims=dims(model),
            sha256=manifests.sha256(draft),
            half_convolutions=half_layers(draft, _LAYERS + (_PRODUCTS if source.latent else ())),
            runtime="openvino",
            versions={**source.versions, **manifests.versions("torch", "onnx", "onnxscript", "openvino")},
            images=tuple(images),
            kind="openvino",
            files={weights.name: manifests.sha256(weights)},
        )
        publish(draft, [weights], manifest, path)
    return manifest


def half_layers(path: Path, kinds: Sequence[str] = _LAYERS) -> tuple[int, int]:
    """Count the layers of an IR whose weights are fp16 or bf16, and all.

    Args:
        path: the ``.xml`` file.
        kinds: of layers that are counted.
    """
    layers = [item for item in openvino_core().read_model(str(path)).get_ops() if item.get_type_name() in kinds]
    return sum(_stored(item.input_value(1).get_node()) in _NARROW for item in layers), len(layers)


def _stored(node: Any) -> str:
    """The type in which the weights of a layer are stored, behind what reshapes and converts them."""
    while node.get_type_name() != "Constant" and node.get_input_size():
        node = node.input_value(0).get_node()
    return str(node.get_element_type().get_type_name())
