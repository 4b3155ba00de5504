"""The loop that every recipe trains with.

A recipe gives a :class:`System`: its networks, its optimisers and what one step does. The loop gives the rest:
learning rates, the average of the generator's weights, validation, the log, checkpoints that continue exactly, the
stop on values that are not finite. A step is counted when it is done: the first is step 1.
"""

from __future__ import annotations

import logging
import math
import signal
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.backends.heap import keep_freed_memory
from gankit.errors import GankitError, OutputError, UsageError
from gankit.training.optimisers import Average, Schedule, constant, set_learning_rate
from gankit.training.state import Log, restore_checkpoint, save_checkpoint

_log = logging.getLogger(__name__)


class DivergedError(GankitError):
    """A loss or a weight became NaN or infinite."""

    exit_code = 1


class System(ABC):
    """What a recipe is to the loop.

    Attributes:
        generator: the network that is averaged, judged and shipped.
        modules: every network by name, the generator among them.
        optimisers: every optimiser by name.
        schedules: factor of the learning rate by step, for the optimisers that have one.
    """

    generator: nn.Module
    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer]
    schedules: Mapping[str, Schedule]

    @abstractmethod
    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """Forward, backward and optimiser steps on one batch; returns the losses, detached, by name."""

    @abstractmethod
    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """Judge a generator in eval mode. The entry ``"score"`` decides which weights are best (larger is better)."""

    @abstractmethod
    def save_generator(self, path: Path, state: Mapping[str, Tensor], extra: Mapping[str, str]) -> None:
        """Write weights that ``gankit upscale --model FILE`` takes."""


@dataclass(frozen=True)
class Plan:
    """How long to train and what to keep.

    Attributes:
        steps: the last step.
        folder: checkpoints, log and best weights go here.
        validate_every: steps between validations; also the last step.
        checkpoint_every: steps between checkpoints; also the last step.
        average: decay of the generator's moving average; 0 for none.
        resume: continue from the folder's checkpoint if there is one.
        stop_after: leave after this many seconds, with a checkpoint, to be resumed later.
    """

    steps: int
    folder: Path
    validate_every: int = 1000
    checkpoint_every: int = 500
    average: float = 0.999
    resume: bool = False
    stop_after: float | None = None


@dataclass
class Progress:
    """Where a run is; given to the callback after every step."""

    step: int = 0
    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)


def fit(
    system: System,
    batches: Callable[[int], Iterator[Any]],
    plan: Plan,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train.

    Args:
        system: the recipe.
        batches: given the number of steps already done, the batches that follow.
        plan: how long and what to keep. The folder gets ``last.pt`` (everything needed to go on), ``best.safetensors``
            (the averaged generator with the best score), ``final.safetensors`` and ``log.csv``.
        notify: called after every step.

    Returns:
        The best validation.

    Raises:
        DivergedError: a loss or a weight is not finite; names the step and the last good checkpoint.
        UsageError: the folder holds a run and ``resume`` is off.
        CheckpointError: the folder's checkpoint is damaged or of another run.
        OutputError: nothing can be written there.
        KeyboardInterrupt: Ctrl-C; the step under way was finished and a checkpoint written.
    """
    keep_freed_memory()
    last = prepare(plan)
    average = Average(system.generator, plan.average) if plan.average else None
    progress = Progress(steps=plan.steps)
    best: dict[str, float] = {}
    log = Log(plan.folder / "log.csv")
    if last.exists():
        progress.step, best = restore_checkpoint(last, system, average, log)
        _log.info("resumed %s at step %d", last, progress.step)
    log.begin(progress.step)
    stream = batches(progress.step)
    began = time.perf_counter()
    first_step = progress.step
    with _patient_interrupt() as interrupted:
        while progress.step < plan.steps:
            for name, optimiser in system.optimisers.items():
                set_learning_rate(optimiser, system.schedules.get(name, constant())(progress.step))
            losses = {name: float(value) for name, value in system.step(next(stream), progress.step).items()}
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise _diverged(f"{', '.join(bad)} is not finite", progress.step + 1, last)
            if average:
                average.update(system.generator)
            progress.step += 1
            progress.losses, progress.validation = losses, {}
            elapsed = time.perf_counter() - began
            progress.rate = (progress.step - first_step) / elapsed
            done = progress.step == plan.steps
            leaving = interrupted() or (plan.stop_after is not None and elapsed > plan.stop_after)
            judging = done or progress.step % plan.validate_every == 0
            keeping = done or leaving or progress.step % plan.checkpoint_every == 0
            if judging or keeping:
                # A finite loss can have a gradient that is not; nothing that came of it may be kept.
                wrong = _not_finite(system)
                if wrong:
                    raise _diverged(f"{wrong} is not finite", progress.step, last)
            if judging:
                state = average.state if average else system.generator.state_dict()
                progress.validation = _validate(system, state)
                if progress.validation["score"] > best.get("score", -math.inf):
                    best = {**progress.validation, "step": float(progress.step)}
                    system.save_generator(plan.folder / "best.safetensors", state, _notes(best))
                if done:
                    notes = _notes({**progress.validation, "step": progress.step})
                    system.save_generator(plan.folder / "final.safetensors", state, notes)
                leaving = leaving or interrupted()  # it takes long
            log.write(progress)
            if keeping or leaving:
                save_checkpoint(last, system, average, progress.step, best, log)
            if notify:
                notify(progress)
            if leaving:
                break
        if interrupted() and progress.step < plan.steps:
            raise KeyboardInterrupt
    return best


def prepare(plan: Plan) -> Path:
    """Make the folder of a run, and see that it can take one.

    Returns:
        Where its checkpoint is or will be.

    Raises:
        OutputError: nothing can be written there.
        UsageError: it holds a run and ``resume`` is off.
    """
    last = plan.folder / "last.pt"
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=plan.folder):
            pass
    except OSError as error:
        raise OutputError(f"{plan.folder}: cannot be written: {error.strerror or error}") from error
    if last.exists() and not plan.resume:
        raise UsageError(f"{plan.folder}: holds a run already; continue it with --resume or choose another folder")
    return last


def _diverged(what: str, step: int, last: Path) -> DivergedError:
    kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written yet"
    return DivergedError(f"{what} at step {step}; {kept}; lower the learning rate")


def _not_finite(system: System) -> str:
    """The first tensor of the networks with NaN or infinity, or nothing."""
    for network, module in system.modules.items():
        for name, value in module.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                return f"the {network}'s {name}"
    return ""


@contextmanager
def _patient_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C wait for the end of a step, so that the checkpoint is whole; the second does not wait.

    Only in the main thread and where nobody else has an opinion on Ctrl-C; elsewhere it changes nothing.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _validate(system: System, state: Mapping[str, Tensor]) -> dict[str, float]:
    """Judge the averaged weights, then put the trained ones back."""
    generator = system.generator
    own = {name: value.detach().clone() for name, value in generator.state_dict().items()}
    was_training = generator.training
    generator.load_state_dict(state)
    generator.eval()
    try:
        with torch.no_grad():
            return dict(system.validate(generator))
    finally:
        generator.load_state_dict(own)
        generator.train(was_training)


def _notes(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in values.items()}
