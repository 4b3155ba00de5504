"""The loop that every recipe trains with.

A recipe gives a :class:`System`: its networks, its optimisers and what one step does. The loop gives the rest:
learning rates, the average of the generator's weights, validation, sample grids, the log, checkpoints that
continue exactly, the stop on values that are not finite. A step is counted when it is done: the first is step 1.

Where several processes train together, each makes every step on items of its own; only the first one averages,
validates and writes. Whatever decides how the loop goes on is agreed upon by all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gankit.backends.cpu.heap import keep_freed_memory
from gankit.errors import GankitError, UsageError
from gankit.training import ranks
from gankit.training.interrupts import patient_interrupt
from gankit.training.log import Log
from gankit.training.optimisers import Average, set_learning_rate
from gankit.training.plan import Plan, Progress
from gankit.training.sample_grid import write_sample_grid
from gankit.training.schedules import constant
from gankit.training.state import RunState, Settings, prepare, restore_checkpoint, save_checkpoint
from gankit.training.system import Stateful, System
from gankit.training.watch import DiversityWatch

if TYPE_CHECKING:
    from gankit.training.tensorboard import Board

__all__ = ["DivergedError", "Plan", "Progress", "Stateful", "System", "fit"]

_log = logging.getLogger(__name__)


class DivergedError(GankitError):
    """A loss or a weight became NaN or infinite."""

    exit_code = 1


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
        plan: how long to train and what to keep. The folder receives ``last.pt`` (everything needed to continue),
            ``best.safetensors`` (the averaged generator with the best score, where the system keeps one),
            ``final.safetensors`` and ``log.csv``.
        notify: called after every step.
        settings: what the run was made with, by name; kept in the checkpoint. A run that is resumed must have the same
            but for the number of steps, the learning rates and the validation images.

    Returns:
        The best validation; empty where the system keeps none.

    Raises:
        DivergedError: a loss or a weight is not finite; names the step and the last good checkpoint.
        UsageError: the folder holds a run and ``resume`` is off, or none and it is on, or one beyond the last step.
        CheckpointError: the folder's checkpoint is damaged or of another run.
        OutputError: nothing can be written there.
        KeyboardInterrupt: Ctrl-C; the step under way was finished and a checkpoint written. A second one does not
            wait for that.
    """
    keep_freed_memory()
    run = _Run(system, plan, settings or {})
    progress = run.progress
    stream = batches(progress.step)
    late = leaving = asked = False
    with patient_interrupt() as interrupted, run:

        def stopping() -> bool:
            """Whether to leave: as all have agreed, or, alone, as it is at this very moment."""
            return asked if progress.processes > 1 else interrupted()

        while not leaving and (run.due or progress.step < plan.steps):
            if not run.due:
                run.advance(next(stream))
                over = plan.stop_after is not None and run.elapsed() > plan.stop_after
                late, asked = ranks.agreed(over, interrupted())
                run.keep(leaving=late or stopping())
            if run.due and not stopping():
                run.validate()
            if notify:
                notify(progress)
            leaving = late or (stopping() and run.saved == progress.step)
        if stopping() and (run.due or progress.step < plan.steps):
            raise KeyboardInterrupt
    return run.best


