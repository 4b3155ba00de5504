"""What the loop is asked to do, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """How long to train and what to keep.

    Attributes:
        steps: the last step.
        folder: checkpoints, log and best weights go here.
        validate_every: steps between validations; also the last step.
        checkpoint_every: steps between checkpoints; also the last step.
        average: decay of the generator's moving average; 0 for none.
        resume: continue from the folder's checkpoint.
        stop_after: stop after this many seconds and save a checkpoint, which can be resumed later.
        grid_every: steps between sample grids, ``grids/step_0000500.png``; also the last step. 0 for none.
        tensorboard: whether to log for TensorBoard too.
    """

    steps: int
    folder: Path
    validate_every: int = 1000
    checkpoint_every: int = 500
    average: float = 0.999
    resume: bool = False
    stop_after: float | None = None
    grid_every: int = 0
    tensorboard: bool = False


@dataclass
class Progress:
    """Where a run is; given to the callback after every step.

    Attributes:
        step: the steps done.
        steps: the last step.
        rate: steps per second, in this call.
        validation: the figures of this step, if it was validated.
        began: the steps that were done before this call: 0, or where it was resumed.
        processes: that train together.
    """

    step: int = 0
    steps: int = 0
    rate: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    began: int = 0
    processes: int = 1
    _unread: list[tuple[int, Mapping[str, Tensor]]] = field(default_factory=list, repr=False)
    _last: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def losses(self) -> dict[str, float]:
        """The losses of this step: of this process, or the mean of all where the loop has just logged them.

        To look at them is to wait until the device has computed them: on a GPU, look seldom.
        """
        if self._unread:
            return dict(zip(self._unread[-1][1], _numbers([self._unread[-1][1]]), strict=True))
        return self._last

    def take(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of a step without reading them; a validation is that of its own step only."""
        self._unread.append((self.step, losses))
        self.validation = {}

    def read(self, mean: Callable[[list[float]], list[float]]) -> list[tuple[int, dict[str, float]]]:
        """The losses of all steps that were not read yet, by step.

        Args:
            mean: of numbers over all processes; called once.
        """
        values = iter(mean(_numbers([losses for _, losses in self._unread])))
        found = [(step, {name: next(values) for name in losses}) for step, losses in self._unread]
        if found:
            self._last = found[-1][1]
        self._unread = []
        return found


def _numbers(losses: Sequence[Mapping[str, Tensor]]) -> list[float]:
    """All values, one after the other, in a single transfer from the device."""
    tensors = [value for each in losses for value in each.values()]
    if not tensors:
        return []
    import torch

    values: list[float] = torch.stack([value.detach().double().reshape(()) for value in tensors]).tolist()
    return values
