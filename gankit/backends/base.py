"""The one protocol behind which every engine runs.

A *backend* is a way to run a generator; an *engine* is a loaded, ready backend for one generator, device and
precision. The pipeline, the benchmarks and the parity check see nothing but these two classes.
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
from gankit.models.facts import Facts

__all__ = ["Backend", "Engine", "EngineMemoryError", "Precision", "Request", "Wants", "memory_errors"]

Wants = Literal["tiles", "images"]


@dataclass(frozen=True)
class Request:
    """What an engine is asked to be.

    Attributes:
        generator: the module in fp32 and eval mode, as loaded. Backends never change it; they copy.
        facts: its facts.
        precision: arithmetic of the convolutions. Sums of normalisations are fp32 in all of them.
        device: ``"cpu"`` or ``"cuda"``, ``"cuda:1"``, …
        threads: CPU threads, or ``None`` for the physical cores that this process may use.
        kernels: run gankit's own kernels on a GPU; see :mod:`gankit.backends.cuda.kernels`.
    """

    generator: nn.Module
    facts: Facts
    precision: Precision = "fp32"
    device: str = "cpu"
    threads: int | None = None
    kernels: bool = field(default_factory=wanted)


class EngineMemoryError(BackendError, MemoryError):
    """The engine found no memory for a batch; a smaller one may do."""


@contextmanager
def memory_errors(*words: str) -> Iterator[None]:
    """Turn a runtime's own exception for memory that runs out into the one that the pipeline knows.

    Args:
        words: what the runtime's message has in it then. (torch's exceptions the pipeline knows by itself.)

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
        wants: ``"tiles"``: batches of equal tiles, small enough for memory; ``"images"``: one whole image
            at a time, of any size, which it streams through a bounded memory itself.
    """

    backend: str
    precision: Precision
    device: str
    wants: Wants = "tiles"

    @abstractmethod
    def run(self, batch: Tensor) -> Tensor:
        """Run a batch.

        Args:
            batch: (N, C, H, W) on the CPU, in any memory format (channels_last is the fast one: an HWC array
                permuted, not copied). uint8 or uint16 stand for the full range of the type; float32 for [0, 1].

        Returns:
            (N, C, scale·H, scale·W) on the CPU, in the dtype of ``batch``: integers clamped and rounded half to even,
            float32 in nominally [0, 1] and not clamped. Channels_last in memory where ``batch`` was.

        Raises:
            EngineMemoryError: too little memory (or torch's own exception for it). The engine stays usable.
            NotFiniteError: integers were asked for, and fp16 made values that are not finite. In a float32 result
                they stand as they are.
        """

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Give back what the engine holds. Calling it twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Backend(ABC):
    """A way to run a generator.

    Attributes:
        name: as the command line spells it.
        precisions: for each device type, the precisions that it offers, safest first.
        slow_start: loading takes minutes (compilation), so that ``auto`` takes it for long jobs only.
        own_kernels: on a GPU it can run gankit's own kernels in place of torch's.
    """

    name: ClassVar[str]
    precisions: ClassVar[dict[str, tuple[Precision, ...]]]
    slow_start: ClassVar[bool] = False
    own_kernels: ClassVar[bool] = False

    @abstractmethod
    def missing(self, device: str = "cpu") -> str | None:
        """Why the backend cannot run here, and the way out, in one line; ``None`` if it can."""

    @abstractmethod
    def load(self, request: Request) -> Engine:
        """Make an engine.

        Raises:
            BackendError: the backend is missing, or does not offer the precision or the device.
        """
