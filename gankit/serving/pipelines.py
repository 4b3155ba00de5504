"""The open models. One thread uses them: that of the engine room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gankit.models.facts import Direction
from gankit.options import EngineOptions
from gankit.pipeline.sampler import Sampler
from gankit.pipeline.translator import Translator
from gankit.pipeline.upscaler import Upscaler
from gankit.serving.catalogue import Served

Pipeline = Upscaler | Translator | Sampler


@dataclass(frozen=True)
class Generator:
    """One generator that requests ask for. Requests that ask for the same one can share calls of its engine.

    Attributes:
        served: the model.
        direction: which generator of a pair.
        strength: between the faithful and the sharp model; ``None`` runs the model itself.
    """

    served: Served
    direction: Direction | None = None
    strength: float | None = None


class Pipelines:
    """Opens generators when they are first asked for, and closes the least recently used.

    Args:
        engine: the engine options of all.
        most: largest number of generators that are open at a time, at least 1.
        notify: called with each line that a pipeline reports.
    """

    def __init__(self, engine: EngineOptions, most: int, notify: Callable[[str], None]) -> None:
        self._engine, self._most, self._notify = engine, most, notify
        self._open: OrderedDict[Generator, Pipeline] = OrderedDict()

    def get(self, generator: Generator) -> Pipeline:
        """Return the pipeline of a generator.

        Raises:
            GankitError: If it cannot be opened.
        """
        found = self._open.pop(generator, None)
        if found is None:
            while len(self._open) >= self._most:
                self._open.popitem(last=False)[1].close()
            found = self._make(generator)
        self._open[generator] = found
        return found

    def _make(self, generator: Generator) -> Pipeline:
        served, engine, notify = generator.served, self._engine, self._notify
        if served.task == "upscale":
            return Upscaler(served.source, strength=generator.strength, engine=engine, notify=notify)
        if served.task == "translate":
            return Translator(served.source, direction=generator.direction, engine=engine, notify=notify)
        return Sampler(served.source, engine=engine, notify=notify)

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()
