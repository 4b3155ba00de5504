"""Export a model to a file for other runtimes, with a manifest and its measured parity. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gankit_export.formats import FORMATS, IN_OUT, Format, InOut, formats_of, formats_with
from gankit_export.precisions import PRECISIONS, Precision

from gankit.errors import BackendError, OutputError, ParityError, UsageError
from gankit.models.facts import AtTest, Direction, Facts, Task
from gankit.pipeline.export_writers import Job, write
from gankit.pipeline.forks import check_process
from gankit.pipeline.source import FactsKeywords, ModelSource

if TYPE_CHECKING:
    from gankit_export.manifest import Manifest
    from gankit_export.tritonserver import Serving

    from gankit.checkpoints import Loaded
    from gankit.pipeline.source import Model

LEAST_DB = 45.0  # images differ visibly below it, so that a lower threshold is refused
_BF16_OPSET = 22
_OPSETS = (18, 23)
_DEVICES: Mapping[Format, str] = {"tensorrt": "cuda", "aoti": "cpu", "tritonserver": "cuda"}
_PACKAGES = {"ncnn": "pip install 'gankit[ncnn]'", "pnnx": "pip install 'gankit[ncnn]'"}


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file. Its manifest is beside it.
        manifest: the description of the file, with its measured parity.
    """

    path: Path
    manifest: Manifest


class ExportParityError(ParityError):
    """The exported file failed the parity check and was deleted.

    Attributes:
        manifest: the description of the file, with its measured parity.
    """

    def __init__(self, message: str, manifest: Manifest) -> None:
        self.manifest = manifest
        super().__init__(message)


