"""The TensorRT library: whether it is there, in a version that this package knows, and its messages."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

_OLDEST, _TOO_NEW = (10, 12), (12,)
PIP = "pip install tensorrt-cu13==11.4.0.106"
"""The line that installs TensorRT; NVIDIA's own index must be reachable."""


class TensorRTError(RuntimeError):
    """TensorRT cannot be used, or cannot build or run an engine. The message is one line."""


def library() -> Any:
    """Import TensorRT.

    Returns:
        The module ``tensorrt``.

    Raises:
        TensorRTError: If it is not installed, is an empty placeholder, does not load, or has an unknown version.
    """
    try:
        trt = import_module("tensorrt")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tensorrt", "tensorrt_bindings"):
            raise TensorRTError(f"TensorRT does not load: {first_line(error)}") from error
        raise TensorRTError(f"TensorRT is not installed: {PIP}") from error
    except (ImportError, OSError) as error:  # libnvinfer or a CUDA library is missing
        raise TensorRTError(f"TensorRT does not load: {first_line(error)}; reinstall it: {PIP}") from error
    version = getattr(trt, "__version__", None)
    if not isinstance(version, str) or not hasattr(trt, "Builder"):
        raise TensorRTError(f"the installed package tensorrt is an empty placeholder; install TensorRT: {PIP}")
    if numbers(version) < _OLDEST or numbers(version) >= _TOO_NEW:
        raise TensorRTError(f"TensorRT {version} is installed, but 10.12 to 11.x is needed: {PIP}")
    return trt


def missing() -> str | None:
    """Return why TensorRT cannot be used, with the next step; ``None`` if it can be imported."""
    try:
        library()
    except TensorRTError as error:
        return str(error)
    return None


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: ``"10.16.1.11"`` -> ``(10, 16, 1, 11)``."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, or the name of its class if the message is empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def collecting_logger(trt: Any) -> Any:
    """Return a ``tensorrt.ILogger`` that prints nothing and keeps what TensorRT reports.

    TensorRT answers most failures with ``None`` and gives the reason to its logger only. The builder logs from several
    threads.

    Args:
        trt: the module ``tensorrt``.

    Returns:
        A logger with the attribute ``errors``, a list of lines.
    """

    class Collector(trt.ILogger):  # type: ignore[misc]
        """Keeps the errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self._lock = threading.Lock()

        def log(self, severity: Any, msg: str) -> None:
            """Keep errors; drop warnings, which concern the speed of the build and lazy loading."""
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                with self._lock:
                    self.errors.append(" ".join(msg.split()))

        def reason(self, otherwise: str) -> str:
            """Return the first error, which is the cause of those that follow it."""
            with self._lock:
                return self.errors[0] if self.errors else otherwise

    return Collector()
