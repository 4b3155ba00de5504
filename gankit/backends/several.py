"""Several engines that share the calls of one queue: one for each GPU.

Importing this module imports no torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from gankit.backends.base import Engine, Pending
from gankit.backends.memory import is_out_of_memory
from gankit.errors import BackendError, NotFiniteError, first_line

if TYPE_CHECKING:
    from torch import Tensor


class _Call(Pending):
    """A call that waits for an engine, runs, or is complete.

    Args:
        tensors: its inputs.
        changed: guards all calls of the engine; notified when one is complete.
    """

    def __init__(self, tensors: tuple[Tensor, ...], changed: threading.Condition) -> None:
        self.tensors = tensors
        self.failed: dict[int, Exception] = {}
        self._changed = changed
        self._made: Tensor | None = None
        self._error: BaseException | None = None

    def complete(self, made: Tensor | None, error: BaseException | None) -> None:
        """Set the result or the error. The caller holds the condition."""
        self._made, self._error, self.tensors = made, error, ()
        self._changed.notify_all()

    @property
    def is_complete(self) -> bool:
        """Whether there is a result or an error."""
        return self._made is not None or self._error is not None

    def result(self) -> Tensor:
        """See :meth:`Pending.result`."""
        with self._changed:
            while not self.is_complete:  # the timeout lets Ctrl-C through on systems that need it
                self._changed.wait(0.5)
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made


class SeveralEngines(Engine):
    """Spreads calls over engines of one generator that run on different devices.

    Every engine has threads that take the next call from one queue, so that a fast GPU takes more calls than a slow
    one. The caller takes the results in the order in which it submitted the calls.

    A call that fails on one device runs on another. If it succeeds there, the first device is at fault: it gets no
    further calls, and a line names it. A call that fails on all of them is at fault itself, and its error is raised.
    Memory that runs out and values beyond fp16 are raised at once, because the caller knows what to do.

    Args:
        engines: the engines, two or more of the same backend and precision.
        notify: called with a line for each device that fails, from a thread of another one.

    Attributes:
        engines: the engines.
    """

    def __init__(self, engines: Sequence[Engine], notify: Callable[[str], None] | None = None) -> None:
        first = engines[0]
        self.backend, self.precision, self.wants = first.backend, first.precision, first.wants
        self.device = ",".join(engine.device for engine in engines)
        self.artefact, self.tile, self.at_once = first.artefact, first.tile, first.at_once
        self.spread = len(engines)
        self.depth = sum(engine.depth for engine in engines) + len(engines)  # each finds its next call in the queue
        known = [engine.pixel_bytes for engine in engines if engine.pixel_bytes is not None]
        self.pixel_bytes = max(known, default=None)
        self.engines = tuple(engines)
        self._notify = notify
        self._changed = threading.Condition()
        self._queue: list[_Call] = []
        self._doubtful: list[_Call] = []  # calls that failed on an engine and are not complete
        self._usable = set(range(len(engines)))
        self._closed = False
        self._done = [0] * len(engines)
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"{engine.device}-{slot}", daemon=True)
            for index, engine in enumerate(engines)
            for slot in range(engine.depth)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def calls(self) -> dict[str, int]:
        """The number of calls that each device has completed."""
        with self._changed:
            return {engine.device: count for engine, count in zip(self.engines, self._done, strict=True)}

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        return self.submit(*tensors).result()

    def submit(self, *tensors: Tensor) -> Pending:
        """See :meth:`Engine.submit`. All errors are raised with the result."""
        call = _Call(tensors, self._changed)
        with self._changed:
            if self._closed:
                raise BackendError(f"the engines on {self.device} are closed; load new ones")
            self._queue.append(call)
            self._changed.notify_all()
        return call

    def close(self) -> None:
        """Complete the calls that run, drop those that wait, and close the engines."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            for call in self._queue:
                call.complete(None, BackendError(f"the engines on {self.device} were closed"))
            self._queue.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for index, engine in enumerate(self.engines):
            with suppress(*([] if index in self._usable else [Exception])):  # a GPU that failed may not even close
                engine.close()

    def _work(self, index: int) -> None:
        """Run calls on one engine until it fails or all are closed."""
        engine = self.engines[index]
        while (call := self._next(index)) is not None:
            made: Tensor | None = None
            error: Exception | None = None
            try:
                made = engine.submit(*call.tensors).result()
            except Exception as found:
                error = found
            with self._changed:
                lines = self._finish(index, call, made, error)
            del call, made, error  # a thread that waits must not keep an image alive
            for line in lines if self._notify is not None else ():
                self._notify(line)  # type: ignore[misc]

    def _next(self, index: int) -> _Call | None:
        """Wait for a call that an engine has not tried; ``None`` if there will be none.

        An engine on which a call has failed only tries calls that failed on others, until it is known who is at fault.
        """
        with self._changed:
            while True:
                if self._closed or index not in self._usable:
                    return None
                doubtful = any(index in call.failed for call in self._doubtful)
                for position, call in enumerate(self._queue):
                    if index not in call.failed and (call.failed or not doubtful):
                        return self._queue.pop(position)
                self._changed.wait()

    def _finish(self, index: int, call: _Call, made: Tensor | None, error: Exception | None) -> list[str]:
        """Complete a call or leave it to another engine; return a line for each engine that proved to be at fault."""
        self._doubtful = [one for one in self._doubtful if one is not call]
        self._changed.notify_all()
        if error is None:
            self._done[index] += 1
            lines = [self._exclude(one, why) for one, why in call.failed.items() if self._is_one_of_several(one)]
            call.complete(made, None)
            return lines
        if self._closed or isinstance(error, NotFiniteError) or is_out_of_memory(error):
            call.complete(None, error)
            return []
        call.failed[index] = error
        self._leave(call, first=True)
        return []

    def _is_one_of_several(self, index: int) -> bool:
        return index in self._usable and len(self._usable) > 1

    def _leave(self, call: _Call, *, first: bool) -> None:
        """Leave a call to the engines that have not tried it; complete it with its error if there are none."""
        if not self._usable.difference(call.failed):
            call.complete(None, next(reversed(call.failed.values())))
        elif first:
            self._queue.insert(0, call)
            self._doubtful.append(call)

    def _exclude(self, index: int, why: Exception) -> str:
        """Give an engine no further calls."""
        self._usable.discard(index)
        for call in list(self._queue):
            self._leave(call, first=False)
        self._queue = [call for call in self._queue if not call.is_complete]
        self._doubtful = [call for call in self._doubtful if not call.is_complete]
        others = ", ".join(self.engines[one].device for one in sorted(self._usable))
        failed = f"{self.engines[index].device} failed ({first_line(why)}) and is not used any more"
        return f"{failed}; its work runs on {others}"
