"""Decoders, engine and encoders at work at once, in bounded memory. Imports no torch.

The engine runs in the caller's thread, so that Ctrl-C reaches it; decoders and encoders have threads of their own.
What goes wrong with one image is kept with its name and the others go on; what goes wrong with the output stops
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

from gankit.errors import ImageError, NotFiniteError, OutputError
from gankit.pipeline.flow import Budget, Channel, Stop, Stopped
from gankit.pipeline.inputs import Job
from gankit.pipeline.items import Batching, Item, Progress, error_message, size
from gankit.pipeline.report import ImageReport

if TYPE_CHECKING:
    from gankit.images import DecodedImage

Decode = Callable[[Path], "DecodedImage"]
Work = Callable[["DecodedImage", Callable[[float], None]], "DecodedImage"]
Encode = Callable[["DecodedImage", Path], "tuple[str, ...] | None"]

_IMAGE_ERRORS = (ImageError, NotFiniteError, MemoryError)  # of one image: the others go on

# What the whole output suffers from; any other trouble with a file is that file's own.
_OUTPUT_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EEXIST}
)


@dataclass
class Runner:
    """Takes jobs from files to files.

    Attributes:
        decode: reads an image; :class:`ImageError` where it cannot.
        work: upscales one, reporting the part that is done.
        encode: writes one, whole or not at all.
        cost: bytes that a decoded image and its result take.
        max_bytes: bytes of images in flight, not counting the one in each decoder's hands.
        decoders: threads that read.
        encoders: threads that write.
        progress: called after each step of the engine and each image, one call at a time, from any thread.
        record: called with each image's report as soon as it is known, from any thread.
        batching: how several images share a call of the engine; ``None`` for one image at a time.
    """

    decode: Decode
    work: Work
    encode: Encode
    cost: Callable[[DecodedImage], int]
    max_bytes: int = 1 << 30
    decoders: int = 1
    encoders: int = 1
    progress: Callable[[Progress], None] | None = None
    record: Callable[[ImageReport], None] | None = None
    batching: Batching | None = None
    _reports: dict[int, ImageReport] = field(default_factory=dict, init=False)
    _state: Progress = field(default=Progress(0), init=False)
    _began: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _progress_lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, jobs: Sequence[Job]) -> list[ImageReport]:
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
        waiting = max(2, self.batching.largest if self.batching else 0)
        decoded: Channel[Item] = Channel(waiting, stop, producers=self.decoders)
        finished: Channel[Item] = Channel(2 * self.encoders, stop)
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

    def _read(self, queue: Iterator[tuple[int, Job]], decoded: Channel[Item], budget: Budget, stop: Stop) -> None:
        while True:
            stop.check()  # broken images wait for nothing that would notice the end
            with self._lock:
                entry = next(queue, None)
            if entry is None:
                decoded.close()
                return
            index, job = entry
            began = perf_counter()
            try:
                image = self.decode(job.source)
            except (ImageError, OSError, MemoryError) as error:
                self._fail(index, job, error, decode_seconds=perf_counter() - began)
                continue
            seconds = perf_counter() - began
            cost = self.cost(image)
            budget.take(cost)
            decoded.put(Item(index, job, image, cost, seconds, size(image)))
            del image  # while this thread waits it must keep nothing alive that the budget no longer counts

    def _work(self, decoded: Channel[Item], finished: Channel[Item], budget: Budget, stop: Stop) -> None:
        for first in decoded:
            items = [first, *self._others(first, decoded)]
            del first
            if len(items) > 1 and self._work_batch(items):
                for item in items:
                    finished.put(item)
                    del item
                continue
            while items:
                item = items.pop(0)
                if self._work_alone(item, stop):
                    finished.put(item)
                    del item
                else:
                    cost = item.cost
                    del item  # likewise
                    budget.give(cost)

    def _others(self, first: Item, decoded: Channel[Item]) -> list[Item]:
        """Those that wait already and go with the first."""
        if self.batching is None:
            return []
        key, largest = self.batching.key(first.image)
        others: list[Item] = []
        while len(others) < largest - 1:
            item = decoded.take(lambda item: self.batching is not None and self.batching.key(item.image)[0] == key)
            if item is None:
                break
            others.append(item)
        return others

    def _work_batch(self, items: Sequence[Item]) -> bool:
        """Several images in one call; whether that was done."""
        assert self.batching is not None
        began = perf_counter()
        self._report_progress(current=items[0].job.source, fraction=0.0)
        try:
            results = self.batching.work([item.image for item in items])
        except _IMAGE_ERRORS:
            return False  # which of them it was shows when each is alone
        seconds = (perf_counter() - began) / len(items)
        for item, result in zip(items, results, strict=True):
            item.image, item.engine_seconds = result, seconds
        return True

    def _work_alone(self, item: Item, stop: Stop) -> bool:
        """One image; whether it was done."""

        def progress(part: float) -> None:
            if stop.set:
                raise Stopped
            self._report_progress(current=item.job.source, fraction=part)

        began = perf_counter()
        self._report_progress(current=item.job.source, fraction=0.0)
        try:
            item.image = self.work(item.image, progress)
        except _IMAGE_ERRORS as error:
            self._fail(item.index, item.job, error, item, engine_seconds=perf_counter() - began)
            return False
        item.engine_seconds = perf_counter() - began
        return True

    def _write(self, finished: Channel[Item], budget: Budget) -> None:
        for item in finished:
            began = perf_counter()
            try:
                item.job.target.parent.mkdir(parents=True, exist_ok=True)
                self.encode(item.image, item.job.target)
            except (ImageError, MemoryError) as error:
                self._fail(item.index, item.job, error, item, encode_seconds=perf_counter() - began)
            except OSError as error:
                if error.errno in _OUTPUT_ERRORS:
                    raise OutputError(f"{item.job.target}: cannot be written: {error.strerror}") from error
                self._fail(item.index, item.job, error, item, encode_seconds=perf_counter() - began)
            else:
                self._record(
                    item.index,
                    ImageReport(
                        item.job.source,
                        item.job.target,
                        "done",
                        input_size=item.input_size,
                        output_size=size(item.image),
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
        item: Item | None = None,
        *,
        decode_seconds: float = 0.0,
        engine_seconds: float = 0.0,
        encode_seconds: float = 0.0,
    ) -> None:
        self._record(
            index,
            ImageReport(
                job.source,
                job.target,
                "failed",
                error=error_message(job, error),
                input_size=item.input_size if item else None,
                decode_seconds=item.decode_seconds if item else decode_seconds,
                engine_seconds=engine_seconds or (item.engine_seconds if item else 0.0),
                encode_seconds=encode_seconds,
            ),
        )

    def _record(self, index: int, report: ImageReport) -> None:
        with self._lock:
            self._reports[index] = report
            if report.status == "failed":
                self._state = replace(self._state, failed=self._state.failed + 1)
            elif report.output_size:
                pixels = report.output_size[0] * report.output_size[1]
                self._state = replace(
                    self._state, done=self._state.done + 1, output_mp=self._state.output_mp + pixels / 1e6
                )
        self._report_progress()
        if self.record is not None:
            self.record(report)

    def _report_progress(self, **changes: Any) -> None:
        """Pass the state on, one call at a time."""
        with self._lock:
            self._state = replace(self._state, seconds=perf_counter() - self._began, **changes)
            state = self._state
        if self.progress is not None:
            with self._progress_lock:
                self.progress(state)
