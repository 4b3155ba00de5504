"""Decode many damaged files: ``python -m tests.fuzz_images --count 5000 --seed 1``.

Each file is decoded whole, by rows, and frame by frame, in a worker process. It may be read or refused with an
:class:`gankit.errors.ImageError`. Anything else is a failure: another exception, the end of the process, more than 10
seconds of CPU time, or more than 3 GiB of memory. The number of a file and the seed make it again (``--only``).
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz_files import damaged, whole_files

CPU_SECONDS = 10
MEMORY_BYTES = 3 << 30
_WALL_SECONDS = 120  # for a file that waits for something and takes no CPU time
_MAX_BYTES = 1 << 30  # that decoding may take by the estimates of the formats, as with --max-memory
_MAX_PIXELS = 250_000_000


@dataclass(frozen=True)
class Case:
    """A damaged file.

    Attributes:
        number: its number in the run.
        format: name of the format of the whole file.
        damage: what was done to it.
        data: its content.
    """

    number: int
    format: str
    damage: str
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        case: the file.
        kind: "read", "refused", or a failure: "exception", "crash", "hang" or "memory".
        text: the error.
    """

    case: Case
    kind: str
    text: str = ""

    @property
    def failed(self) -> bool:
        """Whether gankit is at fault."""
        return self.kind not in ("read", "refused")


def cases(count: int, seed: int, formats: set[str] | None = None) -> Iterator[Case]:
    """Yield damaged files of all formats in turn."""
    files = {name: found for name, found in whole_files().items() if found and (not formats or name in formats)}
    every = [data for found in files.values() for data in found]
    for number in range(count):
        name = list(files)[number % len(files)]
        rng = random.Random(f"{seed}:{number}")
        damage, data = damaged(rng.choice(files[name]), rng.choice(every), rng)
        yield Case(number, name, damage, data)


def look(path: Path) -> str:
    """Read a file in every way in which gankit reads one. Returns "read" or "refused"."""
    from gankit.errors import ImageError
    from gankit.images import decode
    from gankit.images.frames import distinct_frames, kind_of, probe
    from gankit.images.rows import check_rows, header_of, open_rows
    from gankit.pipeline.workload import declared_pixels

    limits = {"max_pixels": _MAX_PIXELS, "max_bytes": _MAX_BYTES}
    result = "refused"
    for hdr in (False, True):
        with contextlib.suppress(ImageError):
            decode(path, hdr=hdr, **limits)
            result = "read"
    declared_pixels(path, frames=True)
    opened = header_of(path)
    if opened is not None and opened.header.width * opened.header.height < 50_000_000:
        with contextlib.suppress(ImageError):
            check_rows(path, opened, _MAX_PIXELS)
            for _ in open_rows(path, opened).read():
                pass
    with contextlib.suppress(ImageError):
        kind = kind_of(path)
        if kind is not None:
            for _ in distinct_frames(probe(path, kind, **limits), **limits):
                pass
    return result


def _work(connection: Connection, folder: str) -> None:
    """Look at files that arrive until the connection ends."""
    import warnings

    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)  # what libraries print
    path = Path(folder) / f"{os.getpid()}"
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        path.write_bytes(data)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        used = time.process_time()
        # The system ends the process after so many seconds; nothing else stops a loop in C.
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + CPU_SECONDS, resource.RLIM_INFINITY))
        try:
            kind, text = look(path), ""
        except BaseException:
            kind, text = "exception", traceback.format_exc()
        if (peak := _peak()) > MEMORY_BYTES:
            kind, text = "memory", f"{peak / (1 << 30):.1f} GiB"
        elif (seconds := time.process_time() - used) > CPU_SECONDS:
            kind, text = "hang", f"{seconds:.0f} seconds"
        connection.send((kind, text))


def _peak() -> int:
    """Return the largest memory in bytes since it was reset."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class _Worker:
    """A process that looks at one file at a time, and is replaced if it ends."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.case: Case | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, self._folder), daemon=True)
        self._process.start()
        other.close()

    def give(self, case: Case) -> None:
        """Let it look at a file."""
        self.case, self._began = case, time.monotonic()
        self.connection.send_bytes(case.data)

    def outcome(self) -> Outcome | None:
        """Return what became of the file, if that is known."""
        assert self.case is not None
        case = self.case
        try:
            if self.connection.poll():
                kind, text = self.connection.recv()
                self.case = None
                return Outcome(case, kind, text)
            if time.monotonic() - self._began < _WALL_SECONDS:
                return None
            kind, text = "hang", f"no answer in {_WALL_SECONDS} seconds"
        except (EOFError, ConnectionError):
            self._process.join(5)
            code = self._process.exitcode or 0
            kind = "hang" if code == -signal.SIGXCPU else "crash"
            text = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        self.end()
        self._start()
        self.case = None
        return Outcome(case, kind, text)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def run(found: Iterator[Case], workers: int = 2) -> Iterator[Outcome]:
    """Yield what becomes of each file, in any order."""
    with TemporaryDirectory(prefix="gankit-fuzz-") as folder:
        pool = [_Worker(folder) for _ in range(workers)]
        try:
            idle, busy = list(pool), []  # type: list[_Worker], list[_Worker]
            while True:
                while idle and (case := next(found, None)) is not None:
                    worker = idle.pop()
                    worker.give(case)
                    busy.append(worker)
                if not busy:
                    return
                wait([worker.connection for worker in busy], timeout=1.0)
                for worker in list(busy):
                    outcome = worker.outcome()
                    if outcome is not None:
                        busy.remove(worker)
                        idle.append(worker)
                        yield outcome
        finally:
            for worker in pool:
                worker.end()


def summary(outcomes: list[Outcome]) -> list[str]:
    """Return a line for each format, and one for each failure."""
    lines = []
    for name in dict.fromkeys(outcome.case.format for outcome in outcomes):
        kinds = Counter(outcome.kind for outcome in outcomes if outcome.case.format == name)
        lines.append(f"{name:5} {sum(kinds.values()):6} files: " + ", ".join(f"{n} {k}" for k, n in kinds.items()))
    for outcome in outcomes:
        if outcome.failed:
            case, last = outcome.case, (outcome.text.strip().splitlines() or [""])[-1]
            lines.append(f"{outcome.kind}: file {case.number} ({case.format}, {case.damage}): {last}")
    failed = sum(outcome.failed for outcome in outcomes)
    lines.append(f"{len(outcomes)} files, {failed} failures")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a file failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_images", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--count", type=int, default=5000, help="number of files")
    parser.add_argument("--seed", type=int, default=0, help="decides the damage")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    parser.add_argument("--format", action="append", help="damage files of this format only; may be repeated")
    parser.add_argument("--only", type=int, metavar="N", help="look at file N of the run in this process")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the files that fail to DIR")
    options = parser.parse_args(arguments)
    formats = set(options.format or ())
    if options.only is not None:
        case = next(case for case in cases(options.only + 1, options.seed, formats) if case.number == options.only)
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{case.number}.{case.format}"
            path.write_bytes(case.data)
            print(f"{case.format}, {case.damage}: {look(path)}")
        return 0
    outcomes = []
    for outcome in run(cases(options.count, options.seed, formats), options.workers):
        outcomes.append(outcome)
        if outcome.failed:
            print(f"{outcome.kind}: file {outcome.case.number}\n{outcome.text}", file=sys.stderr, flush=True)
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{outcome.case.number}.{outcome.case.format}").write_bytes(outcome.case.data)
    outcomes.sort(key=lambda outcome: outcome.case.number)
    print("\n".join(summary(outcomes)))
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
