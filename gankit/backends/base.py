"""The protocol of all backends and engines.

A *backend* is a way to run a generator; an *engine* is a loaded, ready backend for one :class:`EngineSpec`. The
pipeline, the benchmarks and the parity check know only these classes, and do not see which backend runs.

Importing this module imports no torch. An engine that needs none derives from :class:`ArrayEngine`, and backends import
torch inside their functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from gankit_export.precisions import EnginePrecision, Precision

from gankit.backends.cuda.switches import kernels_wanted
from gankit.backends.exhausted import EngineMemoryError, memory_errors
from gankit.backends.pieces import Piece, Pieces
from gankit.errors import BackendError
from gankit.models.deferred import Deferred
from gankit.models.facts import Facts, Task

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

__all__ = [
    "DYNAMIC",
    "ArrayEngine",
    "Backend",
    "Engine",
    "EngineMemoryError",
    "EngineSpec",
    "Pending",
    "Piece",
    "Pieces",
    "Shapes",
    "memory_errors",
]

Wants = Literal["tiles", "images"]


@dataclass(frozen=True)
class Shapes:
    """The shapes for which an engine is made.

    Attributes:
        batch: number of images, tiles or samples in every call; ``None`` if it may vary.
        tile: height and width of every input in pixels; ``None`` if they may vary.
    """

    batch: int | None = None
    tile: tuple[int, int] | None = None


DYNAMIC = Shapes()
"""Any number of images of any size."""


@dataclass(frozen=True)
class EngineSpec:
    """The specification of an engine.

    Attributes:
        module: the generator in fp32 and eval mode, as loaded, or how to load it. Backends take it from
            :attr:`generator`, and do not change it, but copy it.
        facts: its facts.
        precision: precision of the convolutions. Normalisations always compute their statistics in fp32.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        shapes: static shapes, or dynamic ones by default.
        threads: number of CPU threads; ``None`` uses one per physical core that this process may use.
        kernels: whether to run gankit's own kernels on a GPU; see :mod:`gankit.backends.cuda.kernels`.
        layer_bytes: memory limit in bytes for the layers of one image, under which the network runs layerwise;
            ``None`` sets no limit.
        notify: called with each line to report to the user while the engine loads, such as a damaged file in the cache.
        artefact: sha256 of the file that an earlier run exported, if known: if it is cached, no generator is needed.
        quantised: sha256 of the int8 file in the cache that runs in the generator's place; empty for none.
            ``precision`` is then that of the layers which are not in int8.
    """

    module: nn.Module | Deferred[nn.Module]
    facts: Facts
    precision: Precision = "fp32"
    device: str = "cpu"
    shapes: Shapes = DYNAMIC
    threads: int | None = None
    kernels: bool = field(default_factory=kernels_wanted)
    layer_bytes: int | None = None
    notify: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    artefact: str = ""
    quantised: str = ""

    @property
    def generator(self) -> nn.Module:
        """The generator, which the first use may have to load."""
        return self.module.get() if isinstance(self.module, Deferred) else self.module

    @property
    def device_type(self) -> str:
        """The device without its number, ``"cpu"`` or ``"cuda"``."""
        return self.device.partition(":")[0]


class Pending(ABC):
    """A call of an engine that was submitted. See :meth:`Engine.submit`."""

    @abstractmethod
    def result(self) -> Tensor:
        """Wait until the call is complete, and return what :meth:`Engine.run` returns.

        Raises:
            EngineMemoryError, NotFiniteError: See :meth:`Engine.run`.
        """


class _Complete(Pending):
    """The call of an engine that completes every call before it returns."""

    def __init__(self, made: Tensor) -> None:
        self._made = made

    def result(self) -> Tensor:
        return self._made


class Engine(ABC):
    """A generator that is loaded and ready to run.

    Attributes:
        backend: name of its backend.
        precision: precision in which it runs; ``"int8"`` if its convolutions run in int8.
        device: device on which it runs.
        wants: ``"tiles"`` for batches of equal tiles that fit into memory; ``"images"`` for whole images of any size,
            for which the engine bounds its memory itself.
        artefact: sha256 of the exported file that it runs, as 64 hexadecimal digits; empty if it runs none.
        tile: side of the tiles for which it is made, unless the user chose one; ``None`` if any size is as good.
        depth: number of calls to keep submitted. With 2, the pixels of one call are copied while another is computed.
        at_once: number of images that it runs in the time of one if it gets several in one call.
        pixel_bytes: memory of its layers at their peak, in bytes for each input pixel; ``None`` if it is not known.
        spread: number of devices among which it spreads its calls.
    """

    backend: str
    precision: EnginePrecision
    device: str
    wants: Wants = "tiles"
    artefact: str = ""
    tile: int | None = None
    depth: int = 1
    at_once: int = 1
    pixel_bytes: int | None = None
    spread: int = 1

    def __init__(self, backend: str, spec: EngineSpec) -> None:
        self.backend, self.device = backend, spec.device
        self.precision = "int8" if spec.quantised else spec.precision

    @abstractmethod
    def run(self, *tensors: Tensor) -> Tensor:
        """Run a batch through the generator.

        Args:
            tensors: the inputs of the generator, on the CPU. For images, this is one tensor (N, C, H, W) in any memory
                format, of which channels_last is the fastest. uint8 and uint16 use the full range of the type, and
                float32 uses [0, 1]. For a model that generates from noise, these are latents (N, latent) float32 and,
                if it is conditional, classes (N,) int64.

        Returns:
            (N, C', H', W') on the CPU. Images have the dtype of the input, and are channels_last in memory if the input
            was. Integers are clamped and rounded half to even; float32 is nominally in [0, 1] and not clamped. Samples
            are float32, nominally in [0, 1] and not clamped.

        Raises:
            EngineMemoryError: If memory runs out (torch may raise its own exception). The engine remains usable.
            NotFiniteError: If fp16 produced values that are not finite and the result has integers. A float32 result
                keeps such values.
        """

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """Do what :meth:`run` does for NumPy arrays of the same shapes, dtypes and layouts.

        Raises:
            EngineMemoryError, NotFiniteError: See :meth:`run`.
        """
        return self.run(*map(tensor_of, arrays)).numpy()

    def submit(self, *tensors: Tensor) -> Pending:
        """Start a call of :meth:`run`, and return before it is complete where the engine can.

        The caller must not change the tensors before it has the result. Calls complete in the order in which they were
        submitted.

        Args:
            tensors: as for :meth:`run`.

        Returns:
            The call, whose result the caller takes with :meth:`Pending.result`.

        Raises:
            EngineMemoryError, NotFiniteError: As :meth:`run`, unless :meth:`Pending.result` raises it later.
        """
        return _Complete(self.run(*tensors))

    def submit_arrays(self, *arrays: np.ndarray) -> Callable[[], np.ndarray]:
        """Do what :meth:`submit` does for NumPy arrays; return a function that waits for the result."""
        pending = self.submit(*map(tensor_of, arrays))
        return lambda: pending.result().numpy()

    def stitch(self, image: np.ndarray, cut: Pieces) -> np.ndarray | None:
        """Run the tiles of an image (1, C, H, W) and stitch them on the device; ``None`` if the caller must do it."""
        return None

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Release the resources of the engine. It is safe to call this twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ArrayEngine(Engine):
    """An engine that computes with NumPy arrays, and needs no torch to run them."""

    @abstractmethod
    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`."""

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        import torch

        return torch.from_numpy(self.run_arrays(*(tensor.numpy() for tensor in tensors)))

    def submit_arrays(self, *arrays: np.ndarray) -> Callable[[], np.ndarray]:
        """See :meth:`Engine.submit_arrays`. The call is complete when this returns."""
        result = self.run_arrays(*arrays)
        return lambda: result


def tensor_of(array: np.ndarray) -> Tensor:
    """Return an array as a tensor, without a copy unless it is read-only, of which torch warns."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy(order="K"))


class Backend(ABC):
    """A way to run a generator. A new one is one file with a subclass, and one line in ``gankit.backends.BACKENDS``.

    Attributes:
        name: name on the command line.
        precisions: precisions that it offers for each device type (``"cpu"``, ``"cuda"``), safest first.
        tasks: tasks of the generators that it can run.
        packages: alternative distributions that it needs; the first one that is installed counts for cached choices.
        rank: order in which ``auto`` measures backends, lowest first.
        start_rank: order in which ``auto`` tries backends for a short job on a CPU, lowest first: those whose engines
            start from a cached file without torch. ``None`` for one that needs torch.
        slow_start: whether loading takes minutes (compilation). ``auto`` then uses the backend only for long jobs.
        own_kernels: whether it can run gankit's own kernels on a GPU in place of torch's.
        automatic: whether ``auto`` considers it.
        runs_int8: whether it runs the int8 files of :mod:`gankit.backends.choice.quantised`, on the CPU.
    """

    name: ClassVar[str]
    precisions: ClassVar[dict[str, tuple[Precision, ...]]]
    tasks: ClassVar[tuple[Task, ...]] = ("upscale", "translate", "generate")
    packages: ClassVar[tuple[str, ...]] = ()
    rank: ClassVar[int] = 10
    start_rank: ClassVar[int | None] = None
    slow_start: ClassVar[bool] = False
    own_kernels: ClassVar[bool] = False
    automatic: ClassVar[bool] = True
    runs_int8: ClassVar[bool] = False

    def supports(self, spec: EngineSpec) -> str | None:
        """Return ``None`` if this backend can run a spec on this machine, or else the reason and the next step.

        This is the only place where a backend refuses a spec. It checks the attributes above, and :meth:`missing` and
        :meth:`lacks` for what is specific to the backend.
        """
        offered = self.precisions.get(spec.device_type, ())
        if not offered:
            return f"does not run on {spec.device}; use another --backend or --device"
        if why := self.missing(spec):
            return why
        if spec.quantised and not self.runs_int8:
            return "does not run int8; use --backend openvino or onnxruntime"
        if spec.quantised and spec.device_type != "cpu":
            return "runs int8 on the CPU only; use --device cpu, or export an int8 engine for TensorRT"
        if spec.precision not in offered:
            return f"does not run {spec.precision} on {spec.device}; it offers {', '.join(offered)}"
        if spec.facts.task not in self.tasks:
            return f"does not run models that {spec.facts.task}; use --backend eager"
        if spec.precision not in spec.facts.precisions:
            known = " or ".join(spec.facts.precisions)
            return f"'{spec.facts.name}' does not run in {spec.precision}; use --precision {known}"
        return self.lacks(spec)

    @abstractmethod
    def missing(self, spec: EngineSpec) -> str | None:
        """Return what the machine lacks for the backend, such as a package or a compiler; ``None`` if nothing."""

    def lacks(self, spec: EngineSpec) -> str | None:
        """Return what else of a spec the backend cannot do, such as a precision that this processor lacks."""
        return None

    def load(self, spec: EngineSpec) -> Engine:
        """Load an engine.

        Raises:
            BackendError: If the backend does not support the spec, or cannot export or open this generator.
        """
        if why := self.supports(spec):
            raise BackendError(f"backend '{self.name}': {why}")
        return self.open(spec)

    @abstractmethod
    def open(self, spec: EngineSpec) -> Engine:
        """Open an engine for a spec that the backend supports. :meth:`load` calls this.

        Raises:
            BackendError: If the backend cannot export or open this generator after all.
        """