def export(
    model: Model,
    output: str | Path | None = None,
    *,
    kind: Format = "onnx",
    task: Task | None = None,
    precision: Precision = "fp32",
    opset: int | None = None,
    threshold: float | None = None,
    parity_images: Sequence[str | Path] = (),
    overwrite: bool = False,
    direction: Direction | None = None,
    norm: AtTest | None = None,
    options: Mapping[str, Any] | None = None,
    in_out: InOut = "float32",
    shapes: str | None = None,
    device: str | None = None,
    serving: Serving | None = None,
    progress: Callable[[str, float], None] | None = None,
    facts: Facts | None = None,
    **stated: Unpack[FactsKeywords],
) -> Exported:
    """Export a model with a manifest beside the file, and check the parity of the file with the fp32 model.

    In an ONNX file, batch size, height and width of images stay dynamic; height and width must be multiples of the
    model's size multiple. A model that generates from noise has a dynamic batch size. ``metadata_props`` of the file
    say what it is; see :meth:`gankit_export.artefact.Source.described`. A TensorRT engine takes the shapes for which it
    is built, and runs on this kind of GPU with this version of TensorRT only. An AOTInductor package runs on processors
    with the instructions of this one, with this version of torch only.

    Args:
        model: a registry name, a weights file, an open model, or an ``nn.Module`` of your own.
        output: a file with the suffix of the format, or a folder; ``None`` writes ``NAME_xSCALE_PRECISION.onnx`` (or
            the suffix of the format) to the current folder. A Triton model repository is itself a folder.
        kind: ``"onnx"``, ``"tensorrt"``, ``"openvino"``, ``"aoti"``, ``"ncnn"`` or ``"tritonserver"``.
        task: task of your own module, unless ``facts``, ``scale`` (an upscaler) or ``latent`` (a sampler)
            states it.
        precision: arithmetic precision of the exported model.
        opset: ONNX opset version, 18 to 23; ``None`` uses the lowest one that the precision needs.
        threshold: lowest accepted parity in dB, at least 45; ``None`` uses the default of the precision.
        parity_images: image files for the parity check; if empty, an image that ships with gankit.
        overwrite: whether to replace an existing file.
        direction: generator to export from a pair; see :func:`gankit.checkpoints.open_model`.
        norm: statistics that BatchNorm uses; see :func:`gankit.checkpoints.open_model`.
        options: options of the model; see :func:`gankit.checkpoints.open_model`.
        in_out: ``"uint8"`` for a file that takes and gives uint8 pixels, NHWC, with scaling, layout, clamp and rounding
            inside; ``"float32"`` for values in the range of the model, NCHW.
        shapes: shapes of a TensorRT engine: ``"1x256x256"`` (batch, height, width), or the smallest, the best and the
            largest with commas between them. ``None`` builds one static tile of 256×256. For a model that generates
            from noise, a batch such as ``"64"``. An AOTInductor package takes one shape, or any with ``None``.
        device: device for which a TensorRT engine or an AOTInductor package is made, or on which the Triton Inference
            Server runs; ``None`` for a GPU, or the CPU for AOTInductor.
        serving: how the Triton Inference Server runs the model; ``None`` for the defaults.
        progress: called with a phase and the fraction that is done while a TensorRT engine is built.
        facts: facts of your own module.
        stated: facts of your own module as keywords; see :class:`gankit.pipeline.images.ImagePipeline`.

    Returns:
        The file and its manifest.

    Raises:
        UsageError: If an option is wrong or the file exists.
        ExportParityError: If the file fails the parity check. It is deleted.
        BackendError: If the model cannot be exported or ONNX Runtime is not installed.
        CheckpointError, OutputError, ImageError: If a file cannot be read or written.
    """
    _check_format(kind, precision, opset, shapes, device, in_out, serving)
    _check_options(precision, opset, threshold, output, parity_images)
    if precision == "bf16" and opset is not None and opset < _BF16_OPSET:
        raise UsageError(f"--opset {opset}: bf16 convolutions need opset {_BF16_OPSET} or later")
    if threshold is not None and threshold < LEAST_DB:
        raise UsageError(f"the threshold must be at least {LEAST_DB:g} dB, not {threshold:g}")
    from gankit_export.artefact import ParityFailedError
    from gankit_export.onnx import ExportError
    from gankit_export.precision import RangeError

    check_process()
    loaded = ModelSource(model, task, direction, norm, options, facts, dict(stated)).open()
    name = loaded.facts.name if not isinstance(model, str | Path) else str(model)
    _check(loaded, name, precision, parity_images, in_out)
    suffix = FORMATS[kind].suffix
    default = _default_name(name, loaded, direction, precision) + (suffix or f"_{kind}")
    path = _output_path(None if output is None else str(output), default, suffix)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: ONNX needs a file name that is valid UTF-8; use another --output") from None
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: already exists; use --overwrite to replace it")
    if not suffix and path.exists() and not _is_repository(path):
        raise UsageError(f"{path}: is no model repository, so that it is not replaced; use another --output")
    device = device or _DEVICES.get(kind, "cpu")
    own = opset, threshold, parity_images, in_out, shapes, device, serving, progress
    try:
        manifest = write(kind, Job(loaded, path, precision, *own))
    except ParityFailedError as error:
        raise ExportParityError(f"{path}: not written: {error}; use another --precision", error.manifest) from error
    except (ExportError, RangeError) as error:
        raise BackendError(f"{name}: {error}") from error
    except ImportError as error:
        package = error.name or "onnxruntime"
        advice = _PACKAGES.get(package, f"pip install {package}")
        raise BackendError(f"{package} is required but not installed: {advice}") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Exported(path, manifest)


