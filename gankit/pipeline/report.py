"""What a run did, as frozen facts that become JSON. Imports no torch."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from gankit.pipeline.output import write_whole

Status = Literal["done", "skipped", "failed", "left"]
FORMAT = 1


@dataclass(frozen=True)
class ImageReport:
    """One image, or a folder that could not be listed.

    Attributes:
        source: the file read.
        target: the file written, or that would have been; the output folder for what is no image.
        status: ``"skipped"`` where the target was there before, ``"left"`` where the run ended early.
        error: why it failed, in one line with the file's name.
        input_size: width and height, where it was decoded.
        output_size: width and height of the result.
        decode_seconds: in the decoder; likewise for the other two. Stages overlap, so their sum is not the run's time.
        engine_seconds: in the engine, with cutting and stitching.
        encode_seconds: in the encoder, with writing.
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


@dataclass(frozen=True)
class EngineReport:
    """What ran.

    Attributes:
        backend: name of the backend.
        precision: of its arithmetic.
        device: where.
        tile: the side set by the user, ``"auto"``, or ``"streamed"`` for an engine that takes whole images.
        batch: tiles in one call.
        parity_db: PSNR of its images against the fp32 ones (``None``: not measured; infinite: equal).
        parity_max_abs: largest difference, 1 being full scale.
        start_seconds: loading the weights and choosing and loading the engine.
        summary: the choice in words.
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
    """Which weights ran.

    Attributes:
        options: those of the model that the user set, in place of what the weights file tells.
    """

    name: str
    scale: int
    path: str
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Totals:
    """Sums over the images that were done; MP is a million pixels.

    Attributes:
        left: images that were not done when the run ended early.
        seconds: wall-clock time from the first decode to the last file written, without starting the engine.
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

    @property
    def output_mp_per_second(self) -> float:
        """Speed in pixels written."""
        return self.output_mp / self.seconds if self.seconds else 0.0

    @property
    def input_mp_per_second(self) -> float:
        """Speed in pixels read."""
        return self.input_mp / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Report:
    """A whole run.

    Attributes:
        images: in the order of the inputs, folders that could not be listed last.
        ignored: see ``gankit.pipeline.inputs.Inputs``.
        seconds: see :class:`Totals`.
        engine: what ran, ``None`` where nothing had to.
        fp32_engine: what ran the 16-bit images, and those whose values left the range of ``engine``, where that was
            another engine.
        model: likewise.
        versions: of gankit, Python and the packages that make the images.
        machine: facts of it; empty where nothing had to run.
    """

    images: tuple[ImageReport, ...]
    ignored: int
    seconds: float
    engine: EngineReport | None
    model: ModelReport | None
    fp32_engine: EngineReport | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def totals(self) -> Totals:
        """The sums."""
        done = [item for item in self.images if item.status == "done"]
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
            input_mp=sum(math.prod(item.input_size or (0,)) for item in done) / 1e6,
            output_mp=sum(math.prod(item.output_size or (0,)) for item in done) / 1e6,
        )

    @property
    def failures(self) -> tuple[ImageReport, ...]:
        """The images that failed, and the folders that could not be listed."""
        return tuple(item for item in self.images if item.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the JSON."""
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
            "images": [asdict(item) for item in self.images],
        }
        plain: dict[str, Any] = _plain(content)
        return plain

    def write(self, path: str | Path) -> None:
        """Write the JSON, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        # In ASCII: a file's name need not be text, and what is not cannot be written as UTF-8.
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        write_whole(Path(path), text)


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of gankit, Python and the packages that make the images, as far as they are installed.

    Args:
        packages: those of the backends, too.
    """
    found = {"python": platform.python_version()}
    for name in dict.fromkeys(("gankit", "torch", "numpy", "pillow", "imagecodecs", *packages)):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _plain(value: Any) -> Any:
    """Paths as text, infinities as text (JSON has none), tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return str(value) if isinstance(value, Path) else value
