"""The rows of a benchmark, as a CSV file and as a plot. Imports no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from gankit_export.files import atomic_path

from gankit.errors import OutputError, UsageError

STEADY = 0.10  # larger spreads are flagged
FEWEST_FOR_P90 = 10
GATE_DB = 45.0  # that of gankit.backends.choice.parity, which imports torch
PLOT_SUFFIXES = (".svg", ".png", ".pdf")
COLUMNS = (
    "model", "input", "batch", "backend", "precision", "device", "n", "median_ms", "p90_ms", "spread", "unstable",
    "mp_per_s", "tflops", "ceiling_tflops", "share_of_ceiling", "peak_mib", "gpu_mib", "start_s", "parity_db",
    "parity_image", "fp32_below_contrast", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The measurement of one engine.

    Attributes:
        model: name of the model.
        input: width and height of an image, such as ``"256×192"``, or ``"64 samples"``.
        batch: number of images or samples of one run.
        backend: name of the backend.
        precision: its precision.
        device: its device.
        seconds: times of the runs; empty if it failed.
        megapixels: megapixels of the input of one run, or of the samples.
        flop: floating-point operations of the convolutions and matrix products of one run; ``None`` if unknown.
        ceiling: operations per second of the best convolution; ``None`` if unknown.
        peak: largest resident memory of its process in bytes.
        gpu: largest memory of torch's allocator on the GPU in bytes; ``None`` on a CPU.
        start_seconds: seconds from the start of its process to the end of the first run.
        parity: worst parity with fp32 in dB; ``None`` if it was not measured.
        parity_image: the image of the worst parity; empty for a real one.
        contrast: images of less contrast run in fp32; 0 if all run in this precision.
        error: why it failed; empty if it did not.
    """

    model: str
    input: str
    batch: int
    backend: str
    precision: str
    device: str
    seconds: tuple[float, ...]
    megapixels: float
    flop: float | None = None
    ceiling: float | None = None
    peak: int | None = None
    gpu: int | None = None
    start_seconds: float | None = None
    parity: float | None = None
    parity_image: str = ""
    contrast: float = 0.0
    error: str = ""

    @property
    def median(self) -> float | None:
        """Median of the times in seconds."""
        return median(self.seconds) if self.seconds else None

    @property
    def p90(self) -> float | None:
        """Time in seconds that nine of ten runs do not exceed; ``None`` for fewer than ten runs."""
        if len(self.seconds) < FEWEST_FOR_P90:
            return None
        return quantiles(self.seconds, n=10, method="inclusive")[-1]

    @property
    def spread(self) -> float | None:
        """Slowest minus fastest run, divided by the median; ``None`` for fewer than two runs."""
        if len(self.seconds) < 2 or not self.median:
            return None
        return (max(self.seconds) - min(self.seconds)) / self.median

    @property
    def unstable(self) -> bool:
        """Whether the runs differ so much that small differences between rows mean nothing."""
        return self.spread is not None and self.spread > STEADY

    @property
    def megapixels_per_second(self) -> float | None:
        """Speed at the median."""
        return self.megapixels / self.median if self.median else None

    @property
    def flops(self) -> float | None:
        """Operations per second at the median."""
        return self.flop / self.median if self.flop and self.median else None

    @property
    def share(self) -> float | None:
        """Operations per second as a fraction of the ceiling."""
        return self.flops / self.ceiling if self.flops and self.ceiling else None

    @property
    def below_gate(self) -> bool:
        """Whether its images are too far from those of fp32, so that no command would use this engine."""
        return self.parity is not None and self.parity < GATE_DB

    @property
    def label(self) -> str:
        """Backend and precision."""
        return f"{self.backend} {self.precision}"

    def values(self) -> tuple[object, ...]:
        """Return the values of the columns of a CSV file. Numbers keep their digits, and ``None`` is empty."""
        return (
            self.model, self.input, self.batch, self.backend, self.precision, self.device, len(self.seconds),
            _times(self.median, 1e3), _times(self.p90, 1e3), self.spread, "yes" if self.unstable else "no",
            self.megapixels_per_second, _times(self.flops, 1e-12), _times(self.ceiling, 1e-12), self.share,
            _times(self.peak, 2**-20), _times(self.gpu, 2**-20), self.start_seconds, self.parity, self.parity_image,
            self.contrast or None, self.error,
        )  # fmt: skip


def check_file(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Check, before anything is measured, that a result can be written.

    Raises:
        UsageError: If the name has another suffix, the folder does not exist, or the file exists.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the file name must end in {', '.join(suffixes[:-1])}{' or ' * (len(suffixes) > 1)}"
                         f"{suffixes[-1]}")  # fmt: skip
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder; create it first")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: already exists; use --overwrite to replace it")


def check_plot() -> None:
    """Check that Matplotlib is installed.

    Raises:
        UsageError: If it is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("--plot needs Matplotlib: pip install 'gankit[plot]'") from None


def write_csv(rows: Sequence[Row], path: Path, facts: Mapping[str, Any]) -> None:
    """Write the rows as CSV. Lines that begin with ``#`` come first, and say what the machine was.

    Args:
        rows: the rows.
        path: the file, which is replaced if it exists.
        facts: facts of the machine and the versions of packages; those that are ``None`` are left out.

    Raises:
        OutputError: If the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            for name, value in facts.items():
                if value is not None:
                    text = " ".join(value) if isinstance(value, list | tuple) else value
                    file.write(f"# {name}: {text}\n")
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(["" if value is None else value for value in row.values()] for row in rows)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw the speed of each engine as a bar, size beside size, from the fastest to the slowest run.

    Args:
        rows: the rows. Those that failed are left out. Those below the gate are hatched.
        path: an ``.svg``, ``.png`` or ``.pdf`` file, which is replaced if it exists.
        title: title of the plot.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure  # without pyplot there is no window and no state of the process

    shown = [row for row in rows if row.megapixels_per_second]
    inputs = list(dict.fromkeys(row.input for row in shown))
    tallest = max((sum(row.input == name for row in shown) for name in inputs), default=1)
    figure = Figure(figsize=(1.5 + 4.5 * max(1, len(inputs)), 1.6 + 0.4 * tallest), layout="constrained")
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, max(1, len(inputs)), squeeze=False)[0], inputs, strict=False):
        group = sorted((row for row in shown if row.input == name), key=lambda row: row.megapixels_per_second or 0)
        speeds = [row.megapixels_per_second or math.nan for row in group]
        slowest = [speed - row.megapixels / max(row.seconds) for speed, row in zip(speeds, group, strict=True)]
        fastest = [row.megapixels / min(row.seconds) - speed for speed, row in zip(speeds, group, strict=True)]
        labels = [f"{row.label}{', below the gate' if row.below_gate else ''}" for row in group]
        bars = axes.barh(labels, speeds, xerr=(slowest, fastest), color="#4c78a8", ecolor="#303030", capsize=3)
        for bar, row in zip(bars, group, strict=True):
            bar.set_hatch("//" if row.below_gate else "")
        axes.set_title(name)
        axes.set_xlabel("MP/s")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    try:
        with atomic_path(path, suffix=path.suffix) as temporary:
            figure.savefig(temporary)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
