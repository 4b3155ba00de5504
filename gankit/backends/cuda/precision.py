"""True float32 arithmetic on a GPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gankit_export.precisions import Precision


@contextmanager
def exact_fp32(device: str, precision: Precision) -> Iterator[None]:
    """Run convolutions and matrix products in true float32 inside the context.

    By default torch rounds the inputs of fp32 convolutions on a GPU to TF32, which has 11 bits. The host program may
    also have allowed it for matrix products. Both settings belong to the process. They change when the first of several
    threads enters the context, and are restored when the last one leaves it.

    torch has an older and a newer name for each setting, and raises an error when it reads the older one while the two
    disagree. The context therefore sets both, unless they already disagree because of the host program.

    For other precisions and on a CPU, the context does nothing.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        precision: precision of the engine.
    """
    if precision != "fp32" or not device.startswith("cuda"):
        yield
        return
    _SETTINGS.enter()
    try:
        yield
    finally:
        _SETTINGS.leave()


class _ExactSettings:
    """Counts the contexts that are open in all threads, and changes the settings of the process for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._restore: list[Callable[[], None]] = []
        self._warned = False

    def enter(self) -> None:
        with self._lock:
            if not self._open:
                with self._quiet():
                    self._restore = [*_exact_convolutions(), *_exact_products()]
            self._open += 1

    def leave(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open:
                return
            restore, self._restore = self._restore, []
            with self._quiet():
                for each in restore:
                    each()
            self._warned = True

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Ignore that some versions of torch warn of the older names, once each."""
        if self._warned:
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield


# The settings of torch that it changes belong to the process, so their count does, too.
_SETTINGS = _ExactSettings()


def _exact_convolutions() -> Iterator[Callable[[], None]]:
    """Turn TF32 off for convolutions; yield what restores it."""
    cudnn: Any = torch.backends.cudnn
    if cudnn.conv.fp32_precision != "tf32":
        return
    if _readable(lambda: cudnn.allow_tf32) is True:
        cudnn.allow_tf32 = False
        yield lambda: setattr(cudnn, "allow_tf32", True)
    yield from _exact_by_new_name(cudnn.conv, "tf32")


def _exact_products() -> Iterator[Callable[[], None]]:
    """Turn TF32 off for matrix products; yield what restores it."""
    matmul: Any = torch.backends.cuda.matmul
    if matmul.fp32_precision != "tf32":
        return
    known = _readable(torch.get_float32_matmul_precision)
    if _readable(lambda: matmul.allow_tf32) is True and isinstance(known, str):
        cpu: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        if cpu.fp32_precision in ("tf32", "bf16"):  # both were set at once, and must not differ
            torch.set_float32_matmul_precision("highest")
            yield lambda: torch.set_float32_matmul_precision(known)
        else:
            matmul.allow_tf32 = False
            yield lambda: setattr(matmul, "allow_tf32", True)
    yield from _exact_by_new_name(matmul, "tf32")


def _exact_by_new_name(operation: Any, before: str) -> Iterator[Callable[[], None]]:
    """Turn TF32 off by the newer name if the older one did not; yield what restores it if the older one does not."""
    if operation.fp32_precision == before:
        operation.fp32_precision = "ieee"

    def restore() -> None:
        if operation.fp32_precision != before:
            operation.fp32_precision = before

    yield restore


def _readable(read: Callable[[], Any]) -> Any:
    """Return a setting, or ``None`` if torch refuses to read it because its two names disagree."""
    try:
        return read()
    except RuntimeError:
        return None
