"""Short jobs, for which an engine that starts soon is worth more than the fastest one. Imports no torch.

Importing torch takes seconds. In that time, an engine that needs none has run several small images. And comparing the
engines of a new model takes longer than such a job: it runs on the first one that passes the parity check.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gankit.backends.choice.cache import Choice
from gankit.backends.choice.candidates import Candidate

if TYPE_CHECKING:
    from gankit.backends.choice.benchmark import Measured

SHORT_JOB_SECONDS = 10.0  # comparing the other engines takes longer
TORCH_SECONDS = 3.0  # to import torch and to prepare an engine that needs it: 2.3 and 0.8 s on 2 cores of an EPYC


def soonest_first(group: Sequence[Candidate]) -> list[Candidate]:
    """Put the candidates first whose engines will start without torch, by their ``start_rank``."""
    return sorted(group, key=lambda item: math.inf if item.backend.start_rank is None else item.backend.start_rank)


def soonest(measured: Sequence[Measured], group: Sequence[Candidate]) -> Measured | None:
    """Return the measurement of the engine that starts soonest without torch.

    Args:
        measured: the measurements of a comparison.
        group: its candidates.

    Returns:
        ``None`` if none of those that need no torch has passed the whole parity check, which an engine that is far
        behind does not finish.
    """
    from gankit.backends.choice.benchmark import FAR_BEHIND

    least = max((item.megapixels_per_second for item in measured), default=0.0) / FAR_BEHIND
    exact = [item for item in measured if not item.remark and item.precision != "int8"]
    passed = {item.backend: item for item in exact if item.megapixels_per_second > least}
    names = [item.backend.name for item in soonest_first(group) if item.backend.start_rank is not None]
    return next((passed[name] for name in names if name in passed), None)


def torch_is_imported() -> bool:
    """Whether this process has imported torch, so that an engine which needs it starts as soon as any other."""
    return "torch" in sys.modules


def most_pixels(soon: Choice, final: Choice | None) -> float:
    """Return the number of input pixels of the largest job that is done sooner with an engine that starts soon.

    Args:
        soon: the engine that starts soon.
        final: the fastest one, which needs torch; ``None`` if it is still to be found by a comparison.
    """
    if final is None:
        return SHORT_JOB_SECONDS * soon.megapixels_per_second * 1e6
    lost = 1 / soon.megapixels_per_second - 1 / final.megapixels_per_second  # seconds for each megapixel
    return TORCH_SECONDS / lost * 1e6 if lost > 0 else math.inf
