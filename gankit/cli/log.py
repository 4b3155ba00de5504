"""``--log-format json``: everything that a command prints on stderr, as one JSON object in each line."""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal, TypeVar

import click

Level = Literal["info", "error"]
Command = TypeVar("Command", bound=Callable[..., Any])

COMMANDS = ("upscale", "translate", "generate")
"""The commands that have the option."""

_OPTION = "--log-format"
_PIPE_BYTES = 1 << 20
_LONGEST = 1 << 16  # bytes of a line of a library


def log_format_option(command: Command) -> Command:
    """Add the option. :func:`json_lines` reads it before the command does, so that usage errors are JSON too."""
    option = click.option(
        _OPTION,
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        expose_value=False,
        help="How to write messages on stderr: as text with a progress bar, or as one JSON object a line.",
    )
    return option(command)


class JsonLog:
    """Writes lines to a file descriptor. May be used from several threads.

    Args:
        descriptor: the descriptor; ``None`` writes nothing.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def write(self, event: str, message: str, *, level: Level = "info", file: object = None, **fields: Any) -> None:
        """Write a line.

        Args:
            event: what happened; ``docs/how-to/logs.md`` lists the events and their fields.
            message: a sentence for people.
            level: ``"error"`` if something failed.
            file: the file that it concerns.
            fields: the other fields of the event, which JSON can hold.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = {"time": time, "level": level, "event": event, "message": message}
        about["file"] = None if file is None else str(file)  # type: ignore[assignment]
        # In ASCII, because file names may contain bytes that cannot be written as UTF-8.
        rest = (json.dumps({**about, **fields}, default=str) + "\n").encode("ascii")
        with self._lock:
            try:
                while rest and self._descriptor is not None:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:  # the reader of a pipe is gone; the run goes on
                self._descriptor = None

    def bug(self, error: BaseException) -> None:
        """Write the line of an exception that no one expected, with its traceback."""
        message = " ".join(str(error).split()) or type(error).__name__
        text = "".join(traceback.format_exception(error))
        self.write("error", f"{type(error).__name__}: {message}", level="error", traceback=text)


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether the arguments of the command line ask for JSON."""
    if not arguments or arguments[0] not in COMMANDS:
        return False
    options = list(arguments[1:])
    if "--" in options:
        options = options[: options.index("--")]
    wanted = False
    for word, following in pairwise([*options, ""]):
        if word == _OPTION:
            wanted = following == "json"
        elif word.startswith(f"{_OPTION}="):
            wanted = word == f"{_OPTION}=json"
    return wanted


@contextmanager
def json_lines(arguments: Sequence[str] | None) -> Iterator[JsonLog | None]:
    """Write JSON to stderr inside the context, if the arguments ask for it.

    What Python, libraries and child processes write to file descriptor 2 meanwhile becomes events of the kind
    ``"stderr"``, a line each. The descriptor is restored at the end.

    Args:
        arguments: the arguments of the command line; ``None`` takes those of the process.

    Yields:
        The log; ``None`` if the arguments do not ask for JSON.
    """
    if not wants_json(sys.argv[1:] if arguments is None else arguments):
        yield None
        return
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed
        yield JsonLog(None)
        return
    log = JsonLog(saved)
    read, write = os.pipe()
    _enlarge(write)
    # The end is marked by a line, because a child process may keep the pipe open.
    end = b"\0end " + secrets.token_hex(16).encode()
    reader = threading.Thread(target=_wrap, args=(read, end, log), name="stderr-lines", daemon=True)
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    os.dup2(write, 2)
    reader.start()
    try:
        yield log
    finally:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        os.dup2(saved, 2)
        os.write(write, b"\n" + end + b"\n")
        os.close(write)
        reader.join()
        os.close(read)
        os.close(saved)


def _enlarge(pipe: int) -> None:
    """Enlarge a pipe on Linux. A library that fills it while it holds Python's lock would wait for ever."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _wrap(pipe: int, end: bytes, log: JsonLog) -> None:
    """Write each line that arrives in a pipe to the log, until the line that marks the end."""
    rest = b""
    while data := os.read(pipe, _LONGEST):
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if line == end:
                return
            text = line.decode("utf-8", "backslashreplace").rstrip()
            if text:
                log.write("stderr", text)
