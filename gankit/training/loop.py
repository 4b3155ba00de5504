"""The loop that every recipe trains with.

A recipe gives a :class:`System`: its networks, its optimisers and what one step does. The loop gives the rest:
learning rates, the average of the generator's weights, validation, the log, checkpoints that continue exactly, the
stop on values that are not finite.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.errors import GankitError, UsageError
from gankit.training.optimisers import Average, Schedule, constant, set_learning_rate

_log = logging.getLogger(__name__)


class DivergedError(GankitError):
    """A loss became NaN or infinite."""

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
        DivergedError: a loss is not finite; names the step and the last good checkpoint.
        UsageError: the folder holds a run and ``resume`` is off.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    last = plan.folder / "last.pt"
    average = Average(system.generator, plan.average) if plan.average else None
    progress = Progress(steps=plan.steps)
    best: dict[str, float] = {}
    if last.exists():
        if not plan.resume:
            raise UsageError(f"{plan.folder}: holds a run already; continue it with --resume or choose another folder")
        progress.step, best = _restore(last, system, average)
        _log.info("resumed %s at step %d", last, progress.step)
    log = _Log(plan.folder / "log.csv", progress.step)
    stream = batches(progress.step)
    began = time.perf_counter()
    first_step = progress.step
    while progress.step < plan.steps:
        for name, optimiser in system.optimisers.items():
            set_learning_rate(optimiser, system.schedules.get(name, constant())(progress.step))
        losses = {name: float(value) for name, value in system.step(next(stream), progress.step).items()}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written yet"
            raise DivergedError(
                f"{', '.join(bad)} is not finite at step {progress.step}; {kept}; lower the learning rate"
            )
        if average:
            average.update(system.generator)
        progress.step += 1
        progress.losses, progress.validation = losses, {}
        elapsed = time.perf_counter() - began
        progress.rate = (progress.step - first_step) / elapsed
        timed_out = plan.stop_after is not None and elapsed > plan.stop_after
        done = progress.step == plan.steps
        if progress.step % plan.validate_every == 0 or done:
            state = average.state if average else system.generator.state_dict()
            progress.validation = _validate(system, state)
            if progress.validation["score"] > best.get("score", -math.inf):
                best = {**progress.validation, "step": float(progress.step)}
                system.save_generator(plan.folder / "best.safetensors", state, _notes(best))
            if done:
                system.save_generator(
                    plan.folder / "final.safetensors", state, _notes({**progress.validation, "step": progress.step})
                )
        log.write(progress)
        if progress.step % plan.checkpoint_every == 0 or done or timed_out:
            _checkpoint(last, system, average, progress.step, best)
        if notify:
            notify(progress)
        if timed_out:
            break
    return best


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


def _checkpoint(path: Path, system: System, average: Average | None, step: int, best: dict[str, float]) -> None:
    content = {
        "step": step,
        "best": best,
        "modules": {name: module.state_dict() for name, module in system.modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in system.optimisers.items()},
        "average": None if average is None else {"state": average.state, "updates": average.updates},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    temporary = path.with_name(f".{path.name}.part")
    torch.save(content, temporary)
    os.replace(temporary, path)  # noqa: PTH105 - whole or not at all


def _restore(path: Path, system: System, average: Average | None) -> tuple[int, dict[str, float]]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for name, module in system.modules.items():
        module.load_state_dict(content["modules"][name])
    for name, optimiser in system.optimisers.items():
        optimiser.load_state_dict(content["optimisers"][name])
    if average is not None and content["average"] is not None:
        for name, value in content["average"]["state"].items():
            average.state[name].copy_(value)
        average.updates = content["average"]["updates"]
    torch.set_rng_state(content["rng"])
    if torch.cuda.is_available() and content["cuda_rng"]:
        torch.cuda.set_rng_state_all(content["cuda_rng"])
    return int(content["step"]), dict(content["best"])


class _Log:
    """``log.csv``: one line every ten steps with the mean of the losses since, and one for each validation."""

    def __init__(self, path: Path, step: int, every: int = 10) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, float] = {}
        self._count = 0
        rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("step", "name", "value"))
            writer.writeheader()
            writer.writerows(rows)

    def write(self, progress: Progress) -> None:
        for name, value in progress.losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        rows: list[tuple[int, str, str]] = []
        if progress.step % self._every == 0 or progress.step == progress.steps:
            rows += [(progress.step, name, f"{total / self._count:.6g}") for name, total in self._sums.items()]
            rows.append((progress.step, "steps_per_second", f"{progress.rate:.4g}"))
            self._sums, self._count = {}, 0
        rows += [(progress.step, f"validation_{name}", f"{value:.6g}") for name, value in progress.validation.items()]
        if rows:
            with self._path.open("a", newline="") as file:
                csv.writer(file).writerows(rows)
