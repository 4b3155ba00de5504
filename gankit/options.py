"""What a user may choose about an engine, in one frozen record that travels whole. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from gankit.errors import UsageError

Auto = Literal["auto"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[PrecisionChoice, ...] = get_args(PrecisionChoice)


@dataclass(frozen=True)
class EngineOptions:
    """The engine that a user asks for.

    Attributes:
        backend: the name of a backend (``gankit doctor`` lists them), or ``"auto"`` for the fastest one that passes
            the parity check.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``: the fastest for 8-bit images, and fp32 for
            16-bit images and tensors, whose levels the narrower types do not keep. Models that generate run in fp32.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``: a GPU where there is one.
        tile: side of a tile in input pixels, halo included, or ``"auto"``.
        batch: tiles, images of one size or samples in one call of the engine, or ``"auto"``.
        threads: CPU threads; ``None`` for the physical cores that this process may use.
        max_memory: bytes that the layers of one image may take; ``None`` for half of what is free. A network that
            needs the whole image runs layerwise beyond it; all others are cut into tiles or strips anyway.

    Raises:
        UsageError: an unknown precision, or a number below 1.
    """

    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    tile: int | Auto = "auto"
    batch: int | Auto = "auto"
    threads: int | None = None
    max_memory: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{self.precision}'; choose from {', '.join(PRECISIONS)}")
        for name in ("tile", "batch"):
            if getattr(self, name) != "auto":
                _whole(name, getattr(self, name))
        for name in ("threads", "max_memory"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name))


class EngineKeywords(TypedDict, total=False):
    """The fields of :class:`EngineOptions` as keyword arguments."""

    backend: str
    precision: str
    device: str
    tile: int | Auto
    batch: int | Auto
    threads: int | None
    max_memory: int | None


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
