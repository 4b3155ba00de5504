"""Learning rates by step, as factors of the first one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gankit.errors import UsageError

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """The learning rate as given."""
    return lambda step: 1.0


def stepwise(every: int, drop: float = 0.5) -> Schedule:
    """dropⁿ after n times ``every`` steps."""
    return lambda step: drop ** (step // every)


def exponential(steps: int, end: float = 0.01) -> Schedule:
    """end^(t/T): by the same share in every step, from 1 to ``end`` at T = ``steps``."""
    return lambda step: float(end ** (step / steps))


def inverse(steps: int, end: float = 0.1) -> Schedule:
    """1/(1 + k·t), with the k that makes it ``end`` at ``steps`` (Robbins and Monro 1951)."""
    slope = (1 / end - 1) / steps
    return lambda step: 1 / (1 + slope * step)


def linear(steps: int, hold: float = 0.5, end: float = 0.0) -> Schedule:
    """1 for the first ``hold`` of all steps, then in a straight line to ``end`` (Zhu et al. 2017, arXiv:1703.10593)."""

    def factor(step: int) -> float:
        share = min(1.0, step / steps)
        fall = 0.0 if share <= hold else (share - hold) / (1 - hold)
        return 1 + (end - 1) * fall

    return factor


def cosine(steps: int, end: float = 0.0) -> Schedule:
    """Half a cosine from 1 to ``end`` (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5)."""
    return lambda step: end + (1 - end) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / max(1, steps))))


def cyclic(steps: int, cycles: int = 4, end: float = 0.1) -> Schedule:
    """Straight up from ``end`` to 1 and down again, ``cycles`` times (Smith 2017, arXiv:1506.01186, "triangular")."""
    period = steps / cycles
    return lambda step: end + (1 - end) * (1 - abs(2 * ((step % period) / period) - 1))


def warmed(schedule: Schedule, warmup: int) -> Schedule:
    """``schedule`` times a straight line from 0 to 1 in the first ``warmup`` steps (Goyal et al. 2017)."""
    if not warmup:
        return schedule
    return lambda step: min(1.0, (step + 1) / warmup) * schedule(step)


def warmup_cosine(steps: int, warmup: int = 100, floor: float = 0.0) -> Schedule:
    """Factor of the learning rate: linear from 0 to 1 in ``warmup`` steps, times a half cosine down to ``floor``."""
    return warmed(cosine(steps, floor), warmup)


def delayed(schedule: Schedule, steps: int) -> Schedule:
    """``schedule``, begun after ``steps`` steps; before them its first factor."""
    return lambda step: schedule(max(0, step - steps))


SCHEDULES: Mapping[str, str] = MappingProxyType(
    {
        "constant": "as given",
        "step": "halved four times",
        "exponential": "by the same share in every step, to 1 %",
        "inverse": "1/t, to 10 %",
        "linear": "constant for half of the steps, then straight to 0",
        "cosine": "half a cosine to 0",
        "cyclic": "four times up from 10 % and down again",
    }
)
"""What each name of :func:`make_schedule` means, with its defaults."""


def make_schedule(
    name: str,
    steps: int,
    *,
    warmup: int = 0,
    end: float | None = None,
    drop: float = 0.5,
    every: int | None = None,
    hold: float = 0.5,
    cycles: int = 4,
) -> Schedule:
    """A learning rate by its name.

    Args:
        name: one of :data:`SCHEDULES`.
        steps: of the whole run.
        warmup: first steps in which the factor rises from 0.
        end: the last factor; of ``cyclic``, the lowest. By default as :data:`SCHEDULES` says.
        drop: the factor of one stage of ``step``.
        every: the steps of one stage of ``step``; a fifth of all by default.
        hold: the share of steps for which ``linear`` stays at 1, in [0, 1).
        cycles: of ``cyclic``.

    Returns:
        The factor by step; the first step is 0.

    Raises:
        UsageError: there is no such schedule, or a number is out of its range.
    """
    for what, value, fits in (
        ("steps", steps, steps >= 1),
        ("warm-up", warmup, warmup >= 0),
        ("stage", every, every is None or every >= 1),
        ("hold", hold, 0 <= hold < 1),
        ("number of cycles", cycles, cycles >= 1),
        ("drop", drop, 0 < drop <= 1),
        ("end", end, end is None or (0 <= end <= 1 and (end > 0 or name not in ("exponential", "inverse")))),
    ):
        if not fits:
            raise UsageError(f"the {name} schedule cannot have a {what} of {value}")
    given = {} if end is None else {"end": end}
    makers: Mapping[str, Callable[[], Schedule]] = {
        "constant": constant,
        "step": lambda: stepwise(every or max(1, math.ceil(steps / 5)), drop),
        "exponential": lambda: exponential(steps, **given),
        "inverse": lambda: inverse(steps, **given),
        "linear": lambda: linear(steps, hold, **given),
        "cosine": lambda: cosine(steps, **given),
        "cyclic": lambda: cyclic(steps, cycles, **given),
    }
    if name not in makers:
        raise UsageError(f"there is no schedule {name!r}: choose from {', '.join(makers)}")
    return warmed(makers[name](), warmup)
