"""A thin layer over the calls that only CUDA has, so that all the rest of a step runs on a CPU, too.

The rehearsal imports no torch before a step does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Run = Callable[[], Any]
_CALLS, _ROUNDS = 20, 5


class Device:
    """The rehearsal: the CPU, small sizes, a clock in place of events, no pinned memory and no graphs.

    Attributes:
        name: as torch spells it.
        rehearsal: whether sizes are to be small.
        gpu: the GPU's name.
    """

    name = "cpu"
    rehearsal = True
    gpu = "rehearsal on a CPU"

    def synchronize(self) -> None:
        """Wait until the device has done everything."""

    def wall_ms(self, run: Run, repeats: int = 20) -> float:
        """Median time of a call on the host's clock, from an idle device until it is idle again, in ms."""
        times = []
        for _ in range(self._repeats(repeats)):
            self.synchronize()
            began = time.perf_counter()
            run()
            self.synchronize()
            times.append(time.perf_counter() - began)
        return median(times) * 1e3

    def event_ms(self, run: Run, repeats: int = 20) -> float:
        """Median time between the device's events before and after a call, in ms."""
        return self.wall_ms(run, repeats)

    def kernel_ms(self, run: Run) -> float:
        """Median time of a short call with cold caches, in ms."""
        return self.wall_ms(run)

    def pinned(self, tensor: Tensor) -> Tensor:
        """A copy in page-locked memory, which the device reads and writes by itself."""
        return tensor.clone()

    def graph(self, run: Run) -> Run:
        """Record a call whose tensors stay where they are; the result repeats it."""
        run()
        return run

    def reset_peak(self) -> None:
        """Begin to watch the device's memory."""

    def peak_mib(self) -> float | None:
        """Most memory that tensors have taken since then, in MiB; ``None`` where nobody counts."""
        return None

    def _repeats(self, wanted: int) -> int:
        return 2


class Cuda(Device):
    """The first CUDA GPU."""

    name = "cuda"
    rehearsal = False

    def __init__(self) -> None:
        import torch

        self._torch = torch
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA GPU; --rehearse runs the steps on the CPU")
        self.gpu = torch.cuda.get_device_name(0)

    def synchronize(self) -> None:
        """See :meth:`Device.synchronize`."""
        self._torch.cuda.synchronize()

    def event_ms(self, run: Run, repeats: int = 20) -> float:
        """See :meth:`Device.event_ms`; the calls are queued without waiting in between."""
        pairs = [
            (self._torch.cuda.Event(enable_timing=True), self._torch.cuda.Event(enable_timing=True))
            for _ in range(repeats)
        ]
        for before, after in pairs:
            before.record()
            run()
            after.record()
        self._torch.cuda.synchronize()
        return median(before.elapsed_time(after) for before, after in pairs)

    def kernel_ms(self, run: Run) -> float:
        """See :meth:`Device.kernel_ms`.

        Graphs replay the call with a buffer larger than the L2 cache cleared before each one, and the clearing alone;
        the difference is the GPU's own time, without the processor that launches.
        """
        flushed = self._torch.empty(2**28, dtype=self._torch.uint8, device="cuda")

        def repeat(call: Run | None) -> Run:
            def calls() -> None:
                for _ in range(_CALLS):
                    flushed.zero_()
                    if call is not None:
                        call()

            return self.graph(calls)

        both, alone = repeat(run), repeat(None)
        return (self.event_ms(both, _ROUNDS) - self.event_ms(alone, _ROUNDS)) / _CALLS

    def pinned(self, tensor: Tensor) -> Tensor:
        """See :meth:`Device.pinned`; keeps the order in memory."""
        return self._torch.empty_like(tensor, pin_memory=True, memory_format=self._torch.preserve_format).copy_(tensor)

    def graph(self, run: Run) -> Run:
        """See :meth:`Device.graph`."""
        side = self._torch.cuda.Stream()
        side.wait_stream(self._torch.cuda.current_stream())
        with self._torch.cuda.stream(side):  # kernels compile and libraries allocate before the capture
            for _ in range(3):
                run()
        self._torch.cuda.current_stream().wait_stream(side)
        recorded = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(recorded):
            run()
        return recorded.replay

    def reset_peak(self) -> None:
        """See :meth:`Device.reset_peak`."""
        self._torch.cuda.empty_cache()
        self._torch.cuda.reset_peak_memory_stats()

    def peak_mib(self) -> float | None:
        """See :meth:`Device.peak_mib`."""
        return self._torch.cuda.max_memory_allocated() / 2**20

    def _repeats(self, wanted: int) -> int:
        return wanted
