"""Runs a module on a GPU so that the GPU never waits for the host: pinned copies beside the computation, and graphs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gankit.backends.base import EngineSpec, Pending, tensor_of
from gankit.backends.cuda.graphs import Graphs
from gankit.backends.cuda.stitching import fits, stitched
from gankit.backends.cuda.streams import Cuda, Event, Lane, cuda_of
from gankit.backends.cuda.switches import graphs_wanted
from gankit.backends.memory import is_out_of_memory
from gankit.backends.modules import ModuleEngine, not_finite
from gankit.backends.pieces import Pieces
from gankit.backends.pixels import check

_DEPTH = 2


class _Flight:
    """A call on the GPU, which keeps every tensor alive that the GPU still reads or writes.

    Args:
        done: occurs when the GPU is done with the call.
        held: the tensors.
    """

    def __init__(self, done: Event, held: Sequence[Tensor]) -> None:
        self._done = done
        self._held: tuple[Tensor, ...] = tuple(held)

    def wait(self) -> None:
        """Wait until the GPU is done with the call, and release the tensors."""
        self._done.synchronize()
        self._held = ()

    def complete(self) -> bool:
        """Whether the GPU is done with the call. If it is, the tensors are released."""
        if not self._done.query():
            return False
        self._held = ()
        return True


class _Call(Pending):
    """The result of a call.

    Args:
        flight: the call on the GPU.
        host: the result on the host, once the call is complete.
        finite: bool scalar on the host, whether all values were finite; ``None`` if nobody asks.
    """

    def __init__(self, flight: _Flight, host: Tensor, finite: Tensor | None) -> None:
        self._flight, self._host, self._finite = flight, host, finite

    def result(self) -> Tensor:
        """See :meth:`Pending.result`."""
        self._flight.wait()
        if self._finite is not None and not bool(self._finite):
            raise not_finite()
        return self._host


class CudaEngine(ModuleEngine):
    """Runs tiles or latents through a module on a GPU. The results are those of :class:`ModuleEngine`.

    A call copies the pixels to the GPU, computes, and copies the result back, each on its own stream, so that these
    three steps of successive calls overlap. Results are in pinned memory; see :mod:`gankit.backends.cuda.pinned`.
    Shapes that come again are recorded as CUDA graphs; see :mod:`gankit.backends.cuda.graphs`.

    If the memory of the GPU runs out, the engine drops its graphs, records no others, and tries the call once more.

    Args:
        backend: name of the backend.
        spec: the spec of the engine.
        module: the result of :func:`gankit.backends.modules.ready`, compiled or not.
        cuda: the GPU; ``None`` uses the device of the spec.
    """

    depth = _DEPTH

    def __init__(
        self, backend: str, spec: EngineSpec, module: Callable[..., Tensor], *, cuda: Cuda | None = None
    ) -> None:
        super().__init__(backend, spec, module)
        self._cuda = cuda or cuda_of(self.device)
        self._graphs = Graphs(self._cuda, self._compute, enabled=graphs_wanted())
        self._flying: deque[_Flight] = deque()
        self._flying_lock = threading.Lock()
        self._cuda.settle()

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        return self._submit(tensors, alone=True).result()

    def submit(self, *tensors: Tensor) -> Pending:
        """See :meth:`Engine.submit`. Memory that runs out is reported here, and values beyond fp16 with the result."""
        return self._submit(tensors, alone=False)

    def close(self) -> None:
        """Wait for the calls that were submitted, and drop the graphs."""
        self.drop()

    def stitch(self, image: np.ndarray, cut: Pieces) -> np.ndarray | None:
        """See :meth:`Engine.stitch`; ``None`` for an image that is too large for the GPU."""
        given = tensor_of(image)
        check((given,), self._facts)
        if not fits(self, given, cut):
            return None
        with self._settings():
            return stitched(self, given, cut).numpy()

    @property
    def cuda(self) -> Cuda:
        """The GPU."""
        return self._cuda

    def compute(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Queue the computation of a batch on the GPU, as a graph if its shape has one. The caller holds the lock."""
        return self._graphs.run(given)

    def learn(self, given: Sequence[Tensor]) -> None:
        """Record the shape of a batch that was just queued, if it came often enough. The caller holds the lock."""
        self._graphs.learn(given)

    def drop(self) -> None:
        """Wait for the GPU, and give back all memory but that of the weights."""
        with self._cuda.lock:
            self._drop()

    def _submit(self, tensors: Sequence[Tensor], *, alone: bool) -> _Call:
        check(tensors, self._facts)
        with self._settings():
            staged = tuple(self.staged(item) for item in tensors)
            with self._cuda.lock:
                self._release()
                try:
                    return self._queue(staged, alone=alone)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                # Outside of the handler, because the error keeps tensors alive.
                self._drop()
                return self._queue(staged, alone=alone)

    def staged(self, tensor: Tensor) -> Tensor:
        """Return a tensor in pinned memory, in its own layout; a copy unless the caller's tensor is pinned."""
        last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        if (last or tensor.is_contiguous()) and self._cuda.is_pinned(tensor):
            return tensor
        return self._cuda.pinned.empty(tensor.shape, tensor.dtype, channels_last=last).copy_(tensor)

    def _queue(self, staged: Sequence[Tensor], *, alone: bool) -> _Call:
        """Queue the three steps of a call. A call that nobody overlaps needs one stream only, and fewer events."""
        cuda = self._cuda
        into: Lane = "compute" if alone else "into"
        out: Lane = "compute" if alone else "out"
        try:
            given = tuple(cuda.upload(item, into) for item in staged)
            if not alone:
                cuda.wait("compute", cuda.record(into))
            made = self._graphs.run(given)
            if not alone:
                cuda.wait(out, cuda.record("compute"))
            hosts = tuple(self._host(item) for item in made)
            for item, host in zip(made, hosts, strict=True):
                cuda.download(item, host, out)
            flight = _Flight(cuda.record(out), (*staged, *given, *made, *hosts))
        except BaseException:
            cuda.synchronize()  # the GPU may still use tensors that end here
            raise
        with self._flying_lock:
            self._flying.append(flight)
        self._graphs.learn(given)
        return _Call(flight, hosts[0], hosts[1] if len(hosts) > 1 else None)

    def _compute(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Compute the pixels in the layout of the result."""
        pixels, *finite = self._forward(*given)
        layout = torch.contiguous_format if self._latents else torch.channels_last
        return (pixels.contiguous(memory_format=layout), *finite)

    def _host(self, made: Tensor) -> Tensor:
        """Return memory for a result."""
        return self._cuda.pinned.empty(made.shape, made.dtype, channels_last=made.ndim == 4 and not self._latents)

    def _release(self) -> None:
        """Release the tensors of calls that are complete, also if their results were never taken."""
        with self._flying_lock:
            while self._flying and self._flying[0].complete():
                self._flying.popleft()

    def _drop(self) -> None:
        """Wait for the GPU, and give back all memory but that of the weights."""
        self._cuda.synchronize()
        self._release()
        self._graphs.give_up()
        self._cuda.empty_cache()
