"""Export a model in int8: the images, the benchmark and the file. Imports no torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gankit.errors import BackendError, OutputError, ParityError, UsageError
from gankit.models.facts import AtTest, Direction, Facts
from gankit.pipeline.exporting import Exported, _default_name, _output_path
from gankit.pipeline.exporting import export as export_fp32
from gankit.pipeline.source import ModelSource

if TYPE_CHECKING:
    from gankit_export.int8 import Material, Run
    from gankit_export.parity import Batch

    from gankit.pipeline.source import Model

MOST_IMAGES = 64  # of a calibration folder, spread over it
_CROP = 96  # pixels; calibration needs variety and not size
_HELD_OUT = 5  # of so many calibration images, one is for the comparison instead
_MOST_TESTS = 8
_SHIPPED_CROPS = 12


def export_int8(
    model: Model,
    output: str | Path | None = None,
    *,
    calibration: str | Path | None = None,
    threshold: float | None = None,
    opset: int | None = None,
    overwrite: bool = False,
    direction: Direction | None = None,
    norm: AtTest | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Exported:
    """Export an int8 ONNX file with a manifest, and compare its images with the fp32 ones.

    Args:
        model: a registry name, a weights file, or an open model. It must take images.
        output: a file that ends in ``.onnx``, or a folder; ``None`` writes ``NAME_xSCALE_int8.onnx`` to the current
            folder.
        calibration: a folder of images like those that the file will get, of which 64 are used; ``None`` uses crops of
            the image that ships with gankit.
        threshold: lowest accepted parity of the worst image with fp32 in dB, at least 38; ``None`` for 38.
        opset: ONNX opset version; ``None`` for the lowest one.
        overwrite: whether to replace an existing file.
        direction: generator to export from a pair; see :func:`gankit.checkpoints.open_model`.
        norm: statistics that BatchNorm uses; see :func:`gankit.checkpoints.open_model`.
        options: options of the model; see :func:`gankit.checkpoints.open_model`.
        notify: called with a line for each attempt.

    Returns:
        The file and its manifest.

    Raises:
        UsageError: If an option is wrong, the model takes no images, or the file exists.
        ParityError: If int8 does not reach the gate. The message has the figures, and no file is left.
        BackendError: If the model cannot be exported, or NNCF or OpenVINO is not installed.
        CheckpointError, OutputError, ImageError: If a file cannot be read or written.
    """
    from gankit_export.int8 import GATE_DB, Int8RefusedError, make_int8, nncf

    if threshold is not None and threshold < GATE_DB:
        raise UsageError(f"the threshold of int8 must be at least {GATE_DB:g} dB, not {threshold:g}")
    loaded = ModelSource(model, None, direction, norm, options).open()
    name = loaded.facts.name if not isinstance(model, str | Path) else str(model)
    facts = loaded.facts
    if facts.task == "generate":
        raise UsageError(f"'{name}' generates from noise; int8 is for models that take images, so omit --int8")
    default = _default_name(name, loaded, direction, "fp32").removesuffix("fp32") + "int8.onnx"
    path = _output_path(None if output is None else str(output), default, ".onnx")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: already exists; use --overwrite to replace it")
    try:
        nncf()  # before minutes of work
        images = material(facts, calibration)
        with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
            exact = export_fp32(loaded, Path(folder) / "fp32.onnx", opset=opset, direction=direction)
            manifest = make_int8(exact.path, path, images, threshold=threshold or GATE_DB, progress=notify)
    except Int8RefusedError as error:
        raise ParityError(f"{path}: not written: {error}; use --bf16, --fp16 or --fp32") from error
    except ImportError as error:
        package = error.name or "nncf"
        raise BackendError(f"{package} is required but not installed: pip install 'gankit[int8]'") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Exported(path, manifest)


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
