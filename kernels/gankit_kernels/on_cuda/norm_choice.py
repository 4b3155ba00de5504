"""The choice between one launch and several for InstanceNorm in channels_last, which is measured on the GPU.

Which of the two is faster depends on the GPU's caches and on the number of its multiprocessors, so the first call of a
shape runs both. This takes some milliseconds, and a second or two to compile the kernels. The results of the two may
differ by the rounding of the last bit, so that two processes in which the measurement ends differently may, too.

``GANKIT_NORM_ONE_LAUNCH=on`` takes one launch wherever the shape allows it, ``off`` never does, and neither measures
anything. The variable is read when a shape comes for the first time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache

import torch

from gankit_kernels.on_cuda.norm_call import NormPlan

VARIABLE = "GANKIT_NORM_ONE_LAUNCH"
_WORDS = {"": None, "1": True, "on": True, "0": False, "off": False}
_ROUNDS, _CALLS = 5, 3
_HEAD_START = 2_000_000  # cycles, about a millisecond, in which the processor queues all rounds


def wanted() -> bool | None:
    """Whether to normalise in one launch; ``None`` to measure it.

    Raises:
        ValueError: The environment variable has an unknown value.
    """
    word = os.environ.get(VARIABLE, "").lower()
    if word not in _WORDS:
        raise ValueError(f"{VARIABLE} must be on or off, not '{word}'")
    return _WORDS[word]


class Choice:
    """Two plans for one call, and the faster one for each kind of GPU.

    Args:
        usual: The plan that serves while nothing is measured.
        other: The plan that replaces it where it is faster. It needs none but the tensors of ``usual``.
    """

    def __init__(self, usual: NormPlan, other: NormPlan) -> None:
        self._usual, self._other = usual, other
        self._faster: dict[str, NormPlan] = {}

    def known(self, device: torch.device) -> NormPlan | None:
        """The plan to run, or ``None`` if it can be measured now.

        While a graph is being recorded, it is the usual one: the graph would record the measurement, too.
        """
        if device.type != "cuda":
            return self._usual
        found = self._faster.get(_name(device))
        if found is None and torch.cuda.is_current_stream_capturing():
            return self._usual
        return found

    def measure(self, device: torch.device, run: Callable[[NormPlan], None]) -> NormPlan:
        """Measure both plans on the current stream of the current device, and return the faster one.

        Args:
            device: The current device.
            run: Launches the steps of a plan, on the tensors of ``usual``.
        """
        plans = self._usual, self._other
        for plan in plans:  # compiles the kernels
            run(plan)
        torch.cuda._sleep(_HEAD_START)  # else short kernels would be timed by how fast the processor launches them
        events = [[_timed(run, plan) for plan in plans] for _ in range(_ROUNDS)]
        torch.cuda.current_stream().synchronize()
        usual, other = (min(one.elapsed_time(two) for one, two in column) for column in zip(*events, strict=True))
        return self._faster.setdefault(_name(device), self._other if other < usual else self._usual)


def _timed(run: Callable[[NormPlan], None], plan: NormPlan) -> Sequence[torch.cuda.Event]:
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    for _ in range(_CALLS):
        run(plan)
    after.record()
    return before, after


@cache
def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)
