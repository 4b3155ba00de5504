"""Export a model to a file for other runtimes, with a manifest and its measured parity. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from gankit_export.precisions import PRECISIONS, Precision

from gankit.errors import BackendError, CheckpointError, OutputError, ParityError, UsageError
from gankit.models.facts import AtTest, Direction, Facts, Task
from gankit.pipeline.forks import check_process
from gankit.pipeline.source import FactsKeywords, ModelSource

if TYPE_CHECKING:
    import numpy as np
    from gankit_export.artefact import Source
    from gankit_export.manifest import Manifest

    from gankit.checkpoints import Loaded
    from gankit.pipeline.source import Model

Kind = Literal["onnx", "tensorrt"]
SUFFIXES: Mapping[Kind, str] = {"onnx": ".onnx", "tensorrt": ".engine"}
LEAST_DB = 45.0  # images differ visibly below it, so that a lower threshold is refused
_BF16_OPSET = 22
_OPSETS = (18, 23)


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
    kind: Kind = "onnx",
    task: Task | None = None,
    precision: Precision = "fp32",
    opset: int | None = None,
    threshold: float | None = None,
    parity_images: Sequence[str | Path] = (),
    overwrite: bool = False,
    direction: Direction | None = None,
    norm: AtTest | None = None,
    options: Mapping[str, Any] | None = None,
    shapes: str | None = None,
    device: str = "cuda",
    progress: Callable[[str, float], None] | None = None,
    facts: Facts | None = None,
    **stated: Unpack[FactsKeywords],
) -> Exported:
    """Export a model with a manifest beside the file, and check the parity of the file with the fp32 model.

    In an ONNX file, batch size, height and width of images stay dynamic; height and width must be multiples of the
    model's size multiple. A model that generates from noise has a dynamic batch size. ``metadata_props`` of the file
    say what it is; see :meth:`gankit_export.artefact.Source.described`. A TensorRT engine takes the shapes for which it
    is built, and runs on this kind of GPU with this version of TensorRT only.

    Args:
        model: a registry name, a weights file, an open model, or an ``nn.Module`` of your own.
        output: a file that ends in ``.onnx`` (``.engine`` for TensorRT), or a folder; ``None`` writes
            ``NAME_xSCALE_PRECISION.onnx`` to the current folder.
        kind: ``"onnx"`` or ``"tensorrt"``.
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
        shapes: shapes of a TensorRT engine: ``"1x256x256"`` (batch, height, width), or the smallest, the best and the
            largest with commas between them. ``None`` builds one static tile of 256×256. For a model that generates
            from noise, a batch such as ``"64"``.
        device: GPU for which a TensorRT engine is built.
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
    _check_kind(kind, opset, shapes)
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
    _check(loaded.facts, name, precision, parity_images)
    suffix = SUFFIXES[kind]
    default = _default_name(name, loaded, direction, precision) + suffix
    path = _output_path(None if output is None else str(output), default, suffix)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: ONNX needs a file name that is valid UTF-8; use another --output") from None
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: already exists; use --overwrite to replace it")
    try:
        if kind == "tensorrt":
            manifest = _write_engine(loaded, path, precision, shapes, device, threshold, parity_images, progress)
        else:
            manifest = _write(loaded, path, precision, opset, threshold, parity_images)
    except ParityFailedError as error:
        raise ExportParityError(f"{path}: not written: {error}; use another --precision", error.manifest) from error
    except (ExportError, RangeError) as error:
        raise BackendError(f"{name}: {error}") from error
    except ImportError as error:
        package = error.name or "onnxruntime"
        raise BackendError(f"{package} is required but not installed: pip install {package}") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Exported(path, manifest)


def _check_kind(kind: Kind, opset: int | None, shapes: str | None) -> None:
    if kind not in SUFFIXES:
        raise UsageError(f"unknown format '{kind}'; choose from {', '.join(SUFFIXES)}")
    if kind == "onnx" and shapes is not None:
        raise UsageError("an ONNX file takes every shape; use --shapes with --format tensorrt only")
    if kind == "tensorrt" and opset is not None:
        raise UsageError("a TensorRT engine has no opset; use --opset with --format onnx only")


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


