"""What the loop is asked for, and what it says of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
        stop_after: leave after this many seconds, with a checkpoint, to be resumed later.
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
        losses: of this step.
        rate: steps a second, in this call.
        validation: if the step was judged.
        began: the steps that were done before this call: 0, or where it was resumed.
        processes: that train together.
    """

    step: int = 0
    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    began: int = 0
    processes: int = 1
