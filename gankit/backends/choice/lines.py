"""Lines that say what was chosen, and what was not compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from gankit.backends.choice.candidates import Candidate
from gankit.errors import BackendError, ParityError

if TYPE_CHECKING:
    from gankit.backends.choice.benchmark import Benchmark, Measured


def out_of_time(left: Sequence[Candidate], seconds: float) -> str:
    """Name the candidates that were left out because the seconds for measuring had passed."""
    names, first = ", ".join(map(str, left)), left[0].backend.name
    after = f"because the {seconds:.0f} s for measuring had passed"
    return f"not measured: {names}, {after}; use --backend {first}, or `gankit doctor --forget` to measure again"


def for_longer_jobs(left: Sequence[Candidate]) -> str:
    """Name the candidates that were not compared because the job is short."""
    return f"not compared for so short a job: {', '.join(map(str, left))}"


def flat_message(contrast: float) -> str:
    """Say which images run in fp32; empty if the engine may run all."""
    return f", images of contrast below {contrast:.0f} of 255 in fp32" if contrast else ""


def speed(item: Measured) -> str:
    """Return the speed in MP/s with three significant digits, in full."""
    value = item.megapixels_per_second
    decimals = max(0, 2 - math.floor(math.log10(value))) if value else 0
    return f"{value:.{decimals}f}"


def refuse(benchmark: Benchmark, gate: float, ran: bool) -> NoReturn:
    """Say why no engine was chosen.

    Raises:
        ParityError: If engines ran but none passed the parity check.
        BackendError: If no engine ran.
    """
    out = "; ".join(benchmark.remarks)
    if ran:
        raise ParityError(f"no engine reaches {gate:.0f} dB against fp32 on {benchmark.title}: {out}")
    raise BackendError(f"no backend can run this model: {out}")
