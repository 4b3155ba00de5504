"""The measured choice between backends, and the gate that every engine passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend, Engine, Precision, Request
from gankit.backends.machine import machine
from gankit.backends.parity import GATE_DB, Parity, compare, reference
from gankit.backends.remembered import Choice, forget, recall, remember
from gankit.errors import BackendError, ParityError, UsageError

if TYPE_CHECKING:
    from gankit.checkpoints import Loaded

BUDGET_SECONDS = 7.0  # for measuring; loading the last candidate may take it a little further
LONG_JOB_SECONDS = 600.0  # from here on a compilation of a minute or two can be repaid
_TILE = (160, 192)
_SAFER: dict[Precision, Precision] = {"fp16": "bf16", "bf16": "fp32"}


@dataclass(frozen=True)
class Measured:
    """One candidate.

    Attributes:
        backend: its name.
        precision: what it ran in.
        megapixels_per_second: input pixels; 0 where it did not run.
        parity: with fp32; ``None`` where it did not run.
        remark: why it is out, or nothing.
    """

    backend: str
    precision: Precision
    megapixels_per_second: float
    parity: Parity | None
    remark: str = ""


@dataclass(frozen=True)
class Selection:
    """The engine to run, and why this one.

    Attributes:
        engine: ready.
        parity: of its pictures with the fp32 ones, on a real picture; of an earlier run where it was remembered.
        summary: one line for the user.
        measured: the candidates of this run; empty where the choice was remembered.
    """

    engine: Engine
    parity: Parity | None
    summary: str
    measured: tuple[Measured, ...] = ()


def select(
    loaded: Loaded,
    *,
    backend: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    job_pixels: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Selection:
    """Find the engine.

    With ``"auto"`` the candidates run on one tile of a real picture; those below 45 dB are out, the fastest stays and
    is remembered per model, machine, versions and question.

    Args:
        loaded: generator, facts, sha256.
        backend: name or ``"auto"``.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``. One that fails the gate is stepped up
            (fp16 -> bf16 -> fp32), and that is said.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …
        threads: CPU threads; ``None`` for the physical cores.
        job_pixels: input pixels of the whole job, if known; a backend that compiles for minutes enters only where
            the job is long.
        notify: called with lines for the user.

    Raises:
        UsageError: an unknown backend.
        BackendError: the backend is missing or does not offer the precision.
        ParityError: nothing passes the gate.
    """
    say = notify or (lambda line: None)
    device = _device(device)
    generator = loaded.generator
    chosen = None if backend == "auto" else get(backend)
    if chosen is not None and (why := chosen.missing(device)):
        raise BackendError(f"backend '{backend}': {why}")

    def request(wanted: Precision) -> Request:
        return Request(generator, loaded.facts, wanted, device, threads)

    candidates = [(chosen, item) for item in _precisions(chosen, precision, device)] if chosen else None
    if candidates is None:
        candidates = list(_candidates(precision, device))
    question = (loaded.sha256, backend, precision, device, threads, sorted(loaded.facts.options.items()))
    known = recall(question)
    if known is not None:
        try:
            engine = get(known.backend).load(request(known.precision))
        except BackendError:
            forget(question)  # a package went away without its version showing
        else:
            parity = Parity(known.psnr, known.max_abs)
            line = f"{_words(known.backend, known.precision, parity)}, remembered from an earlier measurement"
            return Selection(engine, parity, line)

    began = time.perf_counter()
    tile = real_tile(loaded.facts.channels, loaded.facts.multiple)
    wanted = reference(generator, tile)
    best: tuple[Engine, Measured] | None = None
    measured: list[Measured] = []
    queue = list(candidates)
    while queue:
        candidate, precise = queue.pop(0)
        spent = time.perf_counter() - began
        if best is not None and spent > BUDGET_SECONDS:
            measured.append(Measured(candidate.name, precise, 0.0, None, "not measured: the others took the time"))
            continue
        if candidate.slow_start and best is not None and not _repays(best[1], job_pixels):
            measured.append(Measured(candidate.name, precise, 0.0, None, "compiles for minutes: for long jobs only"))
            continue
        result, ready = _measure(candidate, request(precise), tile, wanted, best[1] if best else None)
        measured.append(result)
        failed = result.parity is not None and not result.parity.passes()
        if failed and precise in _SAFER:
            safer = _SAFER[precise]
            if safer in candidate.precisions.get(device.partition(":")[0], ()) and (candidate, safer) not in queue:
                said = f"{candidate.name} {precise} is {_psnr(result.parity)} from fp32, below {GATE_DB:.0f} dB"
                say(f"{said}: {safer} instead")
                queue.insert(0, (candidate, safer))
        if ready is None:
            continue
        if best is None or result.megapixels_per_second > best[1].megapixels_per_second:
            if best is not None:
                best[0].close()
            best = (ready, result)
        else:
            ready.close()
    if best is None:
        _refuse(measured)
        raise AssertionError("unreachable")
    engine, result = best
    assert result.parity is not None
    remember(question, Choice(result.backend, result.precision, result.parity.psnr, result.parity.max_abs))
    others = ", ".join(
        f"{item.backend} {item.precision} {item.megapixels_per_second:.3f}"
        for item in measured
        if item is not result and item.megapixels_per_second
    )
    line = f"{_words(result.backend, result.precision, result.parity)}, {result.megapixels_per_second:.3f} MP/s in"
    summary = f"{line} (fastest of {len(measured)}: {others})" if others else line
    if backend == "auto":
        say(f"chose {summary}")
    return Selection(engine, result.parity, summary, tuple(measured))


def real_tile(channels: int = 3, multiple: int = 1) -> Tensor:
    """The middle of the picture that ships for this purpose, (1, C, 160, 192) float32 in [0, 1]."""
    with as_file(files("gankit") / "weights" / "parity.png") as path, Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    height, width = (min(side, size // multiple * multiple) for side, size in zip(_TILE, pixels.shape[:2], strict=True))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    tile = torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None].float() / 255
    if channels == 1:
        tile = tile.mean(1, keepdim=True)
    return tile.contiguous(memory_format=torch.channels_last)


def check_engine(engine: Engine, loaded: Loaded) -> Parity:
    """The parity of any engine on the picture that ships."""
    tile = real_tile(loaded.facts.channels, loaded.facts.multiple)
    return compare(engine.run(tile), reference(loaded.generator, tile))


def _measure(
    backend: Backend, request: Request, tile: Tensor, wanted: Tensor, best: Measured | None
) -> tuple[Measured, Engine | None]:
    """Load, check, time: the engine is ``None`` if it is out. One run that is far behind the best is enough."""
    try:
        engine = backend.load(request)
    except BackendError as error:
        return Measured(backend.name, request.precision, 0.0, None, str(error)), None
    pixels = tile.shape[2] * tile.shape[3] / 1e6
    parity = compare(engine.run(tile), wanted)
    integers = (tile * 255).round().to(torch.uint8)
    result, seconds = _timed(engine, integers)
    if not (through_bytes := compare(result.float() / 255, wanted)).passes():
        parity = through_bytes  # pictures come as bytes: that way has to be right, too
    if not parity.passes():
        engine.close()
        remark = f"{_psnr(parity)}, below {GATE_DB:.0f} dB"
        return Measured(backend.name, request.precision, pixels / seconds, parity, remark), None
    if best is None or pixels / seconds > best.megapixels_per_second / 2:  # else it cannot win
        seconds = min(seconds, *(_timed(engine, integers)[1] for _ in range(2)))
    return Measured(backend.name, request.precision, pixels / seconds, parity), engine


def _timed(engine: Engine, tile: Tensor) -> tuple[Tensor, float]:
    began = time.perf_counter()
    result = engine.run(tile)
    return result, time.perf_counter() - began


def _candidates(precision: str, device: str) -> Iterator[tuple[Backend, Precision]]:
    """Installed backends, likely fastest first, each in the fastest precision that may pass the gate."""
    likely = ["openvino", "eager", "onnxruntime"]
    names = sorted(BACKENDS, key=lambda name: likely.index(name) if name in likely else len(likely))
    found = [backend for backend in map(get, names) if backend.missing(device) is None]
    for backend in sorted(found, key=lambda item: item.slow_start):
        try:
            wanted = _precisions(backend, precision, device)
        except BackendError:
            continue
        yield from ((backend, item) for item in wanted[:1])


def _precisions(backend: Backend, precision: str, device: str) -> list[Precision]:
    """What to try of a backend, fastest first.

    Raises:
        BackendError: the precision, or the device, is not offered.
    """
    kind = device.partition(":")[0]
    offered = backend.precisions.get(kind, ())
    if not offered:
        raise BackendError(f"backend '{backend.name}' does not run on {device}; use another --backend or --device")
    if precision != "auto":
        found: list[Precision] = [item for item in offered if item == precision]
        if not found:
            raise BackendError(
                f"backend '{backend.name}' does not run {precision} on {device}; it offers {', '.join(offered)}"
            )
        return found
    if kind == "cpu":
        return ["bf16"] if "bf16" in offered and machine().fast_bf16 else ["fp32"]
    return [offered[-1]]


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"unknown device '{device}': known are cpu, cuda and cuda:N")
    return device


def _repays(best: Measured, job_pixels: int | None) -> bool:
    return job_pixels is not None and job_pixels / 1e6 / best.megapixels_per_second > LONG_JOB_SECONDS


def _refuse(measured: list[Measured]) -> None:
    out = "; ".join(
        f"{item.backend} {item.precision}: {_psnr(item.parity) if item.parity else item.remark}" for item in measured
    )
    if any(item.parity is not None for item in measured):
        raise ParityError(f"no engine reaches {GATE_DB:.0f} dB against fp32 on a real picture: {out}")
    raise BackendError(f"no backend can run this: {out or 'none is installed for this device and precision'}")


def _psnr(parity: Parity | None) -> str:
    return "not finite" if parity is None or parity.psnr == -np.inf else f"{parity.psnr:.1f} dB"


def _words(backend: str, precision: Precision, parity: Parity) -> str:
    return f"{backend} {precision}, {_psnr(parity)} from fp32"
