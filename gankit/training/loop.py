"""The loop that every recipe trains with.

A recipe gives a :class:`System`: its networks, its optimisers and what one step does. The loop gives the rest:
learning rates, the average of the generator's weights, validation, the log, checkpoints that continue exactly, the
stop on values that are not finite. A step is counted when it is done: the first is step 1.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.backends.heap import keep_freed_memory
from gankit.errors import GankitError
from gankit.training.interrupts import patient_interrupt
from gankit.training.optimisers import Average, Schedule, constant, set_learning_rate
from gankit.training.state import Log, RunState, Settings, prepare, restore_checkpoint, save_checkpoint

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
        keeps_best: whether a larger score means better weights. Not where an adversary teaches: PSNR falls as the
            pictures get sharper.
        head_start: steps that leave the generator as it was; they are not judged.
    """

    generator: nn.Module
    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer]
    schedules: Mapping[str, Schedule]
    keeps_best: bool = True
    head_start: int = 0

    @abstractmethod
    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """Forward, backward and optimiser steps on one batch; returns the losses, detached, by name."""

    @abstractmethod
    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """Judge a generator in eval mode. The entry ``"score"`` (larger is better) decides which weights are best."""

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
        resume: continue from the folder's checkpoint.
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
    """Where a run is; given to the callback after every step.

    Attributes:
        step: the steps done.
        steps: the last step.
        losses: of this step.
        rate: steps a second, in this call.
        validation: if the step was judged.
        began: the steps that were done before this call: 0, or where it was resumed.
    """

    step: int = 0
    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    began: int = 0


def fit(
    system: System,
    batches: Callable[[int], Iterator[Any]],
    plan: Plan,
    notify: Callable[[Progress], None] | None = None,
    settings: Settings | None = None,
) -> dict[str, float]:
    """Train.

    Args:
        system: the recipe.
        batches: given the number of steps already done, the batches that follow.
        plan: how long and what to keep. The folder gets ``last.pt`` (everything needed to go on), ``best.safetensors``
            (the averaged generator with the best score, where the system keeps one), ``final.safetensors`` and
            ``log.csv``.
        notify: called after every step.
        settings: what the run was made with, by name; kept in the checkpoint. A run that is resumed must have the same
            but for the number of steps, the learning rates and the validation pictures.

    Returns:
        The best validation; empty where the system keeps none.

    Raises:
        DivergedError: a loss or a weight is not finite; names the step and the last good checkpoint.
        UsageError: the folder holds a run and ``resume`` is off, or none and it is on.
        CheckpointError: the folder's checkpoint is damaged or of another run.
        OutputError: nothing can be written there.
        KeyboardInterrupt: Ctrl-C; the step under way was finished and a checkpoint written. A second one does not
            wait for that.
    """
    keep_freed_memory()
    run = _Run(system, plan, settings or {})
    progress = run.progress
    stream = batches(progress.step)
    late = leaving = False
    with patient_interrupt() as interrupted:
        while not leaving and (run.due or progress.step < plan.steps):
            if not run.due:
                run.advance(next(stream))
                late = plan.stop_after is not None and run.elapsed() > plan.stop_after
                run.keep(leaving=late or interrupted())
            if run.due and not interrupted():
                run.judge()
            if notify:
                notify(progress)
            leaving = late or (interrupted() and run.saved == progress.step)
        if interrupted() and (run.due or progress.step < plan.steps):
            raise KeyboardInterrupt
    return run.best


class _Run:
    """One call of :func:`fit`: where it is, and what it does at each step."""

    def __init__(self, system: System, plan: Plan, settings: Settings) -> None:
        self.system, self.plan, self.settings = system, plan, settings
        self.last = prepare(plan.folder, resume=plan.resume)
        self.average = Average(system.generator, plan.average) if plan.average else None
        self.log = Log(plan.folder / "log.csv")
        state = RunState(settings=settings)
        if plan.resume:
            state = restore_checkpoint(self.last, system, self.average, self.log, settings)
            _log.info("resumed %s at step %d", self.last, state.step)
        self.progress = Progress(state.step, plan.steps, began=state.step)
        self.best, self.due, self.saved = state.best, state.due, state.step
        self.log.begin(state.step, judged=not state.due)
        self._began = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since the first step of this call."""
        return time.perf_counter() - self._began

    def advance(self, batch: Any) -> None:
        """One step.

        Raises:
            DivergedError: a loss is not finite.
        """
        system, progress = self.system, self.progress
        for name, optimiser in system.optimisers.items():
            set_learning_rate(optimiser, system.schedules.get(name, constant())(progress.step))
        losses = {name: float(value) for name, value in system.step(batch, progress.step).items()}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise _diverged(f"{', '.join(bad)} is not finite", progress.step + 1, self.last)
        if self.average:
            self.average.update(system.generator)
        progress.step += 1
        progress.losses, progress.validation = losses, {}
        progress.rate = (progress.step - progress.began) / self.elapsed()

    def keep(self, *, leaving: bool) -> None:
        """Log the step; write a checkpoint if it is time for one, or for the judge, or to leave.

        The checkpoint comes before the judge, who takes long and much memory: whatever happens there, the run goes on
        with what was ``due``.

        Raises:
            DivergedError: a weight is not finite.
            OutputError: log or checkpoint cannot be written.
        """
        step, plan = self.progress.step, self.plan
        self.due = step == plan.steps or (step % plan.validate_every == 0 and step > self.system.head_start)
        keeping = self.due or leaving or step % plan.checkpoint_every == 0
        # A finite loss can have a gradient that is not; nothing that came of it may be kept.
        if keeping and (wrong := _not_finite(self.system)):
            raise _diverged(f"{wrong} is not finite", step, self.last)
        self.log.write(self.progress)
        if keeping:
            self._save()

    def judge(self) -> None:
        """Validate; keep the best weights, and the last.

        Raises:
            OutputError: log, weights or checkpoint cannot be written.
        """
        system, folder, progress = self.system, self.plan.folder, self.progress
        state = self.average.state if self.average else system.generator.state_dict()
        progress.validation = _validate(system, state)
        found = {**progress.validation, "step": float(progress.step)}
        if system.keeps_best and found["score"] > self.best.get("score", -math.inf):
            self.best = found
            system.save_generator(folder / "best.safetensors", state, _notes(found))
        if progress.step == self.plan.steps:
            system.save_generator(folder / "final.safetensors", state, _notes(found))
        self.log.write_validation(progress)
        self.due = False
        self._save()

    def _save(self) -> None:
        state = RunState(self.progress.step, self.best, self.due, self.settings)
        save_checkpoint(self.last, self.system, self.average, self.log, state)
        self.saved = self.progress.step


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
