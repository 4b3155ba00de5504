"""Memory that runs out while an engine works. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gankit.errors import BackendError


class EngineMemoryError(BackendError, MemoryError):
    """The engine ran out of memory for a batch. A smaller batch may fit."""


@contextmanager
def memory_errors(*words: str) -> Iterator[None]:
    """Convert a runtime's own exception for exhausted memory to :class:`EngineMemoryError`.

    Args:
        words: parts of the runtime's message. (The pipeline recognises torch's exceptions by itself.)

    Raises:
        EngineMemoryError: In place of a :class:`MemoryError`, or of an exception whose message has one of the words.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or any(word in str(error) for word in words):
            raise EngineMemoryError("the engine is out of memory") from error
        raise
