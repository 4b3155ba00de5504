"""The question that a choice of a backend answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import GATE_DB
from gankit.backends.choice.short_jobs import SHORT_JOB_SECONDS

LONG_JOB_SECONDS = 600.0  # jobs longer than this can repay a compilation of a minute or two


@dataclass(frozen=True)
class Question:
    """The question, with its key in the cache.

    Attributes:
        spec: what the engine is asked to be.
        job_pixels: number of input pixels of the whole job, if known.
        key: in the cache.
        gate: dB that an engine must reach.
        may_be_short: whether a short job may run on an engine that starts soon.
    """

    spec: EngineSpec
    job_pixels: int | None
    key: tuple[Any, ...]
    gate: float = GATE_DB
    may_be_short: bool = False

    @property
    def short_job_key(self) -> tuple[Any, ...]:
        """The key in the cache of the choice for a short job."""
        return (*self.key, "short job")

    def is_short(self, megapixels_per_second: float) -> bool:
        """Whether the job takes less time at this speed than a comparison of engines."""
        pixels = self.job_pixels if self.may_be_short else None
        return pixels is not None and pixels / 1e6 / megapixels_per_second <= SHORT_JOB_SECONDS

    @property
    def long_job_key(self) -> tuple[Any, ...]:
        """The key in the cache of the choice for a long job."""
        return (*self.key, "long job")

    def is_long(self, megapixels_per_second: float) -> bool:
        """Whether the job takes so long at this speed that a backend that compiles for minutes is worth trying."""
        return self.job_pixels is not None and self.job_pixels / 1e6 / megapixels_per_second > LONG_JOB_SECONDS