class _Run:
    """One call of :func:`fit`: where it is, and what it does at each step."""

    def __init__(self, system: System, plan: Plan, settings: Settings) -> None:
        self.system, self.plan, self.settings = system, plan, settings
        self.first = ranks.rank() == 0
        self.last = ranks.by_first(lambda: prepare(plan.folder, resume=plan.resume))
        self.average = Average(system.generator, plan.average) if plan.average and self.first else None
        self.log = Log(plan.folder / "log.csv")
        self.watch = DiversityWatch()
        state = RunState(settings=settings)
        if ranks.world() > 1:  # the same weights for all so far, but each its own noise
            torch.manual_seed(torch.initial_seed() + ranks.rank())
        if plan.resume:
            state = restore_checkpoint(self.last, system, self.average, self.log, self.watch, settings)
            if state.step > plan.steps:
                raise UsageError(f"{self.last}: is already at step {state.step}: give --steps of at least that")
            _log.info("resumed %s at step %d", self.last, state.step)
        self.progress = Progress(state.step, plan.steps, began=state.step, processes=ranks.world())
        self.best, self.due, self.saved = state.best, state.due, state.step
        ranks.by_first(lambda: self.log.begin(state.step, validated=not state.due))
        self.board: Board | None = None
        if plan.tensorboard:
            ranks.by_first(lambda: self._open_board(state.step))
        self._began = time.perf_counter()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board:
            self.board.close()

    def elapsed(self) -> float:
        """Seconds since the first step of this call."""
        return time.perf_counter() - self._began

    def advance(self, batch: Any) -> None:
        """One step."""
        system, progress = self.system, self.progress
        for name, optimiser in system.optimisers.items():
            set_learning_rate(optimiser, system.schedules.get(name, constant())(progress.step))
        losses = system.step(batch, progress.step)
        if self.average:
            self.average.update(system.generator)
        progress.step += 1
        progress.take(losses)
        progress.rate = (progress.step - progress.began) / self.elapsed()

    def _read_losses(self) -> None:
        """Read the losses of all steps since the last time, in one transfer, and log them.

        Until then they stay on their device: to read one is to wait for all that the device has still to do.

        Raises:
            DivergedError: one is not finite; it names the first step of which that is true.
            OutputError: the log cannot be written.
        """
        for step, losses in self.progress.read(ranks.mean):
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise _diverged(f"{', '.join(bad)} is not finite", step, self.last)
            if self.first:
                self.log.take(losses)

    def keep(self, *, leaving: bool) -> None:
        """Log the step; write a checkpoint if it is time for one, or for the validation, or to leave.

        The checkpoint comes before the validation, which takes long and much memory: whatever happens there, the
        resumed run begins with what was ``due``.

        Raises:
            DivergedError: a loss or a weight is not finite.
            OutputError: log or checkpoint cannot be written.
        """
        step, plan = self.progress.step, self.plan
        self.due = step == plan.steps or (step % plan.validate_every == 0 and step > self.system.head_start)
        keeping = self.due or leaving or step % plan.checkpoint_every == 0
        showing = bool(plan.grid_every) and (step % plan.grid_every == 0 or step == plan.steps)
        logging_now = self.log.is_due(self.progress)
        if keeping or showing or logging_now:
            self._read_losses()
        # A finite loss can have a gradient that is not; nothing that came of it may be kept.
        if keeping:
            wrong = _not_finite(self.system)
            if any(ranks.agreed(bool(wrong))):
                raise _diverged(f"{wrong or 'a weight of another process'} is not finite", step, self.last)
        if logging_now:
            ranks.by_first(self._write_losses)
        if keeping:
            self._save()
        if showing:
            ranks.by_first(self._sample_grid)

    def validate(self) -> None:
        """Validate; keep the best weights, and the last.

        Raises:
            OutputError: log, weights or checkpoint cannot be written.
        """
        self.progress.validation, self.best = ranks.by_first(self._validated)
        self.due = False
        self._save()

    def _validated(self) -> tuple[dict[str, float], dict[str, float]]:
        """The validation's figures, and the best so far; writes the log and the weights."""
        system, folder, progress, best = self.system, self.plan.folder, self.progress, self.best
        state = self._state()
        with _shown(system.generator, state) as generator:
            progress.validation = dict(system.validate(generator))
            diversity = system.diversity(generator)
        if diversity is not None:
            progress.validation["diversity"] = diversity
            self.watch.see(diversity, progress.step)
        found = {**progress.validation, "step": float(progress.step)}
        if system.keeps_best and found["score"] > best.get("score", -math.inf):
            best = found
            system.save_generator(folder / "best.safetensors", state, _notes(found))
        if progress.step == self.plan.steps:
            system.save_generator(folder / "final.safetensors", state, _notes(found))
        self._show(self.log.write_validation(progress))
        return progress.validation, best

    def _sample_grid(self) -> None:
        with _shown(self.system.generator, self._state()) as generator:
            pixels = self.system.sample_grid(generator)
        if pixels is not None:
            write_sample_grid(self.plan.folder, self.progress.step, pixels)
            if self.board:
                self.board.show(pixels, self.progress.step)

    def _state(self) -> Mapping[str, Tensor]:
        """The weights that are validated and shipped."""
        return self.average.state if self.average else self.system.generator.state_dict()

    def _write_losses(self) -> None:
        self._show(self.log.write(self.progress))

    def _open_board(self, step: int) -> None:
        from gankit.training.tensorboard import Board

        self.board = Board(self.plan.folder, step)

    def _show(self, rows: list[tuple[int, str, float]]) -> None:
        if self.board:
            self.board.write(rows)

    def _save(self) -> None:
        state = RunState(self.progress.step, self.best, self.due, self.settings)
        save_checkpoint(self.last, self.system, self.average, self.log, self.watch, state)
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


@contextmanager
def _shown(generator: nn.Module, state: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The generator with other weights, in eval mode and without gradients; then all is as it was.

    That includes the random numbers: how often a run is validated does not change what it learns.
    """
    own = {name: value.detach().clone() for name, value in generator.state_dict().items()}
    was_training = generator.training
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    generator.load_state_dict(state)
    generator.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield generator
    finally:
        generator.load_state_dict(own)
        generator.train(was_training)


def _notes(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in values.items()}
