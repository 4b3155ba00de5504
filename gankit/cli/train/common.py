"""What the commands of all recipes share: their options, and how a run is started, shown and ended."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gankit.cli import INTERRUPTED
from gankit.cli.folders import leave_no_empty_folders
from gankit.errors import GankitError

if TYPE_CHECKING:
    from gankit.training.fabric import Device
    from gankit.training.loop import Plan, Progress

_TORCHRUN = "TORCHELASTIC_RUN_ID"  # what it gives every process that it launches
_GO_ON = "--resume continues from the last checkpoint"

COUNT = click.IntRange(1)
NUMBER = click.IntRange(0)
WEIGHT = click.FloatRange(0)
SHARE = click.FloatRange(0, 1, max_open=True)

F = TypeVar("F", bound=Callable[..., Any])


class _InterruptedError(GankitError):
    """Ctrl-C; what was kept."""

    exit_code = INTERRUPTED


@dataclass(frozen=True)
class Common:
    """What every recipe can be given.

    Attributes:
        output: folder of the run.
        steps: the last step.
        batch: samples in a step, on each device.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        grid_every: steps between sample grids; 0 for none.
        average: decay of the average of the generator's weights; 0 for none.
        tensorboard: whether to log for TensorBoard too.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: on this machine.
        nodes: machines.
        precision: ``"auto"``, ``"bf16"`` or ``"fp32"``.
        workers: loader processes.
        seed: of the weights, the data and the noise.
        resume: continue from the folder's checkpoint.
        stop_after: seconds after which to stop and save a checkpoint; ``None`` to train to the end.
        quiet: print only the result.
    """

    output: Path
    steps: int
    batch: int
    validate_every: int
    checkpoint_every: int
    grid_every: int
    average: float
    tensorboard: bool
    device: str
    devices: int
    nodes: int
    precision: str
    workers: int
    seed: int
    resume: bool
    stop_after: float | None
    quiet: bool

    def plan(self) -> Plan:
        """The part of it that the loop needs."""
        from gankit.training.loop import Plan

        return Plan(
            steps=self.steps,
            folder=self.output,
            validate_every=self.validate_every,
            checkpoint_every=self.checkpoint_every,
            average=self.average,
            resume=self.resume,
            stop_after=self.stop_after,
            grid_every=self.grid_every,
            tensorboard=self.tensorboard,
        )

    def place(self) -> Device:
        """Where and how precisely to train."""
        from gankit.training.fabric import Device

        return Device(self.device, self.precision, self.devices, self.nodes)


def common(
    *,
    steps: int,
    batch: int,
    validate_every: int = 1000,
    checkpoint_every: int = 500,
    grid_every: int = 0,
    average: float = 0.999,
    precision: str = "auto",
) -> Callable[[F], F]:
    """Give a command the options that all recipes have, and one argument ``common`` for them.

    Args:
        steps: default of ``--steps``, and so on.
        batch: likewise.
        validate_every: likewise.
        checkpoint_every: likewise.
        grid_every: likewise.
        average: likewise.
        precision: likewise.
    """
    options = [
        click.option(
            "--output",
            type=click.Path(path_type=Path),
            required=True,
            help="Folder for the checkpoint, the log and the weights.",
        ),
        _with_default("--steps", COUNT, steps, "Number of training steps."),
        _with_default("--batch", COUNT, batch, "Samples in a step, on each device."),
        _with_default("--validate-every", COUNT, validate_every, "Steps between validations."),
        _with_default("--checkpoint-every", COUNT, checkpoint_every, "Steps between checkpoints."),
        _with_default("--grid-every", NUMBER, grid_every, "Steps between sample grids; 0 writes none."),
        _with_default(
            "--average", SHARE, average, "Decay of the moving average of the generator's weights; 0 turns it off."
        ),
        click.option("--tensorboard", is_flag=True, help="Also write the log for TensorBoard."),
        _with_default("--device", click.Choice(["auto", "cpu", "cuda"]), "auto", "Device to train on."),
        _with_default("--devices", COUNT, 1, "Number of devices on this machine; torchrun sets it where it launches."),
        _with_default("--nodes", COUNT, 1, "Number of machines; torchrun sets it where it launches."),
        _with_default(
            "--precision",
            click.Choice(["auto", "bf16", "fp32"]),
            precision,
            "Precision of the arithmetic; 'auto' is bf16 where the hardware computes in it, else fp32.",
        ),
        _with_default("--workers", NUMBER, 0, "Processes that load the data; 0 loads it in the main process."),
        _with_default("--seed", NUMBER, 0, "Seed of the weight init, the order of the data and the noise."),
        click.option("--resume", is_flag=True, help="Continue from the checkpoint in the output folder."),
        click.option(
            "--stop-after",
            type=WEIGHT,
            metavar="SECONDS",
            help="Stop after this many seconds and save a checkpoint.",
        ),
        click.option("--quiet", is_flag=True, help="Print only the result."),
    ]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            own = {field.name: given.pop(field.name) for field in fields(Common)}
            return command(common=Common(**own), **given)

        wrapped: Any = called
        for option in reversed(options):
            wrapped = option(wrapped)
        result: F = wrapped
        return result

    return decorate


def run(
    common: Common, train: Callable[[Plan, Callable[[Progress], None]], dict[str, float]], *, unit: str = ""
) -> None:
    """Train, show how it goes, and say what came of it. A run that is refused leaves no empty folder.

    Args:
        common: the options.
        train: given the plan and what is to be called after each step; returns the best validation, or nothing.
        unit: of the score.

    Raises:
        GankitError: what ``train`` raises; in the first of several processes only, the others end without a word.
    """
    from gankit.cli.progress_train import progress
    from gankit.training.ranks import is_first

    several = common.devices * common.nodes > 1 or _TORCHRUN in os.environ
    first = is_first() if several else True
    reached = common.steps
    if first:
        leave_no_empty_folders(common.output)

    def track(state: Progress) -> None:
        nonlocal reached
        reached = state.step
        notify(state)

    try:
        with progress(common.steps, batch=common.batch, unit=unit, quiet=common.quiet or not first) as notify:
            best = train(common.plan(), track)
    except KeyboardInterrupt:
        if not first:
            raise _left(INTERRUPTED) from None
        kept = (common.output / "last.pt").exists()
        raise _InterruptedError(f"interrupted; {_GO_ON if kept else 'no checkpoint was written yet'}") from None
    except GankitError as error:
        if not first:
            raise _left(error.exit_code) from None
        raise
    if first:
        _report(common, reached, best, unit)


def _left(status: int) -> SystemExit:
    """How another process than the first ends where the run did.

    Fabric's launcher kills all processes at once where one ends with another status than 0, the first among them,
    which is to say what was wrong. torchrun waits.
    """
    return SystemExit(status if _TORCHRUN in os.environ else 0)


def _report(common: Common, reached: int, best: dict[str, float], unit: str) -> None:
    if reached < common.steps:
        click.echo(f"stopped at step {reached} of {common.steps}; {_GO_ON}")
    if best:
        score = f"{best['score']:.3f} {unit}".strip() if unit else f"{best['score']:.4g}"
        click.echo(f"best {score} at step {best['step']:.0f}: {_written(common.output, 'best')}")
    elif reached == common.steps:
        click.echo(f"weights of step {common.steps}: {_written(common.output, 'final')}")


def _written(folder: Path, stem: str) -> str:
    """The weights of that name; a recipe with several generators has several."""
    found = sorted(folder.glob(f"{stem}*.safetensors"))
    return " and ".join(str(path) for path in found) or str(folder / f"{stem}.safetensors")


def _with_default(name: str, kind: click.ParamType[Any], default: object, text: str) -> Callable[[F], F]:
    return click.option(name, type=kind, default=default, show_default=True, help=text)