def _check_format(
    kind: Format,
    precision: Any,
    opset: int | None,
    shapes: str | None,
    device: str | None,
    in_out: InOut,
    serving: Serving | None,
) -> None:
    """Check that a format has the options that were chosen.

    Raises:
        UsageError: If it has not.
    """
    if kind not in FORMATS:
        raise UsageError(f"unknown format '{kind}'; choose from {', '.join(FORMATS)}")
    facts, engine = FORMATS[kind], kind == "tritonserver" and serving is not None and serving.backend == "tensorrt"
    if in_out not in IN_OUT:
        raise UsageError(f"in_out must be {' or '.join(IN_OUT)}, not {in_out!r}")
    if shapes is not None and not (facts.shapes or engine):
        raise UsageError(f"{facts.title} takes every shape; use --shapes with --format {formats_with('shapes')} only")
    if opset is not None and (not facts.opset or engine):
        raise UsageError(f"{facts.title} has no opset; use --opset with --format {formats_with('opset')} only")
    if device is not None and not facts.device:
        raise UsageError(f"{facts.title} is not made for a device; use --device with {formats_with('device')} only")
    if serving is not None and kind != "tritonserver":
        raise UsageError("serving applies to --format tritonserver only")
    if in_out not in facts.in_out:
        why = f"{facts.title} takes and gives float32 only"
        raise UsageError(f"--io {in_out} is not available: {why}; use --format {formats_of(in_out)}")
    if isinstance(precision, str) and precision in PRECISIONS and precision not in facts.precisions and not engine:
        raise UsageError(f"{facts.title} cannot be {precision}; use --precision {' or '.join(facts.precisions)}")


def _is_repository(path: Path) -> bool:
    """Whether a folder is empty or a model repository of one model, so that replacing it loses nothing else."""
    if not path.is_dir():
        return False
    found = list(path.iterdir())
    return not found or (len(found) == 1 and (found[0] / "config.pbtxt").is_file())


def _check_options(precision: Any, opset: Any, threshold: Any, output: Any, parity_images: Any) -> None:
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise UsageError(f"precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, not {precision!r}")
    if opset is not None and (type(opset) is not int or not _OPSETS[0] <= opset <= _OPSETS[1]):
        raise UsageError(f"opset must be from {_OPSETS[0]} to {_OPSETS[1]}, not {opset!r}")
    if threshold is not None and (not isinstance(threshold, int | float) or threshold != threshold):
        raise UsageError(f"threshold must be a number of dB, not {threshold!r}")
    if output is not None and not isinstance(output, str | Path):
        raise UsageError(f"output must be a path, not {output!r}")
    if not isinstance(parity_images, list | tuple) or not all(isinstance(path, str | Path) for path in parity_images):
        raise UsageError(f"parity_images must be a list of paths, not {parity_images!r}")


def _check(loaded: Loaded, name: str, precision: Precision, parity_images: Sequence[str | Path], in_out: InOut) -> None:
    from gankit.checkpoints.exported import ExportedModule

    facts = loaded.facts
    if isinstance(loaded.generator, ExportedModule):
        raise UsageError(f"{name}: is an exported file already; use the weights from which it was exported")
    if facts.task == "generate" and parity_images:
        raise UsageError(f"'{name}' generates from noise, which the parity check uses as well; omit --parity-images")
    if facts.task != "generate" and facts.channels not in (1, 3):
        raise UsageError(f"'{name}' takes {facts.channels} channels, but the parity check needs 1 or 3, as in images")
    if precision not in facts.precisions:
        raise UsageError(f"'{name}' does not run in {precision}; use --precision {' or '.join(facts.precisions)}")
    if in_out == "uint8" and facts.out_channels not in (None, 1, 3):
        raise UsageError(f"'{name}' returns {facts.out_channels} channels, which are no pixels; omit --io uint8")


def _default_name(name: str, loaded: Loaded, direction: Direction | None, precision: Precision) -> str:
    """Make a name such as ``mine_x4_fp16``, with the scale of an upscaler and the direction of a pair."""
    given = Path(name)
    stem = loaded.path.stem if given.is_file() and name != loaded.facts.name else loaded.facts.name
    scale = f"x{loaded.facts.scale}" if loaded.facts.task == "upscale" else ""
    side = direction if direction and loaded.path == given else ""
    return "_".join(part for part in (stem, side, scale, precision) if part)


def _output_path(output: str | None, default_name: str, suffix: str) -> Path:
    """Return the file to write. An existing folder, or a path without an extension, gets the default name."""
    if output is None:
        return Path(default_name)
    path = Path(output)
    if not suffix:
        return path  # the folder itself
    if path.is_dir() or output.endswith("/") or not path.suffix:
        return path / default_name
    if path.suffix != suffix:
        raise UsageError(f"{path}: the file name must end in {suffix}")
    return path
