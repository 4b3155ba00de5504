"""The process of the command: it ends cleanly at each signal, and libraries print nothing."""

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
    """Return ``text`` as one line that any stream accepts. File names may contain line ends and undecodable bytes."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
