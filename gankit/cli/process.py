"""What the command asks of its process: a clean end at each signal, and libraries that keep to themselves."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

_LOGGERS = ("imagecodecs", "tifffile")


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP end what runs inside as Ctrl-C does, so that no half file stays.

    A signal that is ignored (nohup) or has a handler stays as it is, and outside the main thread all do.

    Yields:
        A list that gets the number of each such signal.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handler = signal.getsignal(signal.SIGINT)
        # A shell lets its background jobs ignore Ctrl-C; they must end all the same.
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


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Do not show what Pillow, tifffile and imagecodecs say of odd files: what matters is reported in our own line."""
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
    """``text`` as a line that any stream takes: names of files may hold line ends, and bytes that are no text."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