def _check(facts: Facts, name: str, precision: Precision, parity_images: Sequence[str | Path]) -> None:
    if facts.task == "generate" and parity_images:
        raise UsageError(f"'{name}' generates from noise, which the parity check uses as well; omit --parity-images")
    if facts.task != "generate" and facts.channels not in (1, 3):
        raise UsageError(f"'{name}' takes {facts.channels} channels, but the parity check needs 1 or 3, as in images")
    if precision not in facts.precisions:
        raise UsageError(f"'{name}' does not run in {precision}; use --precision {' or '.join(facts.precisions)}")


def _write(
    loaded: Loaded,
    path: Path,
    precision: Precision,
    opset: int | None,
    threshold: float | None,
    parity_images: Sequence[str | Path],
) -> Manifest:
    from gankit_export.artefact import make_latent_onnx, make_onnx
    from gankit_export.parity import samples

    facts, source = loaded.facts, _source(loaded)
    if facts.task == "generate":
        return make_latent_onnx(loaded.generator, source, path, precision=precision, opset=opset, threshold=threshold)
    images = _images(parity_images)
    batches = samples(
        [pixels for _, pixels in images],
        channels=facts.channels,
        multiple=facts.multiple,
        minimum=facts.minimum,
        value_range=facts.value_range,
    )
    return make_onnx(
        loaded.generator,
        source,
        path,
        batches,
        precision=precision,
        opset=opset,
        threshold=threshold,
        images=[name for name, _ in images],
    )


def _write_engine(
    loaded: Loaded,
    path: Path,
    precision: Precision,
    shapes: str | None,
    device: str,
    threshold: float | None,
    parity_images: Sequence[str | Path],
    progress: Callable[[str, float], None] | None,
) -> Manifest:
    from gankit_export.tensorrt.artefact import make_engine
    from gankit_export.tensorrt.library import TensorRTError

    from gankit.backends.choice.export import engine_gpu, engine_profile

    gpu, facts = engine_gpu(device), loaded.facts
    profile = engine_profile(facts, shapes)
    images = [] if facts.task == "generate" else _images(parity_images)
    try:
        return make_engine(
            loaded.generator,
            _source(loaded),
            path,
            [profile],
            gpu=gpu,
            pixels=[pixels for _, pixels in images],
            names=[name for name, _ in images],
            precision=precision,
            threshold=threshold,
            progress=progress,
        )
    except TensorRTError as error:
        raise BackendError(f"{loaded.facts.name}: {error}") from error


def _source(loaded: Loaded) -> Source:
    from gankit_export.artefact import Source

    from gankit.version import __version__

    facts = loaded.facts
    return Source(
        model=facts.name,
        weights=loaded.path.name,
        weights_sha256=loaded.sha256,
        options=facts.options,
        scale=facts.scale,
        channels=facts.channels,
        multiple=facts.multiple,
        value_range=facts.value_range,
        versions={"gankit": __version__},
        minimum=facts.minimum,
        latent=facts.latent,
        classes=facts.classes,
        metadata=_metadata(loaded),
    )


def _metadata(loaded: Loaded) -> dict[str, str]:
    """Return what the file says about itself beside the facts of gankit_export: task, input and licence."""
    from gankit.checkpoints.shipped import card_of, installed

    facts = loaded.facts
    found: dict[str, str] = {"task": facts.task}
    if facts.input_kind != "image":
        found["input_kind"] = facts.input_kind
    if facts.labels:
        found["labels"] = json.dumps(facts.labels)
    if facts.out_channels is not None:
        found["out_channels"] = str(facts.out_channels)
    if loaded.path == installed(loaded.path.stem):  # the weights ship, so that there is a card
        found["licence"] = str(card_of(loaded.path).get("licence", ""))
    return {name: value for name, value in found.items() if value}


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
    if path.is_dir() or output.endswith("/") or not path.suffix:
        return path / default_name
    if path.suffix != suffix:
        raise UsageError(f"{path}: the file name must end in {suffix}")
    return path


def _images(paths: Sequence[str | Path]) -> list[tuple[str, np.ndarray]]:
    """Read the user's images, or the one that ships with gankit; return file names and pixels."""
    from importlib.resources import as_file, files

    from gankit.images import decode

    if paths:
        return [(Path(path).name, decode(Path(path)).pixels) for path in paths]
    with as_file(files("gankit.weights") / "parity.png") as shipped:
        if not shipped.is_file():
            raise CheckpointError(f"{shipped}: no such file; reinstall gankit, or use --parity-images")
        return [(shipped.name, decode(shipped).pixels)]
