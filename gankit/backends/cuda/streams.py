"""One GPU as the engine sees it: three streams, events between them, pinned memory, and recorded graphs.

Everything that only CUDA has is behind :class:`Cuda`, so that the tests can replace it by a GPU that runs each stream's
work as late as its events allow, which shows every missing wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from gankit.backends.cuda.pinned import PinnedMemory
from gankit.backends.pieces import Move

Lane = Literal["into", "compute", "out"]
Function = Callable[..., tuple[Tensor, ...]]
Event = Any  # of torch.cuda


class Recording:
    """A CUDA graph with the tensors that it reads and writes. :meth:`Cuda.replay` runs it.

    Attributes:
        graph: the graph.
        given: its inputs, on the device.
        made: its outputs, on the device, which each replay overwrites.
    """

    def __init__(self, graph: Any, given: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> None:
        self.graph, self.given, self.made = graph, given, made


class Cuda:
    """One GPU. Threads may share an instance; whoever queues work holds :attr:`lock`.

    Args:
        index: number of the GPU.

    Attributes:
        lock: held while work is queued, so that the steps of one call stay together, and that nothing else is queued
            while a graph is recorded.
        pinned: pinned memory of the host.
    """

    def __init__(self, index: int) -> None:
        self.lock = threading.RLock()
        self.pinned = PinnedMemory()
        self._device = torch.device("cuda", index)
        names: tuple[Lane, ...] = ("into", "compute", "out")
        self._lanes = {name: torch.cuda.Stream(self._device) for name in names}
        self._recorder = torch.cuda.Stream(self._device)
        self._broken: list[Any] = []

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether the GPU can copy a tensor of the host by itself."""
        return tensor.is_pinned()

    def upload(self, host: Tensor, lane: Lane) -> Tensor:
        """Queue a copy to the GPU. Its layout stays the same. The caller keeps ``host`` until the copy is complete."""
        with torch.cuda.stream(self._lanes[lane]):
            return host.to(self._device, non_blocking=True)

    def download(self, source: Tensor, host: Tensor, lane: Lane) -> None:
        """Queue a copy from the GPU. The caller keeps ``source`` until the copy is complete."""
        with torch.cuda.stream(self._lanes[lane]):
            host.copy_(source, non_blocking=True)

    def call(self, function: Function, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Queue a computation on the lane ``compute``."""
        with torch.cuda.stream(self._lanes["compute"]):
            return function(*given)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return memory of the GPU for an image (N, C, H, W), channels_last, which the lane ``compute`` may fill."""
        with torch.cuda.stream(self._lanes["compute"]):
            return torch.empty(tuple(shape), dtype=dtype, device=self._device, memory_format=torch.channels_last)

    def paste(self, canvas: Tensor, tiles: Tensor, moves: Sequence[Move]) -> None:
        """Queue copies of parts of tiles to their places in an image, on the lane ``compute``."""
        with torch.cuda.stream(self._lanes["compute"]):
            for move in moves:
                move.copy(tiles, canvas)

    def record(self, lane: Lane, *, timed: bool = False) -> Event:
        """Return an event that occurs when everything that is queued on a lane is complete."""
        event = torch.cuda.Event(enable_timing=timed)
        event.record(self._lanes[lane])
        return event

    def wait(self, lane: Lane, event: Event) -> None:
        """Let a lane wait for an event before it runs what is queued next. The processor does not wait."""
        self._lanes[lane].wait_event(event)

    def capture(self, function: Function, given: Sequence[Tensor], pool: Any) -> Recording:
        """Record a computation as a CUDA graph, without running it.

        Another thread may use the GPU in the meantime. The computation must have run once in this thread, because
        libraries load, allocate and compile in their first call.

        Args:
            function: the computation.
            given: inputs of the shapes and layouts that later calls will have.
            pool: the result of :meth:`graph_pool`, from which the graph takes its memory. Graphs that share it must not
                run at the same time.

        Raises:
            RuntimeError: If the computation cannot be recorded, for example because it waits for the GPU.
        """
        with torch.cuda.stream(self._lanes["compute"]):
            inputs = tuple(torch.empty_like(item) for item in given)
        with torch.cuda.stream(self._recorder):
            with torch.inference_mode(False):  # torch's random state must be a tensor that everybody can change
                graph = torch.cuda.CUDAGraph()
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                made = function(*inputs)
            except BaseException:
                self._abandon(graph, pool)
                raise
            try:
                graph.capture_end()
            except BaseException:
                self._abandon(graph, pool, ended=True)
                raise
        return Recording(graph, inputs, made)

    def _abandon(self, graph: Any, pool: Any, *, ended: bool = False) -> None:
        """End a capture that failed. torch's allocator still refers to the graph, so it is kept."""
        self._broken.append(graph)
        if not ended:
            try:
                graph.capture_end()
            except Exception:  # the error that made it fail is more telling
                ended = True
        if ended:  # torch does not reach this when the driver refuses to end the capture
            with suppress(Exception):
                torch._C._cuda_endAllocateToPool(self._device.index, pool)
                torch._C._cuda_releasePool(self._device.index, pool)

    def replay(self, recording: Recording, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Queue a recorded computation on the lane ``compute``, and return copies of its outputs."""
        with torch.cuda.stream(self._lanes["compute"]):
            for held, item in zip(recording.given, given, strict=True):
                held.copy_(item)
            recording.graph.replay()
            return tuple(item.clone() for item in recording.made)

    def graph_pool(self) -> Any:
        """Return a handle to memory for graphs."""
        return torch.cuda.graph_pool_handle()

    def milliseconds(self, before: Event, after: Event) -> float:
        """Return the time between two timed events that have occurred."""
        return float(before.elapsed_time(after))

    def synchronize(self) -> None:
        """Wait until the lanes are idle."""
        for lane in self._lanes.values():
            lane.synchronize()

    def settle(self) -> None:
        """Wait for everything on the GPU, such as weights that were copied on another stream."""
        torch.cuda.synchronize(self._device)

    def empty_cache(self) -> None:
        """Return memory that torch keeps, but does not use, to the driver."""
        torch.cuda.empty_cache()


def cuda_of(device: str) -> Cuda:
    """Return the GPU of a device. Engines of one GPU share its streams and its pinned memory.

    Args:
        device: ``"cuda"``, ``"cuda:1"``, …
    """
    index = torch.device(device).index
    return _cuda(torch.cuda.current_device() if index is None else index)


@cache
def _cuda(index: int) -> Cuda:
    return Cuda(index)
