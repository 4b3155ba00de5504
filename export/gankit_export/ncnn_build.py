"""nn.Module -> ncnn model, through ONNX and pnnx."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from gankit_export import manifest as manifests
from gankit_export.artefact import Source, judged
from gankit_export.manifest import Manifest
from gankit_export.ncnn_net import NcnnError, NcnnNet
from gankit_export.onnx import ExportError, default_opset, dims
from gankit_export.parity import Batch
from gankit_export.precisions import Precision
from gankit_export.preparing import prepare, with_half_weights
from gankit_export.publishing import drafts, publish

_SECONDS = 600  # for the converter
_LAYERS = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")
_PRODUCTS = ("InnerProduct", "Gemm", "MatMul")


def make_ncnn(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    batches: Sequence[Batch] = (),
    *,
    precision: Precision = "fp32",
    threshold: float | None = None,
    images: Sequence[str] = (),
) -> Manifest:
    """Write an ncnn model and its manifest; all files are there and proven, or none is.

    An fp16 model stores its weights in fp16, which halves it. ncnn computes in fp32 for the comparison; elsewhere its
    options decide.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the ``.param`` file; replaced if there. The weights go to the ``.bin`` file of the same name.
        batches: real images, as in :func:`gankit_export.artefact.make_onnx`.
        precision: of the weights, fp32 or fp16.
        threshold: PSNR in dB that each shape has to reach; ``None`` for ``THRESHOLDS``.
        images: names of the images that the batches were cut from, for the manifest.

    Raises:
        ParityFailedError, ExportError, RangeError, ImportError, OSError: As :func:`gankit_export.artefact.make_onnx`.
    """
    path, half = Path(path), precision == "fp16"
    converter()  # before minutes of work
    shapes = input_shapes(source)
    prepared = prepare(generator, source, batches, "fp32")
    with drafts(path.parent) as folder:
        model, draft = folder / "model.onnx", folder / path.name
        prepared.write_onnx(model, default_opset("fp32"))
        convert(model, draft, shapes, half=half)
        try:
            net = NcnnNet(draft)
            if half:
                prepared = with_half_weights(prepared)
            figures = prepared.measured(net)
            net.close()
        except (NcnnError, ValueError) as error:  # a shape that is not the module's
            raise ExportError(f"ncnn does not run the converted model: {error}") from error
        weights = draft.with_suffix(".bin")
        every = count_layers(draft, _LAYERS + (_PRODUCTS if source.latent else ()))
        manifest = judged(
            prepared,
            figures,
            precision,
            threshold,
            opset=default_opset("fp32"),
            dims=dims(model),
            sha256=manifests.sha256(draft),
            half_convolutions=(every if half else 0, every),
            runtime="ncnn",
            versions={**source.versions, **manifests.versions("torch", "onnx", "onnxscript", "pnnx", "ncnn")},
            images=tuple(images),
            kind="ncnn",
            files={weights.name: manifests.sha256(weights)},
        )
        publish(draft, [weights], manifest, path)
    return manifest


def converter() -> Path:
    """Return the program that converts ONNX to ncnn.

    Raises:
        ImportError: pnnx is not installed; ``name`` is the package.
    """
    spec = find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'pnnx'", name="pnnx")
    return Path(spec.origin).with_name("pnnx.exe" if sys.platform == "win32" else "pnnx")


def input_shapes(source: Source) -> list[str]:
    """Return examples of the inputs in pnnx's words. Where two differ, it keeps the model dynamic.

    Raises:
        ExportError: The generator takes classes, for which ncnn has no layer.
    """
    if source.classes:
        raise ExportError("ncnn has no layer that looks up a class; use --format onnx or openvino")
    if source.latent:
        return [f"inputshape=[1,{source.latent}]f32"]
    unit = -(-max(16, source.minimum) // source.multiple) * source.multiple
    first, second = ((3 * unit, 4 * unit), (4 * unit, 5 * unit))
    return [
        f"{name}=[1,{source.channels},{height},{width}]f32"
        for name, (height, width) in (("inputshape", first), ("inputshape2", second))
    ]


def convert(model: Path, param: Path, shapes: Sequence[str], *, half: bool = False) -> None:
    """Convert an ONNX file to an ncnn model.

    Args:
        model: the fp32 file, in a folder of its own, where pnnx leaves files of other kinds.
        param: the ``.param`` file to write, with the ``.bin`` file beside it.
        shapes: see :func:`input_shapes`.
        half: whether to store the weights in fp16.

    Raises:
        ExportError: pnnx fails, or leaves a layer that ncnn does not have.
        ImportError: pnnx is not installed.
    """
    model, param = model.absolute(), param.absolute()
    targets = [f"ncnnparam={param}", f"ncnnbin={param.with_suffix('.bin')}", f"fp16={int(half)}"]
    command = [str(converter()), str(model), *shapes, *targets]
    try:
        done = subprocess.run(command, cwd=model.parent, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"pnnx did not finish in {_SECONDS} s") from error
    text = (done.stderr + done.stdout).decode("utf-8", "replace")
    if done.returncode or not param.is_file():
        lines = [line.strip() for line in text.splitlines() if "fail" in line.lower() or "error" in line.lower()]
        raise ExportError(f"pnnx cannot convert the model: {(lines or [f'status {done.returncode}'])[0][:200]}")
    if unknown := foreign_layers(param):
        raise ExportError(f"ncnn has no layer {unknown[0]}, which this model needs")


def foreign_layers(param: Path) -> list[str]:
    """Return the layer types of a model that ncnn does not have; pnnx leaves them with a dot in their names."""
    return [kind for kind in _kinds(param) if "." in kind or "::" in kind or kind.startswith("aten")]


def count_layers(param: Path, kinds: Sequence[str]) -> int:
    """Count the layers of some types in a ``.param`` file."""
    return sum(kind in kinds for kind in _kinds(param))


def _kinds(param: Path) -> list[str]:
    lines = param.read_text(encoding="utf-8").splitlines()[2:]
    return [line.split()[0] for line in lines if line.strip()]
