"""Decoders, engine and encoders at work at once, in bounded memory. Imports no torch.

The engine runs in the caller's thread, so that Ctrl-C reaches it; decoders and encoders have threads of their own.
What goes wrong with one picture is kept with its name and the others go on; what goes wrong with the output stops
the run; anything else is a fault of ours and leaves ``run`` with its own traceback. However the run ends, the
threads have ended before it does: a file being written is finished, the others are not begun.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gankit.errors import GankitError, ImageError, NotFiniteError, OutputError
from gankit.pipeline.flow import Budget, Channel, Stop, Stopped
from gankit.pipeline.inputs import Job
from gankit.pipeline.report import PictureReport

if TYPE_CHECKING:
    from gankit.images import Picture

Decode = Callable[[Path], "Picture"]
Work = Callable[["Picture", Callable[[float], None]], "Picture"]
Encode = Callable[["Picture", Path], None]

# What the whole output suffers from; any other trouble with a file is that file's own.
_OUTPUT_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EEXIST}
)


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        total: pictures to do, without the skipped ones.
        done: pictures written.
        failed: pictures given up.
        output_mp: million pixels written.
        seconds: since the run began.
        current: the picture in the engine.
        fraction: the part of it that is done, 0 to 1.
    """

    total: int
    done: int = 0
    failed: int = 0
    output_mp: float = 0.0
    seconds: float = 0.0
    current: Path | None = None
    fraction: float = 0.0


@dataclass
class _Item:
    """A picture on its way, and what it has cost so far."""

    index: int
    job: Job
    picture: Picture
    cost: int
    decode_seconds: float
    input_size: tuple[int, int]
    engine_seconds: float = 0.0


