"""The process of the command: it ends cleanly at each signal, and libraries print nothing."""

from __future__ import annotations

import atexit
import codecs
import inspect
import io
import logging
import os
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, MappingProxyType
from typing import NoReturn

_LOGGERS = ("imagecodecs", "tifffile")
_JOINERS = "\u200c\u200d"  # in the words of several languages, and in emoji
_REPLACE = "gankit.replace"
# What gankit's own lines contain beyond ASCII.
_PLAIN: Mapping[str, str] = MappingProxyType(
    {"×": "x", "…": "...", "–": "-", "—": "-", "→": "->", "≥": ">=", "≤": "<="}
)


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[list[int]]:
    """Handle SIGTERM and SIGHUP like Ctrl-C inside the context, so that no partial file remains.

    Signals that are ignored (nohup) or have a handler are left alone, and outside the main thread all of them are.

    Yields:
        A list to which the number of each received signal is appended.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handler = signal.getsignal(signal.SIGINT)
        # A shell makes its background jobs ignore Ctrl-C, but these signals must still end them.
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    with ExitStack() as restore:
        for number in numbers:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)
                restore.callback(signal.signal, number, signal.SIG_DFL)
        yield received


def leave(status: int) -> NoReturn:
    """End the process like ``sys.exit``, but without taking its modules apart, which takes torch most of a second.

    Threads are joined, functions registered with ``atexit`` run, and the streams are flushed, as at any exit. Inside
    another program, such as a profiler that runs ``-m gankit``, it is ``sys.exit``.

    Args:
        status: the exit status.
    """
    # What Python itself calls at its end, in this order. It has no public names.
    ends = [getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)]
    if not _is_program() or None in ends:
        sys.exit(status)
    try:
        for end in ends:
            end()  # type: ignore[misc]
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (Exception, KeyboardInterrupt):
        sys.exit(status)  # Python reports what it cannot flush
    os._exit(status)


def _is_program() -> bool:
    """Whether nothing but the interpreter called the module that is running as a program."""
    frame, modules = inspect.currentframe(), 0
    while frame is not None:
        modules += frame.f_code.co_name == "<module>"
        frame = frame.f_back
    return modules == 1


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide the warnings of Pillow, tifffile and imagecodecs about odd files. gankit reports what matters itself."""
    with ExitStack() as restore:
        for name in _LOGGERS:
            logger, handler = logging.getLogger(name), logging.NullHandler()
            restore.callback(setattr, logger, "propagate", logger.propagate)
            restore.callback(logger.removeHandler, handler)
            logger.propagate = False
            logger.addHandler(handler)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield


def one_line(text: str) -> str:
    """Return ``text`` as one line that is safe to print.

    File names may contain line ends, control characters that a terminal would obey, marks that reverse the direction of
    writing, and undecodable bytes. All but the line ends are escaped.
    """
    return "".join(map(_printable, " ".join(text.split())))


def _printable(character: str) -> str:
    # Cc are control characters, Cf are invisible marks, Cs are undecodable bytes.
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs") or character in _JOINERS:
        return character
    return (
        character.encode("ascii", "backslashreplace").decode("ascii")
        if character > "\x7f"
        else rf"\x{ord(character):02x}"
    )


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")


@contextmanager
def any_terminal() -> Iterator[None]:
    """Let stdout and stderr accept every character, whatever their encoding: what it lacks is replaced or escaped."""
    codecs.register_error(_REPLACE, _replaced)
    with ExitStack() as restore:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                restore.callback(_reconfigure, stream, stream.errors)
                stream.reconfigure(errors=_REPLACE)
        yield


def _reconfigure(stream: io.TextIOWrapper, errors: str | None) -> None:
    with suppress(OSError, ValueError):  # the reader of a pipe is gone, or the stream is closed
        stream.reconfigure(errors=errors)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    text = _PLAIN.get(character) or _escaped(character)
    return text, error.start + 1
