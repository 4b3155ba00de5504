"""The command line: one command per file, each imported when it is called. Commands parse, call and print only.

``gankit --help`` must stay fast, so this module knows each command by its name and one line of help, and imports only
click.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

import click

from gankit.cli.group import Entry, LazyGroup
from gankit.cli.log import JsonLog, json_lines
from gankit.cli.process import any_terminal, ended_as_by_ctrl_c, leave, one_line, quiet_libraries
from gankit.errors import GankitError
from gankit.version import __version__

INTERRUPTED = 130
# Errors that are due to the user's files or disk, wherever they occur, and not to gankit.
_OF_THE_FILES = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.ELOOP})


COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "upscale": Entry("upscale:upscale", "Upscale images and folders of images."),
        "translate": Entry("translate:translate", "Translate images with an image-to-image generator."),
        "generate": Entry("generate:generate", "Generate images from noise."),
        "serve": Entry("serve:serve", "Serve upscaling, translation and generation over HTTP."),
        "export": Entry("export:export", "Export a model to ONNX or TensorRT and check its parity with fp32."),
        "convert": Entry("convert:convert", "Convert a weights file to safetensors."),
        "cache": Entry("cache:cache", "List, verify and remove the files that gankit keeps between runs."),
        "bench": Entry("bench:bench", "Measure the engines that can run a model here."),
        "doctor": Entry("doctor:doctor", "Show what this machine can run."),
        "models": Entry("models:models", "List the models, or describe one."),
        "train": Entry("train:train", "Train a model from a recipe."),
        "evaluate": Entry("evaluate:evaluate", "Measure the quality of models."),
    }
)


@click.group(
    cls=LazyGroup, package=__name__, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="gankit")
def gankit() -> None:
    """Run trained GAN generators with the fastest engine of this machine.

    To upscale a folder of images, run: gankit upscale photos/
    """


def command() -> NoReturn:
    """Run the command of the process, and end the process with its exit status."""
    leave(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``gankit`` command.

    Errors that a user can cause are reported in one line on stderr. Any other exception keeps its traceback.

    Args:
        arguments: the arguments of the command line; ``None`` takes those of the process.

    Returns:
        The exit status, which is 0 if everything succeeded, 1 if some images failed, 2 for a usage error, 130 after
        Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    with ended_as_by_ctrl_c() as signals, quiet_libraries(), any_terminal(), json_lines(arguments) as log:
        try:
            status = _main(arguments, log)
        except (KeyboardInterrupt, Exception) as error:
            # After SIGHUP there is no terminal to print an error on.
            if not (signals and isinstance(error, KeyboardInterrupt | OSError)):
                if log is None or isinstance(error, KeyboardInterrupt):
                    raise
                log.bug(error)
                return 1
        return 128 + signals[0] if signals else status


def _main(arguments: Sequence[str] | None, log: JsonLog | None) -> int:
    try:
        status = gankit.main(args=arguments, standalone_mode=False, obj=log)
    except GankitError as error:
        _print_error(str(error), log, getattr(error, "path", None))
        return error.exit_code
    except click.ClickException as error:
        if log is None:
            error.show()
        else:
            log.write("error", error.format_message(), level="error")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _print_error("interrupted; finished results are kept, run the command again to continue", log)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe has closed it (gankit models | head). Keep Python from complaining at exit.
        sys.stdout = None
        return 1
    except OSError as error:
        if error.filename is None and error.errno == errno.ENOSPC:  # results that cannot be written name their files
            sys.stdout = None
            _print_error(f"the output of the command cannot be written: {error.strerror}", log)
            return 2
        if error.filename is None or error.errno not in _OF_THE_FILES:
            raise
        _print_error(f"{error.filename}: {error.strerror}", log, error.filename)
        return 2
    return status if isinstance(status, int) else 0


def _print_error(message: str, log: JsonLog | None, file: object = None) -> None:
    if log is not None:
        log.write("error", message, level="error", file=file)
        return
    click.echo(f"error: {one_line(message)}", err=True)
