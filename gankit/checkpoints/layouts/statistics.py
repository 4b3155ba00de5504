"""Running statistics that a state dict holds and its network does not use."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_log = logging.getLogger(__name__)


def without_stale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the statistics of norms without a weight, and log it once.

    junyanz's code before October 2018 kept them for InstanceNorm, and used them only by mistake, in eval mode.
    A BatchNorm has a weight, and keeps its statistics.
    """
    kept = {name: value for name, value in state.items() if not _statistic(name) or _owner(name) + ".weight" in state}
    if len(kept) < len(state):
        _log.warning(
            "dropped %d running statistics of old InstanceNorms, which use none (as the authors' code does since 2018)",
            len(state) - len(kept),
        )
    return kept


def _statistic(name: str) -> bool:
    return name.rpartition(".")[2] in _STATISTICS


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
