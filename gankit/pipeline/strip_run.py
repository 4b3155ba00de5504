"""Read, compute and write an image by strips at the same time, in bounded memory. Imports no torch.

The engine runs in the caller's thread, where Ctrl-C reaches it. The reader and the writer have a thread each, which end
before the run does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from gankit.images import DecodedImage
from gankit.images.row_image import RowImage
from gankit.memory import available_memory, trim
from gankit.pipeline.flow import Handover, Stop, beside
from gankit.pipeline.stages import Stage
from gankit.pipeline.strips import Looked, count_strips, read_strips, run_strips
from gankit.pipeline.tiles import Plan

if TYPE_CHECKING:
    from gankit.pipeline.processor import Processor


@dataclass
class StripRun:
    """Runs the strips of one image.

    Attributes:
        processor: runs the blocks.
        image: the image.
        looked: what was found of it.
        cut: the plan of the strips.
        in_flight: number of strips of the source, and of the result, that are in memory at a time. With 1, the stages
            take turns.
        write: writes the strips of the result, and returns a sentence for each part that the file does not hold.
        progress: called after each block with the part that is done, as an estimate by the time that the rest takes.
        began: when the image began, by :func:`time.perf_counter`; what came before the strips counts as done.
        reader: reads the source.
        engine: computes; it waits to ``"read"``, and to ``"write"`` also after its own end.
        writer: writes the result.
    """

    processor: Processor
    image: RowImage
    looked: Looked
    cut: Plan
    in_flight: int
    write: Callable[[Generator[DecodedImage, None, None]], tuple[str, ...]]
    progress: Callable[[float], None]
    began: float
    reader: Stage = field(default_factory=Stage, init=False)
    engine: Stage = field(default_factory=Stage, init=False)
    writer: Stage = field(default_factory=Stage, init=False)

    def run(self) -> tuple[str, ...]:
        """Make the result, once; return what ``write`` does.

        Raises:
            ImageError, NotFiniteError, EngineMemoryError: If the image fails.
            OutputError: If the result cannot be written.
        """
        stop, lost, share = Stop(), list[str](), 1 / count_strips(self.cut)
        limit = self.processor.max_memory
        room = available_memory(limit)
        arriving: Handover[np.ndarray] = Handover(self.in_flight, stop)
        made: Handover[DecodedImage] = Handover(self.in_flight, stop)

        def read() -> None:
            with self.reader.running(), closing(read_strips(self.image, self.looked, self.cut)) as strips:
                for rows in strips:
                    self.reader.part += share
                    with self.reader.waiting("run"):
                        wanted = arriving.put(rows)
                    if not wanted:
                        return
                arriving.close()

        def results() -> Generator[DecodedImage, None, None]:
            with closing(self.writer.awaited(iter(made), "run")) as strips:
                for strip in strips:
                    yield strip
                    self.writer.part += share

        def write() -> None:
            with self.writer.running(), closing(results()) as strips:
                lost.extend(self.write(strips))

        def progress(part: float) -> None:
            stop.check()
            self.engine.part = part
            self.progress(self._part(share))

        with self.engine.running():
            with beside(stop, read=read, write=write):
                rows = self.engine.awaited(iter(arriving), "read")
                strips = run_strips(
                    self.processor, self.image, self.looked, self.cut, rows, progress, in_flight=self.in_flight
                )
                with closing(strips):
                    for strip in strips:
                        with self.engine.waiting("write"):
                            wanted = made.put(strip)
                        if not wanted:
                            break
                        if available_memory(limit) < room // 2:  # pieces of freed memory lie between those in use
                            trim()
                made.close()
                ended = perf_counter()
            self.engine.waited["write"] += perf_counter() - ended
        return tuple(lost)

    def _part(self, share: float) -> float:
        """Estimate the part that is done.

        Args:
            share: part of a strip.
        """
        stages = self.reader, self.engine, self.writer
        if not all(stage.part for stage in stages):  # nobody knows yet how long the writer will take
            return min(self.engine.part, share)
        left = [stage.seconds_left for stage in stages]
        since = perf_counter() - self.began
        return since / (since + (max(left) if self.in_flight > 1 else sum(left)))
