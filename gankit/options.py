"""The engine options that a user can set, in one frozen dataclass that is passed on whole. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from gankit.errors import UsageError

Auto = Literal["auto"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[PrecisionChoice, ...] = get_args(PrecisionChoice)


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine.

    Attributes:
        backend: name of a backend (``gankit doctor`` lists them). ``"auto"`` picks the fastest one that passes the
            parity check.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"auto"``. ``"auto"`` picks the fastest for 8-bit
            images, and fp32 for 16-bit images and tensors, because the narrower types do not keep their levels.
            Models that generate from noise run in fp32. ``"int8"`` is lossy and runs on the CPU. The first run with it
            builds a file, which takes minutes; ``"auto"`` never builds one.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, … or ``"auto"``, which picks a GPU if there is one. Several GPUs
            share the calls of the engine: ``"cuda:0,cuda:1"``, or ``"all"`` for those of the machine.
        tile: side of a tile in input pixels, including the halo, or ``"auto"``.
        batch: number of tiles, images of equal size or samples in one call of the engine, or ``"auto"``.
        threads: number of CPU threads; ``None`` uses one per physical core that this process may use.
        max_memory: bytes that the process may use in all, with torch and the weights; ``None`` allows what the machine
            and the limits of its container leave. Images are cut into smaller tiles to fit, and a network that needs
            the whole image runs layerwise if its layers take more than half of what is left.
        calibration: folder of images from which int8 takes the ranges of the layers; ``None`` uses the image that ships
            with gankit.

    Raises:
        UsageError: If the precision is unknown, a number is less than 1, or a value has the wrong type.
    """

    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    tile: int | Auto = "auto"
    batch: int | Auto = "auto"
    threads: int | None = None
    max_memory: int | None = None
    calibration: str | None = None

    def __post_init__(self) -> None:
        for name in ("backend", "precision", "device"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"{name} must be a text, not {getattr(self, name)!r}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{self.precision}'; choose from {', '.join(PRECISIONS)}")
        if self.calibration is not None and not isinstance(self.calibration, str):
            raise UsageError(f"calibration must be a text, not {self.calibration!r}")
        if self.calibration is not None and self.precision != "int8":
            raise UsageError("calibration sets the ranges of int8; use it with the precision int8")
        for name in ("tile", "batch"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value == "auto"):
                _whole(name, value)
        for name in ("threads", "max_memory"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name))

    def of_results(self) -> dict[str, str]:
        """Return the options that determine the pixels of a result and are not at their defaults."""
        chosen = {"backend": self.backend, "precision": self.precision, "calibration": self.calibration or "auto"}
        return {name: value for name, value in chosen.items() if value != "auto"}


class EngineKeywords(TypedDict, total=False):
    """The fields of :class:`EngineOptions` as keyword arguments."""

    backend: str
    precision: str
    device: str
    tile: int | Auto
    batch: int | Auto
    threads: int | None
    max_memory: int | None
    calibration: str | None


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
