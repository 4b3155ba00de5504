"""Watches the variety of what a generator makes: a GAN that collapses makes one image, whatever the noise."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)


class DiversityWatch:
    """Warns where the diversity falls below a share of its largest value so far: once for every fall.

    Args:
        share: below which it warns.
    """

    def __init__(self, share: float = 0.25) -> None:
        self._share = share
        self._largest = 0.0
        self._low = False

    def see(self, diversity: float, step: int) -> bool:
        """Take in the diversity of a step; whether it is low. A value that is not finite says nothing."""
        if not math.isfinite(diversity):
            return self._low
        self._largest = max(self._largest, diversity)
        low = diversity < self._share * self._largest
        if low and not self._low:
            _log.warning(
                "the generator may have collapsed: its diversity at step %d is %.3g, down from %.3g; look at the "
                "sample grids, then lower the learning rate or weaken the discriminator",
                step,
                diversity,
                self._largest,
            )
        self._low = low
        return low

    def state_dict(self) -> dict[str, Any]:
        """What it has seen."""
        return {"largest": self._largest, "low": self._low}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self._largest, self._low = float(state["largest"]), bool(state["low"])
