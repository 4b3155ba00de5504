"""One candidate in a process of its own: ``python -m bench.worker``, driven by :mod:`bench.rounds`.

A process each, because memory, threads and the start are then the candidate's alone. The first line of standard input
is a :class:`~bench.candidates.Work`; each further line is ``run`` or ``save PATH``, answered by a line of JSON. What
libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.baselines import BASELINES, image
from bench.candidates import Work
from bench.common import ROOT, engine_threads, load_engine, load_pipeline, read, real_tile


@dataclass
class Ready:
    """A candidate that can run.

    Attributes:
        run: the timed work.
        facts: what it turned out to be: ``precision``, ``device``, ``threads``, ``backend``, ``remark``.
        save: writes the result of a tile as an array; on folders the results lie in the output.
        in_child: the work is done in a further process, whose memory counts.
        first_counts: the first run takes as long as later ones, because nothing is left to compile.
    """

    run: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)
    save: Callable[[Path], None] | None = None
    in_child: bool = False
    first_counts: bool = True


def prepare(work: Work) -> Ready:
    """Load what the candidate needs, before its first run."""
    if work.output:
        Path(work.output).mkdir(parents=True, exist_ok=True)
    if work.candidate.kind == "command":
        return _command(work)
    if work.candidate.kind == "plain":
        return _plain(work)
    return _folder(work) if work.sources else _tile(work)


def _plain(work: Work) -> Ready:
    """A baseline."""
    make = BASELINES[work.candidate.backend]
    sources = [Path(source) for source in work.sources]
    tile = real_tile(work.side) if work.side else None
    sizes = {read(source).shape[:2] for source in sources} if tile is None else {tile.shape[:2]}
    plain = {size: make(work.model, work.onnx, work.value_range, (1, 3, *size)) for size in sizes}
    facts = {"precision": plain[min(sizes)].precision, "threads": plain[min(sizes)].threads, "device": "cpu"}
    if tile is not None:
        batch = np.ascontiguousarray(tile.transpose(2, 0, 1)[None])
        results: list[np.ndarray] = []

        def run() -> None:
            results[:] = [plain[tile.shape[:2]].run(batch)]

        return Ready(run, facts, lambda path: np.save(path, results[0]))

    def loop() -> None:
        for source in sources:
            image(plain[read(source).shape[:2]], source, Path(work.output) / f"{source.stem}.png")

    return Ready(loop, facts)


def _tile(work: Work) -> Ready:
    """An engine of gankit."""
    import torch

    from gankit.checkpoints import open_model

    loaded, candidate = open_model(work.model), work.candidate
    engine = load_engine(loaded.generator, loaded.facts, candidate.backend, candidate.precision, candidate.device)
    # a view of (H, W, C) pixels, as the pipeline passes them
    batch = torch.from_numpy(real_tile(work.side)).permute(2, 0, 1)[None]
    results: list[torch.Tensor] = []

    def run() -> None:
        results[:] = [engine.run(batch)]

    facts = {"precision": candidate.precision, "device": candidate.device, "threads": engine_threads()}
    return Ready(run, facts, lambda path: np.save(path, results[0].contiguous().numpy()), first_counts=False)


def _folder(work: Work) -> Ready:
    """A pipeline of gankit."""
    candidate = work.candidate
    pipeline = load_pipeline(work.task, work.model, candidate.backend, candidate.precision, candidate.device)
    pipeline(np.zeros((64, 64, 3), np.uint8))  # chooses, loads and compiles
    folder = Path(work.sources[0]).parent
    facts: dict[str, Any] = {"threads": engine_threads()}

    def run() -> None:
        report = pipeline.run([folder], work.output, overwrite=True)
        totals, engine = report.totals, report.engine
        if totals.done != len(work.sources):
            raise RuntimeError(f"{totals.done} of {len(work.sources)} images done: {report.failures}")
        stages = {"decode": totals.decode_seconds, "engine": totals.engine_seconds, "encode": totals.encode_seconds}
        each = ", ".join(f"{name} {value / totals.done * 1e3:.0f}" for name, value in stages.items())
        facts.update(precision=engine.precision, device=engine.device, backend=engine.backend, remark=f"ms in {each}")

    return Ready(run, facts)


def _command(work: Work) -> Ready:
    """``gankit upscale`` as a user types it, with the start of Python, the weights and the (cached) choice."""
    words = [sys.executable, "-c", "import sys; from gankit.cli import main; sys.exit(main())", work.task, "--quiet"]
    folder = str(Path(work.sources[0]).parent)
    command = [*words, "--model", work.model, folder, "--output", work.output, "--overwrite"]

    def run() -> None:
        subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    return Ready(run, {"threads": engine_threads(), "remark": "start included"}, in_child=True)


def peak_mib(in_child: bool) -> float | None:
    """Largest resident memory so far, of this process or of those it has waited for; ``None`` where nobody counts."""
    status = Path("/proc/self/status")
    if not in_child and status.exists():  # where ru_maxrss begins with the memory of the parent
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return None if in_child else float(psutil.Process().memory_info().peak_wset) / 2**20
    used = resource.getrusage(resource.RUSAGE_CHILDREN if in_child else resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**words: Any) -> None:
        print(json.dumps(words), file=answers, flush=True)

    work = Work.from_json(sys.stdin.readline())
    try:
        ready = prepare(work)
        for line in iter(sys.stdin.readline, ""):
            order, _, path = line.strip().partition(" ")
            if order == "save" and ready.save is not None:
                ready.save(Path(path))
            began = time.perf_counter()
            if order == "run":
                ready.run()
            seconds, peak = time.perf_counter() - began, peak_mib(ready.in_child)
            answer(seconds=seconds, peak_mib=peak, facts=ready.facts, first_counts=ready.first_counts)
    except Exception as error:  # libraries raise what they like; the other candidates go on
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        answer(error=lines[0][:300] if lines else type(error).__name__)


if __name__ == "__main__":
    main()
