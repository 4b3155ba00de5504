"""The one protocol behind which every engine runs.

A *backend* is a way to run a generator; an *engine* is a loaded, ready backend for one :class:`EngineSpec`. The
pipeline, the benchmarks and the parity check know nothing but these classes, and do not see which backend runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from gankit_export.precisions import Precision
from torch import Tensor, nn

from gankit.backends.cuda.kernels import wanted
from gankit.errors import BackendError
from gankit.models.facts import Facts, Task

__all__ = ["DYNAMIC", "Backend", "Engine", "EngineMemoryError", "EngineSpec", "Precision", "Shapes", "memory_errors"]

Wants = Literal["tiles", "images"]


@dataclass(frozen=True)
class Shapes:
    """The shapes that an engine is made for.

    Attributes:
        batch: images, tiles or samples in every call; ``None`` where their number may vary.
        tile: height and width of every input in pixels; ``None`` where they may vary.
    """

    batch: int | None = None
    tile: tuple[int, int] | None = None


DYNAMIC = Shapes()
"""Any number of images of any size."""


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is asked to be.

    Attributes:
        generator: the module in fp32 and eval mode, as loaded. Backends never change it; they copy.
        facts: its facts.
        precision: arithmetic of the convolutions. Normalisations compute their statistics in fp32 in all of them.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        shapes: static, or dynamic by default.
        threads: CPU threads; ``None`` for the physical cores that this process may use.
        kernels: whether to run gankit's own kernels on a GPU; see :mod:`gankit.backends.cuda.kernels`.
        layer_bytes: memory that the layers of one image may take; ``None`` for no limit. Within a limit a network
            that needs the whole image runs layerwise.
    """

    generator: nn.Module
    facts: Facts
    precision: Precision = "fp32"
    device: str = "cpu"
    shapes: Shapes = DYNAMIC
    threads: int | None = None
    kernels: bool = field(default_factory=wanted)
    layer_bytes: int | None = None

    @property
    def device_type(self) -> str:
        """``"cpu"`` or ``"cuda"``, without the number."""
        return self.device.partition(":")[0]


class EngineMemoryError(BackendError, MemoryError):
    """The engine found no memory for a batch; a smaller one may do."""


@contextmanager
def memory_errors(*words: str) -> Iterator[None]:
    """Turn a runtime's own exception for exhausted memory into the one that the pipeline knows.

    Args:
        words: parts of the runtime's message in that case. (The pipeline knows torch's exceptions by itself.)

    Raises:
        EngineMemoryError: instead of a :class:`MemoryError`, or of an exception with these words.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or any(word in str(error) for word in words):
            raise EngineMemoryError("the engine is out of memory") from error
        raise


class Engine(ABC):
    """A ready generator.

    Attributes:
        backend: name of its backend.
        precision: arithmetic that it runs in.
        device: where it runs.
        wants: ``"tiles"``: batches of equal tiles, small enough for memory; ``"images"``: one whole image at a time,
            of any size, which it takes through a bounded memory itself.
    """

    backend: str
    precision: Precision
    device: str
    wants: Wants = "tiles"

    def __init__(self, backend: str, spec: EngineSpec) -> None:
        self.backend, self.precision, self.device = backend, spec.precision, spec.device

    @abstractmethod
    def run(self, *tensors: Tensor) -> Tensor:
        """Run a batch through the generator.

        Args:
            tensors: what the generator takes, on the CPU. Images: one tensor (N, C, H, W) in any memory format
                (channels_last is the fast one: an HWC array permuted, not copied); uint8 and uint16 stand for the full
                range of the type, float32 for [0, 1]. A model that generates: latents (N, latent) float32 and, where
                it is conditional, classes (N,) int64.

        Returns:
            (N, C', H', W') on the CPU. For images in the dtype of the input: integers clamped and rounded half to
            even, float32 nominally in [0, 1] and not clamped; channels_last in memory where the input was. For latents
            float32, nominally in [0, 1], not clamped.

        Raises:
            EngineMemoryError: too little memory (or torch's own exception for it). The engine stays usable.
            NotFiniteError: the result is to be integers, and fp16 made values that are not finite. In a float32 result
                they stand as they are.
        """

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Give back what the engine holds. Closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Backend(ABC):
    """A way to run a generator. A new one is one file with a subclass, and one line in ``gankit.backends.BACKENDS``.

    Attributes:
        name: as the command line spells it.
        precisions: by device type (``"cpu"``, ``"cuda"``), the precisions that it offers there, safest first.
        tasks: what the generators that it runs may do.
        packages: distributions whose versions ``gankit doctor`` shows and on which a measured choice depends. The
            first one that is installed counts.
        rank: the order in which ``auto`` measures backends, lowest first; those that are likely fast come early.
        slow_start: loading takes minutes (compilation), so that ``auto`` takes it for long jobs only.
        own_kernels: whether it can run gankit's own kernels on a GPU in place of torch's.
    """

    name: ClassVar[str]
    precisions: ClassVar[dict[str, tuple[Precision, ...]]]
    tasks: ClassVar[tuple[Task, ...]] = ("upscale", "translate", "generate")
    packages: ClassVar[tuple[str, ...]] = ()
    rank: ClassVar[int] = 10
    slow_start: ClassVar[bool] = False
    own_kernels: ClassVar[bool] = False

    def supports(self, spec: EngineSpec) -> str | None:
        """Why this backend cannot run a spec on this machine, and the way out, in one line; ``None`` if it can.

        This is the one place where a backend says no. What every backend has in common is checked here, by the
        attributes above; :meth:`missing` and :meth:`lacks` add what is its own.
        """
        offered = self.precisions.get(spec.device_type, ())
        if not offered:
            return f"does not run on {spec.device}; use another --backend or --device"
        if why := self.missing(spec):
            return why
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
        """What this machine lacks for the backend: a package, a compiler, a GPU. ``None`` if nothing."""

    def lacks(self, spec: EngineSpec) -> str | None:
        """What else the backend cannot do of a spec, such as a precision that this processor lacks."""
        return None

    def load(self, spec: EngineSpec) -> Engine:
        """Make an engine.

        Raises:
            BackendError: the backend does not support the spec, or cannot export or open this generator.
        """
        if why := self.supports(spec):
            raise BackendError(f"backend '{self.name}': {why}")
        return self.open(spec)

    @abstractmethod
    def open(self, spec: EngineSpec) -> Engine:
        """Make an engine of a spec that the backend supports; called by :meth:`load`.

        Raises:
            BackendError: it cannot export or open this generator after all.
        """
