"""The open model of a pipeline. If an earlier run described it, only its facts are read, and torch is not imported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.checkpoints.known import KnownModel, look_up, store
from gankit.memory import import_torch
from gankit.pipeline.source import ModelSource
from gankit.pipeline.weights_identity import weights_sha256

if TYPE_CHECKING:
    from gankit_export.precisions import Precision

    from gankit.backends.choice.low_memory import Footprint
    from gankit.checkpoints.types import Loaded

_LOG = logging.getLogger("gankit.checkpoints")
_MARGIN = 2.0  # of the memory for each pixel, which is a little more for a small image than for a large one
_SIDE = 64
_UNDESCRIBED = (".engine", ".pt2", ".param", ".xml")  # their manifests describe them, or they are their own graphs


@dataclass(frozen=True)
class Opened:
    """A model, with what a run needs to know of its generator.

    Attributes:
        loaded: the model, with the facts that the user stated. Its generator may not be read yet.
        read: the model as its file describes it.
        question: how it was opened; ``None`` for a model that is in no file.
        warnings: the lines that were logged while its file was read.
        known: the description by an earlier run, if there is one.
    """

    loaded: Loaded
    read: Loaded
    question: tuple[Any, ...] | None
    warnings: tuple[str, ...]
    known: KnownModel | None

    @cached_property
    def halo(self) -> int:
        """The halo of the generator in input pixels; 0 for one whose images are never cut."""
        facts = self.loaded.facts
        if not facts.tileable:
            return 0
        if facts.halo is not None:
            return facts.halo
        if self.known is not None:
            return self.known.halo
        from gankit_export.receptive_field import halo

        return halo(self.loaded.generator)

    @cached_property
    def _footprint(self) -> Footprint:
        from gankit.backends.choice.low_memory import Footprint

        return Footprint(self.loaded)

    def fits(self, height: int, width: int, precision: Precision, limit: int) -> bool:
        """Whether the layers of an image fit into some memory.

        Args:
            height: height of the image in pixels.
            width: width of the image in pixels.
            precision: precision of the engine.
            limit: memory in bytes.
        """
        each = None if self.known is None else self.known.pixel_bytes.get(precision)
        if each is not None:
            tall, wide = (max(side, self._side) + self.loaded.facts.multiple for side in (height, width))
            if _MARGIN * each * tall * wide <= limit:
                return True
        return self._footprint.bytes(height, width, precision) <= limit

    @property
    def _side(self) -> int:
        """The side of the image for which the memory is recorded."""
        facts = self.loaded.facts
        return -(-max(_SIDE, facts.minimum) // facts.multiple) * facts.multiple

    def describe(self) -> None:
        """Store what is known of the model for later runs, unless an earlier one did."""
        if self.question is None or self.known is not None:
            return
        pixel_bytes: dict[str, float] = {}
        if not self.loaded.facts.tileable:
            side = self._side
            for precision in self.loaded.facts.precisions:
                pixel_bytes[precision] = self._footprint.bytes(side, side, precision) / side**2
        read = self.read
        about = str(read.path), read.recognised, read.assumed, self.warnings
        store(self.question, KnownModel(read.facts, read.sha256, *about, self.halo, pixel_bytes))


def open_source(source: ModelSource, max_memory: int | None = None) -> Opened:
    """Open a model.

    Args:
        source: the model and how to open it.
        max_memory: bytes that the process may use in all, which loading torch must not exceed.

    Raises:
        UsageError, CheckpointError: See :meth:`ModelSource.open`.
        NoMemoryError: If there is no memory to load torch.
    """

    def read() -> Loaded:
        import_torch(max_memory)
        return source.read()

    question = _question(source)
    known = None if question is None else look_up(question)
    if known is not None:
        for line in known.warnings:
            _LOG.warning("%s", line)
        found = known.loaded(read)
        return Opened(source.checked(found), found, question, known.warnings, known)
    with _logged() as lines:
        found = read()
    if question is not None and found.sha256 != _sha256_of(found.path):
        question = None  # the weights are not those of the file that it names
    return Opened(source.checked(found), found, question, tuple(lines), None)


def _question(source: ModelSource) -> tuple[Any, ...] | None:
    """Return how a model is opened, with the sha256 of its weights; ``None`` for a model that is in no file."""
    if not isinstance(source.model, str | Path) or Path(source.model).suffix.lower() in _UNDESCRIBED:
        return None
    sha256 = weights_sha256(source)
    if sha256 is None:
        return None
    options = sorted((source.options or {}).items())
    return str(source.model), isinstance(source.model, str), sha256, source.direction, source.norm, options


def _sha256_of(path: Path) -> str:
    from gankit.pipeline.journal import sha256_of

    return sha256_of(path)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the lines that the checkpoints log in this thread."""
    lines: list[str] = []
    here = threading.get_ident()

    class Collects(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here:
                lines.append(record.getMessage())

    handler = Collects(logging.WARNING)
    _LOG.addHandler(handler)
    try:
        yield lines
    finally:
        _LOG.removeHandler(handler)
