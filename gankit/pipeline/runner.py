"""Decode, compute and encode at the same time, in bounded memory. Imports no torch.

The engine runs in the caller's thread, where Ctrl-C reaches it. Decoders and encoders have threads of their own. An
error of one image is recorded with its name, and the run continues with the others. An error of the output stops the
run. Any other exception is a bug and is raised by ``run`` with its traceback. All threads end before the run does. They
complete the files that they are writing, and begin no others.

An image for which there is no memory beside the others waits until those are written, and then has all memory for
itself. Only if it does not fit even then, it fails, or somebody else takes it.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from gankit.errors import ImageError, OutputError
from gankit.memory import release
from gankit.pipeline.flow import Budget, Channel, Stop, Stopped
from gankit.pipeline.items import Batching, Item, Progress, error_message, failure, size, success
from gankit.pipeline.report import ImageReport
from gankit.pipeline.run_state import RunState
from gankit.pipeline.shared_calls import IMAGE_ERRORS, SubmittedCall, filled_call, submitted_call
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.images import DecodedImage

Decode = Callable[[Path], "DecodedImage"]
Work = Callable[["DecodedImage", Callable[[float], None]], "DecodedImage"]
Encode = Callable[["DecodedImage", Path], "tuple[str, ...] | None"]

# Errors that concern the whole output. All others concern one file.
_OUTPUT_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EEXIST}
)


@dataclass
class Runner:
    """Runs jobs from source files to target files.

    Attributes:
        decode: reads an image; raises :class:`ImageError` if it cannot.
        work: processes an image and reports the fraction that is done.
        encode: writes an image, completely or not at all, and returns a sentence for each part that it does not hold.
        cost: returns the bytes that a decoded image and its result take.
        max_bytes: largest number of bytes in flight, not counting the image that each decoder is reading.
        decoders: number of decoding threads.
        encoders: number of encoding threads.
        progress: called after each step of the engine and each image, from any thread, one call at a time.
        record: called with the report of each image as soon as it is known, from any thread.
        batching: how several images share a call of the engine; ``None`` runs one image at a time.
        check: called with each decoded image and its target before the engine runs; raises :class:`ImageError` if the
            result could not be written.
        finish: called with each result before it is encoded, in the thread of the encoder; ``None`` changes nothing.
        alone: whether an image is decoded only once the one before it is written.
        in_order: whether the results are needed in their order, so that no image can wait for those behind it.
        claim: called with each job before it is read; returns whether to run it, and not leave it to another run.
        put_off: called with each job that waits until the others are done, to release what is kept of its source.
        too_large: called with a job whose image does not fit into memory, even alone unless ``in_order``, and the line
            that says so. Returns the line to record, or ``None`` if the job was taken over and gets no report here.
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
    check: Callable[[DecodedImage, Path], None] | None = None
    finish: Callable[[DecodedImage], DecodedImage] | None = None
    alone: bool = False
    in_order: bool = False
    claim: Callable[[Job], bool] | None = None
    put_off: Callable[[Job], None] | None = None
    too_large: Callable[[Job, str], str | None] | None = None
    _state: RunState = field(default_factory=lambda: RunState(0), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _later: dict[int, Job] = field(default_factory=dict, init=False)
    _one: bool = field(default=False, init=False)  # image at a time

    def run(self, jobs: Sequence[Job]) -> list[ImageReport]:
        """Run the jobs.

        Args:
            jobs: jobs with different targets.

        Returns:
            One report for each job in their order, each ``"done"`` or ``"failed"``, but for those that
            :attr:`too_large` took over or :attr:`claim` refused.

        Raises:
            OutputError: If the output cannot be written.
            GankitError: If the engine cannot continue.
            KeyboardInterrupt: If the user presses Ctrl-C.
        """
        self._state, self._later = RunState(len(jobs), self.progress, self.record), {}
        self._one = self.alone or len(jobs) == 1
        self._run(list(enumerate(jobs)))
        if self._later:
            later, self._one = sorted(self._later.items()), True
            release()
            self._run(later)
        return [self._state.reports[index] for index in range(len(jobs)) if index in self._state.reports]

    def _run(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Run numbered jobs, one at a time or as many as fit beside each other."""
        stop = Stop()
        waiting = max(2, self.batching.largest if self.batching else 0)
        decoded: Channel[Item] = Channel(waiting, stop, producers=self.decoders)
        finished: Channel[Item] = Channel(2 * self.encoders, stop)
        budget = Budget(self.max_bytes, stop)
        queue = iter(jobs)
        reading, writing = (stop, self._read, queue, decoded, budget, stop), (stop, self._write, finished, budget)
        readers = [threading.Thread(target=self._guard, args=reading, name=f"decode-{n}") for n in range(self.decoders)]
        writers = [threading.Thread(target=self._guard, args=writing, name=f"encode-{n}") for n in range(self.encoders)]
        try:
            for thread in (*readers, *writers):
                thread.start()
            self._work(decoded, finished, budget, stop)
            finished.close()
            with self._state.waiting("waited_to_encode"):
                for thread in writers:
                    thread.join()
            self._state.changed()
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

    @staticmethod
    def _guard(stop: Stop, body: Callable[..., None], *args: object) -> None:
        """Run the body of a thread. An exception stops the run, which raises it."""
        try:
            body(*args)
        except Stopped:
            pass
        except BaseException as error:
            stop(error)

    def _read(self, queue: Iterator[tuple[int, Job]], decoded: Channel[Item], budget: Budget, stop: Stop) -> None:
        while True:
            stop.check()  # broken images never reach a wait that would notice the end
            with self._lock:
                entry = next(queue, None)
            if entry is None:
                decoded.close()
                return
            index, job = entry
            if self.claim is not None and not self.claim(job):
                continue
            if self._one:
                budget.take(self.max_bytes)  # all of it, which is free once the image before is written
            began = perf_counter()
            try:
                image = self.decode(job.source)
                if self.check is not None:
                    self.check(image, job.target)
            except (ImageError, OSError, MemoryError) as error:
                self._fail(index, job, error, decode_seconds=perf_counter() - began)
                if self._one:
                    budget.give(self.max_bytes)
                continue
            seconds = perf_counter() - began
            cost = self.max_bytes if self._one else self.cost(image)
            if not self._one:
                budget.take(cost)
            decoded.put(Item(index, job, image, cost, seconds, size(image), notes=image.notes))
            del image  # a waiting thread must not keep an image alive that the budget no longer counts

    def _work(self, decoded: Channel[Item], finished: Channel[Item], budget: Budget, stop: Stop) -> None:
        submitted: deque[SubmittedCall] = deque()
        arriving = iter(decoded)
        while True:
            # While calls are submitted nothing waits here, because they hold bytes that decoders may wait for.
            with self._state.waiting("waited_to_decode"):
                first = decoded.take(lambda item: True) if submitted else next(arriving, None)
            if first is None:
                if not submitted:
                    return
                self._complete(submitted.popleft(), finished, budget, stop)
                continue
            items = filled_call(first, decoded, self.batching)
            del first
            if (call := submitted_call(items, self.batching)) is not None:
                self._state.changed(current=items[0].job.source, fraction=0.0)
                submitted.append(call)
                del items, call
                if self.batching is not None and len(submitted) >= self.batching.depth:
                    self._complete(submitted.popleft(), finished, budget, stop)
                continue
            while submitted:  # results keep their order
                self._complete(submitted.popleft(), finished, budget, stop)
            self._work_now(items, finished, budget, stop)

    def _work_now(self, items: list[Item], finished: Channel[Item], budget: Budget, stop: Stop) -> None:
        """Process images in one call if that succeeds, or else one after the other. Empties the list."""
        if len(items) > 1 and self._work_batch(items):
            while items:
                self._pass_on(items.pop(0), finished)
        while items:
            item = items.pop(0)
            if self._work_alone(item, stop):
                self._pass_on(item, finished)
                del item
            else:
                cost = item.cost
                del item  # a waiting thread must not keep an image alive that the budget no longer counts
                budget.give(cost)

    def _complete(self, call: SubmittedCall, finished: Channel[Item], budget: Budget, stop: Stop) -> None:
        """Wait for a call of the engine, and pass its images on."""
        began = perf_counter()
        results: list[DecodedImage] | None = None
        with suppress(*IMAGE_ERRORS):  # processing each alone shows which one failed
            results = call.finish()
        if results is None:
            del call.finish
            self._work_now(call.items, finished, budget, stop)
            return
        seconds = (call.seconds + perf_counter() - began) / len(call.items)
        for item, result in zip(call.items, results, strict=True):
            item.image, item.engine_seconds = result, seconds
        del results, item, result, call.finish  # only the items keep the images alive
        while call.items:
            self._pass_on(call.items.pop(0), finished)

    def _pass_on(self, item: Item, finished: Channel[Item]) -> None:
        with self._state.waiting("waited_to_encode"):
            finished.put(item)

    def _work_batch(self, items: Sequence[Item]) -> bool:
        """Process several images in one call; return whether it succeeded."""
        assert self.batching is not None
        began = perf_counter()
        self._state.changed(current=items[0].job.source, fraction=0.0)
        try:
            results = self.batching.work([item.image for item in items])
        except IMAGE_ERRORS:
            return False  # processing each alone shows which one failed
        seconds = (perf_counter() - began) / len(items)
        for item, result in zip(items, results, strict=True):
            item.image, item.engine_seconds = result, seconds
        return True

    def _work_alone(self, item: Item, stop: Stop) -> bool:
        """Process one image; return whether it succeeded."""

        def progress(part: float) -> None:
            if stop.set:
                raise Stopped
            self._state.changed(current=item.job.source, fraction=part)

        began = perf_counter()
        self._state.changed(current=item.job.source, fraction=0.0)
        try:
            item.image = self.work(item.image, progress)
        except IMAGE_ERRORS as error:
            self._fail(item.index, item.job, error, item, engine_seconds=perf_counter() - began)
            return False
        item.engine_seconds = perf_counter() - began
        return True

    def _write(self, finished: Channel[Item], budget: Budget) -> None:
        for item in finished:
            began = perf_counter()
            try:
                item.job.target.parent.mkdir(parents=True, exist_ok=True)
                if self.finish is not None:
                    item.image = self.finish(item.image)
                    item.notes = item.image.notes
                lost = self.encode(item.image, item.job.target) or ()
            except (ImageError, MemoryError) as error:
                self._fail(item.index, item.job, error, item, encode_seconds=perf_counter() - began)
            except OSError as error:
                if error.errno in _OUTPUT_ERRORS:
                    raise OutputError(f"{item.job.target}: cannot be written: {error.strerror}") from error
                self._fail(item.index, item.job, error, item, encode_seconds=perf_counter() - began)
            else:
                self._state.add(item.index, success(item, perf_counter() - began, lost))
            cost = item.cost
            del item
            budget.give(cost)

    def _fail(self, index: int, job: Job, error: Exception, item: Item | None = None, **seconds: float) -> None:
        """Record an image that failed, with the seconds of the step in which it did.

        One that found no memory beside others waits until it is alone.
        """
        message: str | None = error_message(job, error)
        if isinstance(error, MemoryError):
            if not self._one and not self.in_order:
                if self.put_off is not None:
                    self.put_off(job)
                with self._lock:
                    self._later[index] = job
                return
            if self.too_large is not None and message is not None:
                message = self.too_large(job, message)
        if message is not None:
            self._state.add(index, failure(job, message, item, **seconds))
