"""Export a model in int8: the images, the benchmark and the file. Imports no torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gankit_export.formats import FORMATS, Format

from gankit.errors import BackendError, OutputError, ParityError, UsageError
from gankit.models.facts import AtTest, Direction, Facts
from gankit.pipeline.exporting import Exported, _default_name, _output_path
from gankit.pipeline.exporting import export as export_fp32
from gankit.pipeline.source import ModelSource

if TYPE_CHECKING:
    from gankit_export.int8 import Estimator, Material, Run
    from gankit_export.manifest import Manifest
    from gankit_export.parity import Batch

    from gankit.pipeline.source import Model

INT8_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "tensorrt")
MOST_IMAGES = 64  # of a calibration folder, spread over it
_CROP = 96  # pixels; calibration needs variety and not size
_HELD_OUT = 5  # of so many calibration images, one is for the comparison instead
_MOST_TESTS = 8
_SHIPPED_CROPS = 12


def export_int8(
    model: Model,
    output: str | Path | None = None,
    *,
    kind: Format = "onnx",
    calibration: str | Path | None = None,
    threshold: float | None = None,
    opset: int | None = None,
    overwrite: bool = False,
    direction: Direction | None = None,
    norm: AtTest | None = None,
    options: Mapping[str, Any] | None = None,
    shapes: str | None = None,
    device: str | None = None,
    progress: Callable[[str, float], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Exported:
    """Export an int8 file with a manifest, and compare its images with the fp32 ones.

    Args:
        model: a registry name, a weights file, or an open model. It must take images.
        output: a file with the suffix of the format, or a folder; ``None`` writes ``NAME_xSCALE_int8.onnx`` (or the
            suffix of the format) to the current folder.
        kind: ``"onnx"`` for Q/DQ nodes, ``"openvino"``, or ``"tensorrt"``, which needs a GPU.
        calibration: a folder of images like those that the file will get, of which 64 are used; ``None`` uses crops of
            the image that ships with gankit.
        threshold: lowest accepted parity of the worst image with fp32 in dB, at least 38; ``None`` for 38.
        opset: ONNX opset version; ``None`` for the lowest one.
        overwrite: whether to replace an existing file.
        direction: generator to export from a pair; see :func:`gankit.checkpoints.open_model`.
        norm: statistics that BatchNorm uses; see :func:`gankit.checkpoints.open_model`.
        options: options of the model; see :func:`gankit.checkpoints.open_model`.
        shapes: shapes of a TensorRT engine, as in :func:`gankit.pipeline.exporting.export`.
        device: GPU for which a TensorRT engine is made; ``None`` for the first.
        progress: called while a TensorRT engine is built.
        notify: called with a line for each attempt.

    Returns:
        The file and its manifest.

    Raises:
        UsageError: If an option is wrong, the model takes no images, or the file exists.
        ParityError: If int8 does not reach the gate. The message has the figures, and no file is left.
        BackendError: If the model cannot be exported, or NNCF or OpenVINO is not installed.
        CheckpointError, OutputError, ImageError: If a file cannot be read or written.
    """
    from gankit_export.int8 import GATE_DB, Int8RefusedError, make_int8
    from gankit_export.int8_formats import QuantisationError

    if threshold is not None and threshold < GATE_DB:
        raise UsageError(f"the threshold of int8 must be at least {GATE_DB:g} dB, not {threshold:g}")
    if kind not in INT8_FORMATS:
        raise UsageError(f"{FORMATS[kind].title} cannot be int8; use --int8 with --format {' or '.join(INT8_FORMATS)}")
    if kind != "tensorrt" and (shapes is not None or device is not None):
        raise UsageError(f"{FORMATS[kind].title} takes every shape on every CPU; omit --shapes and --device")
    loaded = ModelSource(model, None, direction, norm, options).open()
    name = loaded.facts.name if not isinstance(model, str | Path) else str(model)
    facts = loaded.facts
    if facts.task == "generate":
        raise UsageError(f"'{name}' generates from noise; int8 is for models that take images, so omit --int8")
    default = _default_name(name, loaded, direction, "fp32").removesuffix("fp32") + "int8"
    suffix = FORMATS[kind].suffix
    path = _output_path(None if output is None else str(output), default + suffix, suffix)
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: already exists; use --overwrite to replace it")
    check_packages()  # before minutes of work
    try:
        target = _Target(kind, facts, shapes, device or "cuda", progress)
        target.check()
        images = material(facts, calibration)
        with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
            exact = export_fp32(loaded, Path(folder) / "fp32.onnx", opset=opset, direction=direction)
            make = partial(make_int8, threshold=threshold or GATE_DB, estimators=target.estimators, progress=notify)
            if kind == "onnx":
                manifest = make(exact.path, path, images)
            else:
                quantised = Path(folder) / "int8.onnx"
                make(exact.path, quantised, images)
                manifest = target.convert(quantised, exact.path, path, images)
    except QuantisationError as error:
        raise BackendError(f"{path}: not written: {error}") from error
    except Int8RefusedError as error:
        raise ParityError(f"{path}: not written: {error}; use --bf16, --fp16 or --fp32") from error
    except ImportError as error:
        raise _not_installed(error) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Exported(path, manifest)


def check_packages() -> None:
    """Check that the packages are installed that quantise a model.

    Raises:
        BackendError: If one is missing. The message has the command that installs it.
    """
    from gankit_export.int8 import nncf

    try:
        nncf()
    except ImportError as error:
        raise _not_installed(error) from error


def _not_installed(error: ImportError) -> BackendError:
    return BackendError(f"{error.name or 'nncf'} is required but not installed: pip install 'gankit[int8]'")


@dataclass(frozen=True)
class _Target:
    """The format that an int8 file is converted to.

    Attributes:
        kind: the format.
        facts: facts of the model.
        shapes: shapes of a TensorRT engine.
        device: GPU for which it is made.
        progress: called while it is built.
    """

    kind: Format
    facts: Facts
    shapes: str | None
    device: str
    progress: Callable[[str, float], None] | None

    @property
    def estimators(self) -> Sequence[Estimator]:
        """The estimators whose files the format can hold."""
        from gankit_export.int8 import ESTIMATORS, SIGNED

        return SIGNED if self.kind == "tensorrt" else ESTIMATORS

    def check(self) -> None:
        """Check that the format can be written here, before minutes of work.

        Raises:
            UsageError, BackendError: If the shapes are wrong, or there is no GPU or no TensorRT.
        """
        if self.kind == "tensorrt":
            from gankit.backends.choice.export import engine_gpu, engine_profile

            engine_gpu(self.device)
            engine_profile(self.facts, self.shapes)

    def convert(self, source: Path, exact: Path, path: Path, images: Material) -> Manifest:
        """Convert an int8 ONNX file.

        Args:
            source: the int8 file.
            exact: the fp32 file.
            path: the file to write.
            images: those of the comparison.

        Raises:
            Int8RefusedError, QuantisationError, BackendError, OSError: If it cannot be written or fails the gate.
        """
        from gankit_export.int8_formats import make_int8_engine, make_int8_ir

        if self.kind == "openvino":
            return make_int8_ir(source, exact, path, images)
        from gankit_export.tensorrt.library import TensorRTError

        from gankit.backends.choice.export import engine_gpu, engine_profile

        gpu, profiles = engine_gpu(self.device), [engine_profile(self.facts, self.shapes)]
        try:
            return make_int8_engine(source, exact, path, profiles, images, gpu=gpu, progress=self.progress)
        except TensorRTError as error:
            raise BackendError(f"{self.facts.name}: {error}") from error


def material(facts: Facts, calibration: str | Path | None) -> Material:
    """Choose the images for calibration and for the comparison.

    Of a folder, every fifth image is not used for calibration but for the comparison, which also runs the image that
    ships with gankit, and flat and nearly flat ones.

    Raises:
        UsageError, ImageError: If the folder has no images, or one cannot be read.
    """
    from gankit_export.int8 import Material
    from gankit_export.parity import cut, samples

    from gankit.backends.choice.synthetic import synthetic_images

    low, high = facts.value_range
    kinds: dict[str, Any] = {"channels": facts.channels, "value_range": facts.value_range}
    sides: dict[str, Any] = {"multiple": facts.multiple, "minimum": facts.minimum}
    side = -(-max(_CROP, facts.minimum) // facts.multiple) * facts.multiple
    shipped = _shipped()
    test: list[Batch] = samples([shipped], **kinds, **sides)
    flat = synthetic_images(facts.channels, **sides).values()
    test += [np.ascontiguousarray(image.numpy() * (high - low) + low, np.float32) for image in flat]
    if calibration is None:
        return Material([cut(crop, (side, side), **kinds) for crop in _crops(shipped)], test, [], _benchmark(facts))
    files, pixels = _folder(Path(calibration))
    held = [index for index in range(len(files)) if index % _HELD_OUT == _HELD_OUT - 1][:_MOST_TESTS]
    test += [cut(pixels[index], (side, side), **kinds) for index in held]
    used = [index for index in range(len(files)) if index not in held]
    names = [files[index].name for index in used]
    return Material([cut(pixels[index], (side, side), **kinds) for index in used], test, names, _benchmark(facts))


def _shipped() -> np.ndarray:
    """Return the image that ships with gankit."""
    from importlib.resources import as_file, files

    from gankit.images import decode

    with as_file(files("gankit.weights") / "parity.png") as path:
        return decode(path).pixels


def _crops(pixels: np.ndarray) -> list[np.ndarray]:
    """Return overlapping crops of an image, every other one mirrored or darker, for more variety."""
    height, width = pixels.shape[:2]
    side = min(height, width, 2 * _CROP) // 2
    columns = np.linspace(0, width - side, 4).astype(int)
    rows = np.linspace(0, height - side, 3).astype(int)
    found = []
    for index, (top, left) in enumerate((top, left) for top in rows for left in columns):
        crop = pixels[top : top + side, left : left + side]
        if index % 4 == 1:
            crop = crop[:, ::-1]
        if index % 4 == 3:
            crop = crop // 2
        found.append(crop)
    return found[:_SHIPPED_CROPS]


def calibration_files(folder: Path) -> list[Path]:
    """List the images of a folder that calibrate a model: 64, spread over it.

    Raises:
        UsageError: If there is no such folder.
        ImageError: If it has no images.
    """
    from gankit.datasets.folders import image_files

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give a folder of images to --calibration")
    files = image_files(folder)
    return [files[int(index)] for index in np.linspace(0, len(files) - 1, min(MOST_IMAGES, len(files)))]


def _folder(folder: Path) -> tuple[list[Path], list[np.ndarray]]:
    from gankit.datasets.folders import read_image

    chosen = calibration_files(folder)
    return chosen, [read_image(path).pixels for path in chosen]


def _benchmark(facts: Facts) -> Callable[[Run], float] | None:
    """Return the function that measures a file on Set5; ``None`` if the data folder does not have it at this scale."""
    from gankit.evaluation.benchmark import evaluate_pairs

    folder = Path(os.environ.get("GANKIT_DATA", "")) / "benchmarks" / "Set5" / f"x{facts.scale}"
    large, small = folder / "HR", folder / "LR"
    if facts.task != "upscale" or facts.channels != 3 or not (large.is_dir() and small.is_dir()):
        return None
    low, high = facts.value_range

    def score(run: Run) -> float:
        def upscale(pixels: np.ndarray) -> np.ndarray:
            height, width = pixels.shape[:2]
            tall, wide = (-(-max(size, facts.minimum) // facts.multiple) * facts.multiple for size in (height, width))
            padded = np.pad(pixels, ((0, tall - height), (0, wide - width), (0, 0)), mode="edge")
            values = padded.transpose(2, 0, 1)[None].astype(np.float32) / 255 * (high - low) + low
            made = (run(np.ascontiguousarray(values))[0].transpose(1, 2, 0) - low) / (high - low)
            result: np.ndarray = (made.clip(0, 1) * 255).round().astype(np.uint8)
            return result[: height * facts.scale, : width * facts.scale]

        return evaluate_pairs(upscale, large, small, facts.scale).mean.psnr_y

    return score
