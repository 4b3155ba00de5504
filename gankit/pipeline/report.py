"""The report of a run: frozen dataclasses that are written as JSON. Imports no torch."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gankit.pipeline.output import write_whole
from gankit.version import installed_version

Status = Literal["done", "skipped", "kept", "failed", "left"]
Bottleneck = Literal["engine", "decoder", "encoder"]
FORMAT = 1


@dataclass(frozen=True)
class VideoReport:
    """What the report of a clip says beyond that of an image.

    Attributes:
        frames: frames of the result.
        computed_frames: frames that went through the engine; the others are equal to the frame before them.
        resumed_frames: frames that an earlier run, which was interrupted, had encoded.
        seconds: time from the first decoded frame to the last write, in this run.
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name of the pixel format.
    """

    frames: int
    computed_frames: int
    resumed_frames: int
    seconds: float
    codec: str
    pixel_format: str


@dataclass(frozen=True)
class ImageReport:
    """The report of one image or clip, or of a folder that could not be listed.

    Attributes:
        source: the source file.
        target: the target file, whether or not it was written; the output folder if the source is a folder.
        status: ``"done"``, ``"failed"``, ``"skipped"`` if the target is up to date, ``"kept"`` if the target is a file
            that gankit did not make, or ``"left"`` if the run ended early.
        error: one line that names the file and why it failed.
        input_size: width and height of the source, if it was decoded.
        output_size: width and height of the result.
        decode_seconds: time in the decoder. The three times overlap, so their sum exceeds the time of the run.
        engine_seconds: time in the engine, including tiling and stitching.
        encode_seconds: time in the encoder, including writing.
        notes: a sentence for each part of the source that the result does not have, such as a second frame.
        again: what changed since an earlier result, which this run replaced: ``"source"``, ``"model"`` or
            ``"option"``; otherwise ``None``.
        frames: number of frames of the result that this run made: 1 for a still image.
        video: the rest of the report if the source is a clip; sizes are those of a frame.
        strips: number of strips in which the image was processed; 0 if it was processed in one piece.
    """

    source: Path
    target: Path
    status: Status
    error: str | None = None
    input_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    decode_seconds: float = 0.0
    engine_seconds: float = 0.0
    encode_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    again: str | None = None
    frames: int = 1
    video: VideoReport | None = None
    strips: int = 0


@dataclass(frozen=True)
class EngineReport:
    """The engine of a run.

    Attributes:
        backend: name of the backend.
        precision: arithmetic precision.
        device: device.
        tile: side set by the user, ``"auto"``, or ``"streamed"`` for an engine that takes whole images.
        batch: tiles per call, or ``"auto"``.
        parity_db: PSNR against the fp32 images in dB; ``None`` if it was not measured, infinite if they are equal.
        parity_max_abs: largest absolute difference, where 1 is full scale.
        start_seconds: time to load the weights, and to choose and load the engine.
        summary: one line that describes the choice.
    """

    backend: str
    precision: str
    device: str
    tile: int | str
    batch: int | str
    parity_db: float | None
    parity_max_abs: float | None
    start_seconds: float
    summary: str = ""


@dataclass(frozen=True)
class ModelReport:
    """The weights of a run.

    Attributes:
        name: name of the model.
        scale: scale of the model.
        path: the weights file.
        sha256: checksum of the weights.
        options: model options that the user set in place of those of the weights file.
    """

    name: str
    scale: int
    path: str
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Waits:
    """How long the engine of a run had to wait.

    Attributes:
        decode_seconds: because no image was decoded.
        encode_seconds: because images were still encoded, in the middle of the run or at its end.
    """

    decode_seconds: float
    encode_seconds: float

    def __add__(self, other: Waits) -> Waits:
        return Waits(self.decode_seconds + other.decode_seconds, self.encode_seconds + other.encode_seconds)


@dataclass(frozen=True)
class Totals:
    """Totals of a run. Times and megapixels (MP) are sums over the images that were done.

    Attributes:
        again: number of images among those done whose earlier result was replaced because something changed.
        kept: number of images that were not processed because gankit did not make the file in the result's place.
        left: number of images that were not processed because the run ended early.
        seconds: wall-clock time from the first decode to the last write, without the start of the engine.
        engine_share: the share of these seconds in which the engine did not wait, 0 to 1; ``None`` if it was not
            measured. On a cluster, it is the mean of the workers, each from its first image to its last.
        bottleneck: what took the most of these seconds: ``"engine"``, ``"decoder"`` or ``"encoder"``; ``None`` where
            the share is.
    """

    done: int
    skipped: int
    failed: int
    left: int
    ignored: int
    seconds: float
    decode_seconds: float
    engine_seconds: float
    encode_seconds: float
    input_mp: float
    output_mp: float
    again: int = 0
    kept: int = 0
    engine_share: float | None = None
    bottleneck: Bottleneck | None = None

    @property
    def output_mp_per_second(self) -> float:
        """Megapixels written per second."""
        return self.output_mp / self.seconds if self.seconds else 0.0

    @property
    def input_mp_per_second(self) -> float:
        """Megapixels read per second."""
        return self.input_mp / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Report:
    """The report of a whole run.

    Attributes:
        images: one report for each image in the order of the inputs, then one for each folder that could not be listed.
        ignored: see ``gankit.pipeline.inputs.Inputs``.
        seconds: see :class:`Totals`.
        engine: the engine; ``None`` if nothing had to run.
        fp32_engine: the second engine, for 16-bit images and values beyond the range of ``engine``; ``None`` if it
            was not needed.
        model: the weights; ``None`` if nothing had to run.
        versions: versions of gankit, Python and the packages that produce the images.
        machine: facts of the machine; empty if nothing had to run.
        waits: how long the engine waited; ``None`` if it was not measured.
        unread: images of formats that gankit does not read, which are not among ``images`` and ``ignored``.
        ignored_files: the files that ``ignored`` counts.
    """

    images: tuple[ImageReport, ...]
    ignored: int
    seconds: float
    engine: EngineReport | None
    model: ModelReport | None
    fp32_engine: EngineReport | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[Path, ...] = ()
    ignored_files: tuple[Path, ...] = ()
    waits: Waits | None = None

    @property
    def totals(self) -> Totals:
        """The totals over all images."""
        done = [item for item in self.images if item.status == "done"]
        share, bottleneck = self._busy() if done else (None, None)
        return Totals(
            done=len(done),
            skipped=sum(item.status == "skipped" for item in self.images),
            failed=len(self.failures),
            left=sum(item.status == "left" for item in self.images),
            ignored=self.ignored,
            seconds=self.seconds,
            decode_seconds=sum(item.decode_seconds for item in self.images),
            engine_seconds=sum(item.engine_seconds for item in self.images),
            encode_seconds=sum(item.encode_seconds for item in self.images),
            input_mp=sum(item.frames * math.prod(item.input_size or (0,)) for item in done) / 1e6,
            output_mp=sum(item.frames * math.prod(item.output_size or (0,)) for item in done) / 1e6,
            again=sum(item.again is not None for item in done),
            kept=sum(item.status == "kept" for item in self.images),
            engine_share=share,
            bottleneck=bottleneck,
        )

    def _busy(self) -> tuple[float | None, Bottleneck | None]:
        """Return the share of the time in which the engine did not wait, and what took the most of the time."""
        if self.waits is None or self.seconds <= 0:
            return None, None
        decode, encode = self.waits.decode_seconds, self.waits.encode_seconds
        engine = max(0.0, self.seconds - decode - encode)
        parts: dict[Bottleneck, float] = {"engine": engine, "decoder": decode, "encoder": encode}
        return engine / self.seconds, max(parts, key=lambda name: parts[name])

    @property
    def failures(self) -> tuple[ImageReport, ...]:
        """The images that failed, and the folders that could not be listed."""
        return tuple(item for item in self.images if item.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, as in the JSON."""
        totals = self.totals
        sums = asdict(totals) | {
            "input_mp_per_second": totals.input_mp_per_second,
            "output_mp_per_second": totals.output_mp_per_second,
        }
        content = {
            "format": FORMAT,
            "totals": sums,
            "engine": asdict(self.engine) if self.engine else None,
            "fp32_engine": asdict(self.fp32_engine) if self.fp32_engine else None,
            "model": asdict(self.model) if self.model else None,
            "versions": dict(self.versions),
            "machine": dict(self.machine),
            "unread": list(self.unread),
            "ignored_files": list(self.ignored_files),
            "images": [asdict(item) for item in self.images],
        }
        plain: dict[str, Any] = _plain(content)
        return plain

    def write(self, path: str | Path) -> None:
        """Write the report as JSON. The file appears complete or not at all.

        Raises:
            OutputError: If the file cannot be written.
        """
        # In ASCII, because file names may contain bytes that cannot be written as UTF-8.
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        write_whole(Path(path), text)


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of gankit, Python and the installed packages that produce the images.

    Args:
        packages: names of further packages, such as those of the backends.
    """
    names = dict.fromkeys(("gankit", "torch", "numpy", "pillow", "imagecodecs", *packages))
    found = {name: version for name in names if (version := installed_version(name)) is not None}
    return {"python": platform.python_version(), **found}


def _plain(value: Any) -> Any:
    """Convert paths and infinities to text, because JSON has neither, and tuples to lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return str(value) if isinstance(value, Path) else value
