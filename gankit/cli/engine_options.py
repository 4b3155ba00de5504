"""The engine options that all commands share. A command receives them as one :class:`EngineOptions`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gankit.cli.param_types import Auto, Size
from gankit.errors import UsageError
from gankit.options import PRECISIONS, EngineOptions

Command = TypeVar("Command", bound=Callable[..., Any])


_PRECISION = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=None,
    help="Arithmetic precision of the engine. int8 is lossy, and its first run builds a file, which takes minutes.  "
    "[default: auto]",
)
_FP16 = click.option("--fp16", "shorthand", flag_value="fp16", default=None, help="Same as --precision fp16.")
_BF16 = click.option("--bf16", "shorthand", flag_value="bf16", help="Same as --precision bf16.")
_INT8 = click.option("--int8", "shorthand", flag_value="int8", help="Same as --precision int8.")
_CALIBRATION = click.option(
    "--calibration",
    metavar="DIR",
    default=None,
    help="Folder of images like those that an int8 model will get; with --precision int8.  [default: an image that "
    "ships with gankit]",
)
_DEVICE = click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="Device to run on: cpu, cuda, cuda:1, …, several GPUs as cuda:0,cuda:1 or all, or auto for a GPU if there is "
    "one.",
)
_THREADS = click.option(
    "--threads", type=click.IntRange(1), default=None, help="Number of CPU threads.  [default: one per physical core]"
)
_TILE = click.option(
    "--tile",
    type=Auto(),
    default="auto",
    show_default=True,
    help="Side of a tile in input pixels, including the halo.",
)
max_memory_option = click.option(
    "--max-memory",
    type=Size(),
    default=None,
    help="Memory that gankit may use in all, such as 2GB. Images are processed in smaller parts to fit, and an image "
    "that cannot fit fails.  [default: what the machine or the container has]",
)


def _backend(auto: str) -> Callable[[Command], Command]:
    text = f"Backend to use. auto {auto}. `gankit doctor` lists the backends."
    return click.option("-b", "--backend", metavar="NAME", default="auto", show_default=True, help=text)


def _batch(what: str) -> Callable[[Command], Command]:
    return click.option(
        "--batch", type=Auto(), default="auto", show_default=True, help=f"Number of {what} per engine call."
    )


def engine_options(*, tiles: bool, batch: str) -> Callable[[Command], Command]:
    """Add the engine options to a command, which receives them as ``engine``, an :class:`EngineOptions`.

    Args:
        tiles: whether the command processes images. It then gets the option of tiling, too.
        batch: what a batch consists of, for the help text.
    """
    auto = "picks the fastest one that passes the parity check" if tiles else "is eager, which suits small networks"
    given = [_backend(auto), _PRECISION, _FP16, _BF16, _DEVICE, *([_TILE] if tiles else []), _batch(batch), _THREADS]
    given += [_INT8, _CALIBRATION] if tiles else []
    given += [max_memory_option]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(*args: Any, precision: str | None, shorthand: str | None, **options: Any) -> Any:
            if precision and shorthand and precision != shorthand:
                raise UsageError(f"--precision {precision} and --{shorthand} contradict each other; use one of them")
            names = ["backend", "device", "batch", "threads", "max_memory", *(["tile", "calibration"] if tiles else [])]
            chosen = {name: options.pop(name) for name in names}
            engine = EngineOptions(precision=precision or shorthand or "auto", **chosen)
            return command(*args, engine=engine, **options)

        result: Any = wrapped
        for option in reversed(given):
            result = option(result)
        return result  # type: ignore[no-any-return]

    return decorate
