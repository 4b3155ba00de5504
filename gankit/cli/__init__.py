"""The command line: one command per file, each imported when it is called. Parses, calls, prints; no logic.

``gankit --help`` must stay fast: this module knows the commands by name and a line of help, and imports click only.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import click

from gankit.cli.group import Entry, LazyGroup
from gankit.cli.process import ended_as_by_ctrl_c, one_line, quiet_libraries
from gankit.errors import GankitError
from gankit.version import __version__

INTERRUPTED = 130
# What is wrong with the user's files, wherever it is met, and not with us.
_OF_THE_FILES = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.ELOOP})


COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "upscale": Entry("upscale:upscale", "Upscale images and folders of images."),
        "translate": Entry("translate:translate", "Translate images by an image-to-image generator."),
        "generate": Entry("generate:generate", "Generate images from noise."),
        "export": Entry("export:export", "Write a model as ONNX, with a manifest and proven parity."),
        "convert": Entry("convert:convert", "Turn anybody's weights file into safetensors."),
        "doctor": Entry("doctor:doctor", "Show what can run here, and why the rest cannot."),
        "models": Entry("models:models", "List the models, or show one."),
        "train": Entry("train:train", "Train a model by its recipe."),
        "evaluate": Entry("evaluate:evaluate", "Measure models: upscaling, translation, samples."),
    }
)


@click.group(
    cls=LazyGroup, package=__name__, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="gankit")
def gankit() -> None:
    """Run trained GAN generators over real images, fast and proven.

    Start with: gankit upscale photos/ --output upscaled/
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the ``gankit`` command.

    Args:
        arguments: of the command line; ``None`` for those of the process.

    Returns:
        The exit status: 0 all done, 1 some images failed, 2 wrong use, 130 interrupted, 143 and 129 ended by
        SIGTERM and SIGHUP. Errors that a user can cause are reported in one line on stderr; anything else keeps its
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
        sys.stdout = None
        return 1
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_FILES:
            raise
        _tell(f"{error.filename}: {error.strerror}")
        return 2
    return status if isinstance(status, int) else 0


def _tell(message: str) -> None:
    click.echo(f"error: {one_line(message)}", err=True)
