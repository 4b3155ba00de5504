"""nn.Module -> AOTInductor package, for images or latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from gankit_export import manifest as manifests
from gankit_export.aoti import Axis, Input, Needs, Package, PackageError, capability, package_metadata, plain_version
from gankit_export.artefact import Source, judged
from gankit_export.formats import INPUT, OUTPUT, InOut
from gankit_export.latent import CLASSES, LATENTS
from gankit_export.manifest import Manifest
from gankit_export.messages import first_line
from gankit_export.onnx import ExportError, example_images, interrupted, quiet
from gankit_export.parity import Batch
from gankit_export.precisions import Precision
from gankit_export.preparing import prepare
from gankit_export.publishing import drafts, publish
from gankit_export.tracing import ONE_AT_A_TIME

_LARGEST_BATCH, _LARGEST_SIDE, _MOST_SAMPLES = 1024, 16384, 1 << 20
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d)
_HALF = (torch.float16, torch.bfloat16)
_NAMES = ("batch", "channels", "height", "width")


def make_package(
    generator: nn.Module,
    source: Source,
    path: Path | str,
    batches: Sequence[Batch] = (),
    *,
    precision: Precision = "fp32",
    threshold: float | None = None,
    images: Sequence[str] = (),
    shape: tuple[int, int, int] | None = None,
    device: str = "cpu",
    in_out: InOut = "float32",
) -> Manifest:
    """Write an AOTInductor package and its manifest; both are there and proven, or what was there before is untouched.

    Args:
        generator: fp32, eval mode, on the CPU.
        source: its facts.
        path: the ``.pt2`` file; replaced if there.
        batches: real images, as in :func:`gankit_export.artefact.make_onnx`, of the static shape if there is one.
        precision: of everything but normalisations.
        threshold: PSNR in dB that each shape has to reach; ``None`` for ``THRESHOLDS``.
        images: names of the images that the batches were cut from, for the manifest.
        shape: batch, height and width of a static package; ``None`` for a dynamic one.
        device: for which it is compiled, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        in_out: what the package takes and gives: float32 in every precision, or uint8 pixels.

    Raises:
        ParityFailedError: it does not reach the threshold.
        ExportError: the generator cannot be compiled.
        RangeError: a weight is too large for the precision.
        OSError: the files cannot be written.
    """
    path = Path(path)
    prepared = prepare(generator, source, batches, precision, in_out=in_out)
    inputs = package_inputs(source.channels, source.multiple, source.latent, source.classes, shape, in_out)
    with drafts(path.parent) as folder:
        draft = folder / path.name
        needs = compile_package(prepared.module.to(device), draft, inputs, source.classes)
        try:
            package = Package(draft, needs, device)
        except PackageError as error:
            raise ExportError(f"the package {error}") from error
        figures = prepared.measured(on_arrays(package))
        made = package(*(item.to(device) for item in _examples(inputs, source.classes)))
        prepared.module.to("cpu")
        manifest = judged(
            prepared,
            figures,
            precision,
            threshold,
            opset=0,
            dims=_dims(inputs, made, source.scale),
            sha256=manifests.sha256(draft),
            half_convolutions=half_layers(prepared.module, latents=source.latent > 0),
            runtime="aoti",
            versions={
                **source.versions,
                **manifests.versions("torch", "triton" if needs.device == "cuda" else "torch"),
            },
            images=tuple(images),
            kind="aoti",
            engine=needs.to_json(),
        )
        publish(draft, [], manifest, path)
    return manifest


def package_inputs(
    channels: int,
    multiple: int,
    latent: int = 0,
    classes: int = 0,
    shape: tuple[int, int, int] | None = None,
    in_out: InOut = "float32",
) -> tuple[Input, ...]:
    """Describe what the package of a generator takes: latents if ``latent`` is not 0, else images.

    Args:
        channels: of the images.
        multiple: input sides must be a multiple of this.
        latent: numbers in one latent.
        classes: that it takes beside the latent.
        shape: batch, height and width of a static package; ``None`` for any.
        in_out: what the images are.
    """
    return latent_inputs(latent, classes) if latent else (image_input(channels, multiple, shape, in_out),)


def half_layers(module: nn.Module, *, latents: bool = False) -> tuple[int, int]:
    """Count the convolutions (of a generator of latents also linear layers) with narrow weights, and all."""
    layers = [item for item in module.modules() if isinstance(item, (*_LAYERS, *((nn.Linear,) if latents else ())))]
    return sum(item.weight.dtype in _HALF for item in layers), len(layers)


def on_arrays(package: Package) -> Callable[..., Batch]:
    """Return a function that runs a package on arrays."""

    def run(*given: NDArray[Any]) -> Batch:
        with torch.inference_mode():
            made = package(*(torch.from_numpy(item).to(package.device).contiguous() for item in given))
            array: Batch = (made if made.dtype == torch.uint8 else made.float()).cpu().numpy()
        return array

    return run


def image_input(
    channels: int, multiple: int, shape: tuple[int, int, int] | None = None, in_out: InOut = "float32"
) -> Input:
    """Describe a batch of images.

    Args:
        channels: of the images.
        multiple: sides must be a multiple of this.
        shape: batch, height and width of a static package; ``None`` for any.
        in_out: what they are.
    """
    if shape is not None:
        batch, height, width = ((size, size, 1) for size in shape)
    else:
        batch = (1, _LARGEST_BATCH, 1)
        height = width = (multiple, _LARGEST_SIDE // multiple * multiple, multiple)
    colours = (channels, channels, 1)
    if in_out == "uint8":
        return Input(INPUT, in_out, (batch, height, width, colours))
    return Input(INPUT, in_out, (batch, colours, height, width))


def latent_inputs(latent: int, classes: int) -> tuple[Input, ...]:
    """Describe a batch of latents and, if there are any, of classes."""
    batch = (1, _MOST_SAMPLES, 1)
    latents = Input(LATENTS, "float32", (batch, (latent, latent, 1)))
    return (latents, Input(CLASSES, "int64", (batch,))) if classes else (latents,)


def compile_package(module: nn.Module, path: Path, inputs: Sequence[Input], classes: int = 0) -> Needs:
    """Compile a module on its device to a package.

    Args:
        module: in eval mode, in its final precision, on a CPU or a GPU. It takes contiguous tensors.
        path: the ``.pt2`` file.
        inputs: what it takes. Axes whose smallest and largest size differ are dynamic.
        classes: from which classes are chosen, for the example.

    Returns:
        What the package needs.

    Raises:
        ExportError: The module cannot be exported or compiled.
    """
    example = next((item for item in [*module.parameters(), *module.buffers()]), torch.zeros(()))
    device = example.device
    given, free = zip(*(_example(item, classes) for item in inputs), strict=True)
    # Freezing folds the weights into the code. AOTInductor does it without gradients only, and only for a CPU.
    settings = {"freezing": True} if device.type == "cpu" else {}
    try:
        with torch.no_grad(), quiet():
            tensors = tuple(item.to(device) for item in given)
            with ONE_AT_A_TIME:
                program = torch.export.export(module, tensors, dynamic_shapes=_shared(inputs, free), strict=False)
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except Exception as error:
        if interrupted(error):
            raise KeyboardInterrupt from error
        raise ExportError(f"{type(module).__name__} cannot be compiled: {first_line(error)}") from error
    metadata = package_metadata(path)
    return Needs(
        plain_version(torch.__version__),
        device.type,
        metadata.get("AOTI_MACHINE", ""),
        metadata.get("AOTI_CPU_ISA", ""),
        capability(str(device)) if device.type == "cuda" else "",
        tuple(inputs),
    )


def _examples(inputs: Sequence[Input], classes: int) -> tuple[Tensor, ...]:
    return tuple(_example(item, classes)[0] for item in inputs)


def _dims(inputs: Sequence[Input], made: Tensor, scale: int) -> dict[str, list[int | str]]:
    """Shapes of the inputs and the output; a dynamic axis is its name, as in an ONNX file."""
    names = _names(inputs[0])
    found: dict[str, list[int | str]] = {}
    for item in inputs:
        found[item.name] = [
            least if least == most else name if multiple == 1 else f"{multiple}*{name}"
            for (least, most, multiple), name in zip(item.axes, names, strict=False)
        ]
    free = [least != most for least, most, _ in inputs[0].axes]
    images = inputs[0].name == INPUT
    found[OUTPUT] = [int(size) for size in made.shape]
    for axis, name in enumerate(names if images else names[:1]):
        if free[axis]:
            found[OUTPUT][axis] = f"{scale}*{name}" if axis and scale > 1 else name
    return found


def _example(wanted: Input, classes: int) -> tuple[Tensor, dict[str, Axis]]:
    """Return an example of an input, and its free axes by number."""
    free = {str(axis): sizes for axis, sizes in enumerate(wanted.axes) if sizes[0] != sizes[1]}
    if wanted.name == INPUT and free:
        (channels, *_), multiple = wanted.axes[_names(wanted).index("channels")], max(axis[2] for axis in wanted.axes)
        unit = -(-16 // multiple) * multiple
        in_out: InOut = "uint8" if wanted.dtype == "uint8" else "float32"
        return example_images((3 * unit, 4 * unit), channels, multiple, in_out=in_out)[0], free
    shape = [sizes[0] if sizes[0] == sizes[1] else 3 for sizes in wanted.axes]
    if wanted.dtype == "int64":
        return torch.arange(shape[0]) % max(1, classes), free
    if wanted.dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8), free
    return torch.randn(shape), free


def _names(wanted: Input) -> tuple[str, ...]:
    """Name the axes of an input."""
    return ("batch", "height", "width", "channels") if wanted.dtype == "uint8" else _NAMES


def _shared(inputs: Sequence[Input], free: Sequence[dict[str, Axis]]) -> tuple[dict[int, Any], ...]:
    """Name the free axes for torch.export. The batch is one axis of all inputs."""
    made: dict[Any, Any] = {}
    result = []
    for wanted, axes in zip(inputs, free, strict=True):
        names = _names(wanted)
        own = {}
        for axis, (least, most, multiple) in axes.items():
            name = names[int(axis)]
            one = made.setdefault(
                (name, (least, most, multiple)), Dim(name, min=-(-least // multiple), max=most // multiple)
            )
            own[int(axis)] = one if multiple == 1 else multiple * one
        result.append(own)
    return tuple(result)
