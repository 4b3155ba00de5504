"""Candidates on one tile of a real image, and the gate that every engine passes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.backends.base import Engine, Precision, Request
from gankit.backends.choice.candidates import Candidate, offered
from gankit.backends.choice.parity import GATE_DB, Parity, compare, reference
from gankit.backends.pixels import from_values, to_values

if TYPE_CHECKING:
    from gankit.checkpoints import Loaded

_TILE = (160, 192)
_CPU_TILE = (96, 128)  # a CPU's speed per pixel is the same as for the larger one, and choosing takes half the time
_MOST_RUNS, _ENOUGH_SECONDS = 10, 0.3  # of one engine; three runs are timed in any case
_SAFER: dict[Precision, Precision] = {"fp16": "bf16", "bf16": "fp32"}


@dataclass(frozen=True)
class Measured:
    """One candidate.

    Attributes:
        backend: its name.
        precision: what it ran in.
        device: where it ran.
        megapixels_per_second: input pixels; 0 where it is out.
        parity: with fp32; ``None`` where it did not run.
        remark: why it is out, or nothing.
        kernels: whether it was with gankit's own kernels where there are some.
        label: as the user reads it.
    """

    backend: str
    precision: Precision
    device: str
    megapixels_per_second: float
    parity: Parity | None
    remark: str = ""
    kernels: bool = True
    label: str = ""

    def __str__(self) -> str:
        return self.label or f"{self.backend} {self.precision}"


class Benchmark:
    """Measures candidates; the engine of the fastest that passes the gate stays open.

    Args:
        loaded: generator and facts.
        threads: CPU threads; ``None`` for the physical cores.
        device: the kind of the first device that will run.

    Attributes:
        best: engine and figures of the fastest so far, or ``None``.
        measured: all that were tried, in order.
        remarks: a line for each candidate that is out.
    """

    def __init__(self, loaded: Loaded, threads: int | None, device: str = "cpu") -> None:
        self.best: tuple[Engine, Measured] | None = None
        self.measured: list[Measured] = []
        self.remarks: list[str] = []
        self._loaded, self._threads = loaded, threads
        self._began = time.perf_counter()
        height, width = _CPU_TILE if device == "cpu" else _TILE
        least = loaded.facts.minimum
        self._tile = real_tile(loaded.facts.channels, loaded.facts.multiple, (max(height, least), max(width, least)))
        values = to_values(self._tile, loaded.facts)
        self._wanted = from_values(reference(loaded.generator, values), loaded.facts, torch.float32)

    def run(self, entrants: Iterable[Candidate], *, budget: float = math.inf, least: int = 1) -> list[Candidate]:
        """Measure candidates; one that fails in a narrow precision is tried in the next safer one.

        Args:
            entrants: in the order to try them.
            budget: seconds since the benchmark began after which no further one is tried.
            least: how many are tried whatever the time.

        Returns:
            Those for which there was no time.
        """
        queue, left = list(entrants), []
        while queue:
            candidate = queue.pop(0)
            late = time.perf_counter() - self._began > budget
            if late and self.best is not None and len(self.measured) >= least:
                left.append(candidate)
                continue
            result, engine = self._measure(candidate)
            self.measured.append(result)
            if engine is not None:
                self._keep(engine, result)
                continue
            plain = candidate.without_kernels if result.parity is None else None
            safer = plain or _safer(candidate)
            instead = "torch's kernels" if plain else safer.precision if safer else ""
            self.remarks.append(f"{candidate} is out: {result.remark}{f': {instead} instead' if instead else ''}")
            if safer is not None and safer not in queue:
                queue.insert(0, safer)
        return left

    def _keep(self, engine: Engine, result: Measured) -> None:
        if self.best is not None and result.megapixels_per_second <= self.best[1].megapixels_per_second:
            engine.close()
            return
        if self.best is not None:
            self.best[0].close()
        self.best = engine, result

    def _measure(self, candidate: Candidate) -> tuple[Measured, Engine | None]:
        """Load, check, time; the engine is ``None`` if the candidate is out, for whatever reason."""
        what = candidate.backend.name, candidate.precision, candidate.device
        engine, parity = None, None
        request = Request(self._loaded.generator, self._loaded.facts, *what[1:], self._threads, candidate.kernels)
        try:
            engine = candidate.backend.load(request)
            parity, seconds = self._check(engine)
        except Exception as error:  # compilers, runtimes and drivers raise what they like; the others can still win
            remark = first_line(error)
        else:
            if parity.passes():
                speed = self._tile[0, 0].numel() / 1e6 / seconds
                return Measured(*what, speed, parity, "", candidate.kernels, candidate.label), engine
            remark = f"{psnr(parity)} from fp32, below {GATE_DB:.0f} dB"
        if engine is not None:
            engine.close()
        return Measured(*what, 0.0, parity, remark, candidate.kernels, candidate.label), None

    def _check(self, engine: Engine) -> tuple[Parity, float]:
        """Parity and seconds for the tile; one timed run is enough for an engine that is far behind the best."""
        parity = compare(engine.run(self._tile), self._wanted)
        if not parity.passes():
            return parity, math.inf
        integers = (self._tile * 255).round().to(torch.uint8)
        result, seconds = _timed(engine, integers)
        if not (through_bytes := compare(result.float() / 255, self._wanted)).passes():
            return through_bytes, math.inf  # images come as bytes: that way has to be right, too
        to_beat = self.best[1].megapixels_per_second if self.best else 0.0
        spent, runs, pixels = seconds, 1, self._tile[0, 0].numel() / 1e6
        while (runs < 2 and pixels / seconds > to_beat / 8) or (  # one run that was disturbed does not decide
            pixels / seconds > to_beat / 2  # else it cannot win
            and (runs < 3 or (runs < _MOST_RUNS and spent < _ENOUGH_SECONDS))
        ):
            again = _timed(engine, integers)[1]
            seconds, spent, runs = min(seconds, again), spent + again, runs + 1
        return parity, seconds


def real_tile(channels: int = 3, multiple: int = 1, sides: tuple[int, int] = _TILE) -> Tensor:
    """The middle of the image that ships for this purpose, (1, C, H, W) float32 in [0, 1].

    Args:
        channels: 1 for gray, 3 for RGB; for any other number the three colours repeat.
        multiple: the sides are cut to multiples of it, or mirrored up to it where it is larger than they are.
        sides: height and width, before that.
    """
    with as_file(files("gankit") / "weights" / "parity.png") as path, Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    missing = [(0, max(0, multiple - size)) for size in pixels.shape[:2]]
    pixels = np.pad(pixels, (*missing, (0, 0)), mode="reflect")
    wanted = (max(side, multiple) for side in sides)
    height, width = (
        min(side, size) // multiple * multiple for side, size in zip(wanted, pixels.shape[:2], strict=True)
    )
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    tile = torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None].float() / 255
    tile = tile.mean(1, keepdim=True) if channels == 1 else tile[:, torch.arange(channels) % 3]
    return tile.contiguous(memory_format=torch.channels_last)


def psnr(parity: Parity | None) -> str:
    """In words, such as ``"52.1 dB"``."""
    return "not finite" if parity is None or parity.psnr == -math.inf else f"{parity.psnr:.1f} dB"


def first_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _safer(candidate: Candidate) -> Candidate | None:
    """The same in the next safer precision that its backend offers there."""
    precision = _SAFER.get(candidate.precision)
    while precision is not None and precision not in offered(candidate.backend, candidate.device):
        precision = _SAFER.get(precision)
    return replace(candidate, precision=precision) if precision else None


def _timed(engine: Engine, tile: Tensor) -> tuple[Tensor, float]:
    began = time.perf_counter()
    result = engine.run(tile)
    return result, time.perf_counter() - began
