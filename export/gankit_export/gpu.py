"""A GPU as a runtime other than torch sees it: a stream of its own, memory, and CUDA graphs. The tests replace it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Gpu:
    """One GPU with a stream of its own, because runtimes synchronize after every call on the default one.

    Args:
        device: ``"cuda"``, ``"cuda:1"``, …

    Attributes:
        device: the device, with its number.
    """

    def __init__(self, device: str | torch.device) -> None:
        found = torch.device(device)
        self.device = torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)
        self._stream = torch.cuda.Stream(self.device)

    @property
    def handle(self) -> int:
        """The CUDA stream, as TensorRT takes it."""
        return int(self._stream.cuda_stream)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Queue torch's work on the stream. It waits for what the caller's stream has queued, and the reverse."""
        outer = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outer)
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return uninitialised contiguous memory on the GPU."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.device)

    def synchronize(self) -> None:
        """Wait until the stream is idle."""
        self._stream.synchronize()

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """Record what a function queues on the stream as a CUDA graph, without running it.

        Args:
            queue: queues work that allocates nothing. It must have run once before.

        Returns:
            A function that queues the recorded work.

        Raises:
            RuntimeError: If the work cannot be recorded.
        """
        with torch.cuda.stream(self._stream):
            with torch.inference_mode(False):  # torch's random state must be a tensor that everybody can change
                graph = torch.cuda.CUDAGraph()
                graph.capture_begin(capture_error_mode="thread_local")
            try:
                queue()
            finally:
                graph.capture_end()
        return lambda: _replay(graph)


def _replay(graph: Any) -> None:
    graph.replay()
