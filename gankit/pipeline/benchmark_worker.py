"""One engine in a process of its own: ``python -m gankit.pipeline.benchmark_worker``, driven by ``benchmarking``.

Memory, threads and the time to start then belong to the engine alone. The first line of standard input is a
:class:`Job` as JSON. Each further line is ``run`` or ``parity``. The process answers each line with a line of JSON:
first what the engine is, after its first run, then the seconds of a run, or the parity. What libraries print goes to
standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from gankit_export.precisions import Precision

from gankit.models.facts import Direction

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gankit.backends.base import Engine, EngineSpec
    from gankit.models.facts import Facts

_WARM_UPS = 4  # more runs on a GPU: kernels compile, and a shape is recorded as a graph when it comes often


@dataclass(frozen=True)
class Job:
    """What a worker runs.

    Attributes:
        kind: ``"engine"``, or ``"ceiling"`` for the convolution with which engines are compared.
        precision: precision of the engine or of the convolution.
        device: device on which it runs.
        threads: number of CPU threads; ``None`` uses one per physical core.
        model: name of a model or weights file; empty for the ceiling.
        direction: which generator of a pair.
        options: model options.
        backend: name of the backend.
        height: rows of the input in pixels; 0 for a model that generates.
        width: columns of the input in pixels.
        batch: number of images or samples of one run.
        tile: side of a tile in input pixels; ``None`` lets the pipeline choose.
    """

    kind: Literal["engine", "ceiling"]
    precision: Precision
    device: str
    threads: int | None = None
    model: str = ""
    direction: Direction | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    height: int = 0
    width: int = 0
    batch: int = 1
    tile: int | None = None

    def to_json(self) -> str:
        """Return the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Read a job from a line."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Ready:
    """What can run.

    Attributes:
        run: runs once and returns the seconds.
        facts: what the worker answers first.
        parity: measures the parity; ``None`` for the ceiling.
    """

    run: Callable[[], float]
    facts: Mapping[str, Any]
    parity: Callable[[], dict[str, Any]] | None = None


def prepare(job: Job) -> Ready:
    """Load what a job needs, and run it for the first time."""
    return _ceiling(job) if job.kind == "ceiling" else _engine(job)


def _ceiling(job: Job) -> Ready:
    from gankit.backends.choice.ceiling import Ceiling

    ceiling = Ceiling(job.device, job.precision, job.threads)
    return Ready(ceiling.run, {"flop": ceiling.flop, "seconds": ceiling.run()})


def _engine(job: Job) -> Ready:
    from gankit import backends
    from gankit.backends.base import EngineSpec, Shapes
    from gankit.checkpoints import open_model
    from gankit.memory import import_torch
    from gankit.paths import cache_folder

    before = _files(cache_folder())
    import_torch()
    loaded = open_model(job.model, direction=job.direction, options=dict(job.options))
    facts = loaded.facts
    shapes = Shapes(batch=job.batch) if facts.task == "generate" else Shapes()
    spec = EngineSpec(loaded.generator, facts, job.precision, job.device, shapes, job.threads)
    engine = backends.get(job.backend).load(spec)
    work = _samples(engine, facts, job) if facts.task == "generate" else _images(engine, spec, job)
    work()
    # What the cache gained took time that later starts do not take.
    exported = bool(_files(cache_folder()) - before)
    if engine.device != "cpu":
        for _ in range(_WARM_UPS):
            work()

    def run() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return Ready(run, {"exported": exported, "wants": engine.wants}, lambda: _parity(spec, engine))


def _images(engine: Engine, spec: EngineSpec, job: Job) -> Callable[[], object]:
    """Return a function that runs the images as the pipeline does: in the tiles and calls that it would choose."""
    import numpy as np
    from gankit_export.receptive_field import halo

    from gankit.pipeline.processor import Processor

    facts, tile = spec.facts, job.tile
    reach = 0
    if facts.tileable:
        reach = facts.halo if facts.halo is not None else halo(spec.generator)
        tile = engine.tile if tile is None else tile
    batch: int | Literal["auto"] = job.batch if job.batch > 1 else "auto"
    processor = Processor(engine, facts, reach, "auto" if tile is None else tile, batch)
    pixels = real_pixels(facts.channels, job.height, job.width)
    images = np.repeat(pixels[None], job.batch, axis=0).transpose(0, 3, 1, 2)
    return lambda: processor.batched(images)


def real_pixels(channels: int, height: int, width: int) -> np.ndarray:
    """Return the image that ships with gankit at any size: its centre, or the image continued by its mirror images.

    Args:
        channels: number of channels.
        height: rows in pixels.
        width: columns in pixels.

    Returns:
        (height, width, channels) uint8.
    """
    import numpy as np

    from gankit.backends.choice.probe import real_tile

    tile = (real_tile(channels, sides=(height, width))[0] * 255).round().byte().permute(1, 2, 0).numpy()
    missing = [(0, want - have) for want, have in zip((height, width), tile.shape[:2], strict=True)]
    return np.ascontiguousarray(np.pad(tile, (*missing, (0, 0)), mode="symmetric"))


def _samples(engine: Engine, facts: Facts, job: Job) -> Callable[[], object]:
    import torch

    from gankit.models.sampling import latents

    given: tuple[Tensor, ...] = (torch.from_numpy(latents(0, range(job.batch), facts.latent)),)
    if facts.classes:
        given = (*given, torch.arange(job.batch) % facts.classes)
    return lambda: engine.run(*given)


def _parity(spec: EngineSpec, engine: Engine) -> dict[str, Any]:
    """Measure the parity on the images of the gate, as :func:`gankit.backends.choice.select.select` does."""
    from gankit.backends.choice.probe import Probe

    probe = Probe.of(replace(spec, device="cpu"))
    verdict = probe.verdict(engine, probe.parity_on_timed(engine))
    psnr = verdict.parity.psnr
    return {
        "psnr": psnr if math.isfinite(psnr) else str(psnr),  # JSON has no infinity
        "image": verdict.parity.image,
        "contrast": verdict.contrast,
    }


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()


def peak_bytes() -> int | None:
    """Return the largest resident memory of this process so far; ``None`` where the system does not count it."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with the memory of the parent
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) << 10
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _gpu_bytes(device: str) -> int | None:
    """Return the largest memory that torch's allocator held on a GPU; ``None`` on a CPU."""
    if device.startswith("cpu"):
        return None
    import torch

    return torch.cuda.max_memory_reserved(device)


def serve(lines: Iterable[str], answers: TextIO) -> None:
    """Answer the lines of standard input until it ends."""

    def answer(**words: Any) -> None:
        answers.write(f"{json.dumps(words)}\n")
        answers.flush()

    source = iter(lines)
    job = Job.from_json(next(source))
    try:
        ready = prepare(job)
        answer(**ready.facts)
        for line in source:
            if line.strip() == "parity" and ready.parity is not None:
                answer(**ready.parity())
                continue
            seconds = ready.run()
            answer(seconds=seconds, peak=peak_bytes(), gpu=_gpu_bytes(job.device))
    except Exception as error:  # compilers, runtimes and drivers raise anything; the other engines go on
        text = [line.strip() for line in str(error).splitlines() if line.strip()]
        answer(error=text[0][:300] if text else type(error).__name__)


def main() -> None:
    """Serve the parent process."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
