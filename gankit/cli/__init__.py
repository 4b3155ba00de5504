"""The command line: one command per file, each imported when it is called. Parses, calls, prints; no logic.

``gankit --help`` must stay fast: this module knows the commands by name and a line of help, and imports click only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType

import click

from gankit import __version__
from gankit.cli.process import ended_as_by_ctrl_c, one_line, quiet_libraries
from gankit.errors import GankitError

INTERRUPTED = 130


@dataclass(frozen=True)
class _Entry:
    """Where a command is, and what the list of commands says of it."""

    target: str
    help: str


COMMANDS: Mapping[str, _Entry] = MappingProxyType(
    {
        "upscale": _Entry("gankit.cli.upscale:upscale", "Upscale pictures and folders of pictures."),
        "translate": _Entry("gankit.cli.translate:translate", "Translate pictures by an image-to-image generator."),
        "generate": _Entry("gankit.cli.generate:generate", "Generate pictures from noise."),
        "export": _Entry("gankit.cli.export:export", "Write a model as ONNX, with a manifest and proven parity."),
        "convert": _Entry("gankit.cli.convert:convert", "Turn anybody's weights file into safetensors."),
        "doctor": _Entry("gankit.cli.doctor:doctor", "Show what can run here, and why the rest cannot."),
        "models": _Entry("gankit.cli.models:models", "List the models, or show one."),
        "train": _Entry("gankit.cli.train:train", "Train a model by its recipe."),
        "evaluate": _Entry("gankit.cli.evaluate:evaluate", "Measure models: upscaling, translation, samples."),
    }
)


class _LazyGroup(click.Group):
    """A group whose commands are imported when they run, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in COMMANDS.items() if find_spec(entry.target.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gankit")
def gankit() -> None:
    """Run trained GAN generators over real pictures, fast and proven.

    Start with: gankit upscale photos/ --output upscaled/
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the ``gankit`` command.

    Args:
        arguments: of the command line; ``None`` for those of the process.

    Returns:
        The exit status: 0 all done, 1 some pictures failed, 2 wrong use, 130 interrupted, 143 and 129 ended by
        SIGTERM and SIGHUP. Errors that a user can cause are told in one line on stderr; anything else keeps its
        traceback.
    """
    with ended_as_by_ctrl_c() as signals, quiet_libraries():
        try:
            status = _main(arguments)
        except (KeyboardInterrupt, OSError):  # SIGHUP comes once the terminal to tell it on is gone
            if not signals:
                raise
        return 128 + signals[0] if signals else status


def _main(arguments: Sequence[str] | None) -> int:
    try:
        status = gankit.main(args=arguments, standalone_mode=False)
    except GankitError as error:
        _tell(str(error))
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted; what is done is kept, run again to go on")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left (gankit models | head). Nothing is wrong; Python must not complain at exit.
        sys.stdout = None  # type: ignore[assignment]
        return 1
    return status if isinstance(status, int) else 0


def _tell(message: str) -> None:
    click.echo(f"error: {one_line(message)}", err=True)