@dataclass
class Runner:
    """Takes jobs from files to files.

    Attributes:
        decode: reads a picture; :class:`ImageError` where it cannot.
        work: upscales one, reporting the part that is done.
        encode: writes one, whole or not at all.
        cost: bytes that a decoded picture and its result take.
        max_bytes: bytes of pictures in flight, not counting the one in each decoder's hands.
        decoders: threads that read.
        encoders: threads that write.
        progress: called after each step of the engine and each picture, one call at a time, from any thread.
        record: called with each picture's report as soon as it is known, from any thread.
    """

    decode: Decode
    work: Work
    encode: Encode
    cost: Callable[[Picture], int]
    max_bytes: int = 1 << 30
    decoders: int = 1
    encoders: int = 1
    progress: Callable[[Progress], None] | None = None
    record: Callable[[PictureReport], None] | None = None
    _reports: dict[int, PictureReport] = field(default_factory=dict, init=False)
    _state: Progress = field(default=Progress(0), init=False)
    _began: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _telling: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, jobs: Sequence[Job]) -> list[PictureReport]:
        """Do the jobs.

        Args:
            jobs: with different targets.

        Returns:
            One report for each job, in their order, ``"done"`` or ``"failed"``.

        Raises:
            OutputError: the output can take nothing more.
            GankitError: the engine cannot go on.
            KeyboardInterrupt: Ctrl-C.
        """
        self._reports, self._state, self._began = {}, Progress(len(jobs)), perf_counter()
        stop = Stop()
        decoded: Channel[_Item] = Channel(2, stop, producers=self.decoders)
        finished: Channel[_Item] = Channel(2 * self.encoders, stop)
        budget = Budget(self.max_bytes, stop)
        queue = iter(enumerate(jobs))
        readers = [
            threading.Thread(
                target=self._guard, args=(stop, self._read, queue, decoded, budget, stop), name=f"decode-{n}"
            )
            for n in range(self.decoders)
        ]
        writers = [
            threading.Thread(target=self._guard, args=(stop, self._write, finished, budget), name=f"encode-{n}")
            for n in range(self.encoders)
        ]
        try:
            for thread in (*readers, *writers):
                thread.start()
            self._work(decoded, finished, budget, stop)
            finished.close()
            for thread in writers:
                thread.join()
        except Stopped:
            pass  # the cause is raised below, once all threads have ended
        except BaseException:
            stop()
            raise
        finally:
            stop()
            for thread in (*readers, *writers):
                if thread.ident is not None:
                    thread.join()
        if stop.cause is not None:
            raise stop.cause
        return [self._reports[index] for index in range(len(jobs))]

    @staticmethod
    def _guard(stop: Stop, body: Callable[..., None], *args: object) -> None:
        """Run a thread's body; what it raises ends the run and is raised there."""
        try:
            body(*args)
        except Stopped:
            pass
        except BaseException as error:
            stop(error)

    def _read(self, queue: Iterator[tuple[int, Job]], decoded: Channel[_Item], budget: Budget, stop: Stop) -> None:
        while True:
            stop.check()  # broken pictures wait for nothing that would notice the end
            with self._lock:
                entry = next(queue, None)
            if entry is None:
                decoded.close()
                return
            index, job = entry
            began = perf_counter()
            try:
                picture = self.decode(job.source)
            except (ImageError, OSError, MemoryError) as error:
                self._fail(index, job, error, decode_seconds=perf_counter() - began)
                continue
            seconds = perf_counter() - began
            cost = self.cost(picture)
            budget.take(cost)
            decoded.put(_Item(index, job, picture, cost, seconds, _size(picture)))
            del picture  # while this thread waits it must keep nothing alive that the budget no longer counts

    def _work(self, decoded: Channel[_Item], finished: Channel[_Item], budget: Budget, stop: Stop) -> None:
        for item in decoded:

            def watch(part: float, source: Path = item.job.source) -> None:
                if stop.set:
                    raise Stopped
                self._tell(current=source, fraction=part)

            began = perf_counter()
            self._tell(current=item.job.source, fraction=0.0)
            try:
                item.picture = self.work(item.picture, watch)
            except (ImageError, NotFiniteError, MemoryError) as error:
                seconds = perf_counter() - began
                self._fail(item.index, item.job, error, item, engine_seconds=seconds)
                cost = item.cost
                del item  # likewise
                budget.give(cost)
                continue
            item.engine_seconds = perf_counter() - began
            finished.put(item)
            del item

    def _write(self, finished: Channel[_Item], budget: Budget) -> None:
        for item in finished:
            began = perf_counter()
            try:
                item.job.target.parent.mkdir(parents=True, exist_ok=True)
                self.encode(item.picture, item.job.target)
            except (ImageError, MemoryError) as error:
                self._fail(item.index, item.job, error, item, encode_seconds=perf_counter() - began)
            except OSError as error:
                if error.errno in _OUTPUT_ERRORS:
                    raise OutputError(f"{item.job.target}: cannot be written: {error.strerror}") from error
                self._fail(item.index, item.job, error, item, encode_seconds=perf_counter() - began)
            else:
                self._record(
                    item.index,
                    PictureReport(
                        item.job.source,
                        item.job.target,
                        "done",
                        input_size=item.input_size,
                        output_size=_size(item.picture),
                        decode_seconds=item.decode_seconds,
                        engine_seconds=item.engine_seconds,
                        encode_seconds=perf_counter() - began,
                    ),
                )
            cost = item.cost
            del item
            budget.give(cost)

    def _fail(
        self,
        index: int,
        job: Job,
        error: Exception,
        item: _Item | None = None,
        *,
        decode_seconds: float = 0.0,
        engine_seconds: float = 0.0,
        encode_seconds: float = 0.0,
    ) -> None:
        self._record(
            index,
            PictureReport(
                job.source,
                job.target,
                "failed",
                error=_words(job, error),
                input_size=item.input_size if item else None,
                decode_seconds=item.decode_seconds if item else decode_seconds,
                engine_seconds=engine_seconds or (item.engine_seconds if item else 0.0),
                encode_seconds=encode_seconds,
            ),
        )

    def _record(self, index: int, report: PictureReport) -> None:
        with self._lock:
            self._reports[index] = report
            if report.status == "failed":
                self._state = replace(self._state, failed=self._state.failed + 1)
            elif report.output_size:
                pixels = report.output_size[0] * report.output_size[1]
                self._state = replace(
                    self._state, done=self._state.done + 1, output_mp=self._state.output_mp + pixels / 1e6
                )
        self._tell()
        if self.record is not None:
            self.record(report)

    def _tell(self, **changes: Any) -> None:
        """Pass the state on, one call at a time."""
        with self._lock:
            self._state = replace(self._state, seconds=perf_counter() - self._began, **changes)
            state = self._state
        if self.progress is not None:
            with self._telling:
                self.progress(state)


def _size(picture: Picture) -> tuple[int, int]:
    height, width = picture.pixels.shape[:2]
    return width, height


def _words(job: Job, error: Exception) -> str:
    """One line that begins with the picture's name."""
    if isinstance(error, MemoryError) and not isinstance(error, GankitError):
        reason = "too large for the memory of this machine: close other programs, or upscale parts of it"
        return f"{job.source}: {reason}"
    if isinstance(error, OSError):
        return f"{job.source}: {error.strerror or error}"
    text = " ".join(str(error).split())
    return text if str(job.source) in text else f"{job.source}: {text}"
