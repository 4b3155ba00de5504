"""Whether the pipeline keeps its engine busy: ``python -m bench.pipeline``.

Each row runs a folder through `gankit upscale`'s pipeline, and then the engine and the encoder alone, in one process:
decoded images through the engine, and the results through the encoder on as many threads as the run has. Decoding,
engine and encoding overlap in a run, so that it should take little more than the longer of the two; the column "run /
longer" is that quotient. The engine alone takes one image at a time (of a clip, as many frames as a call takes),
whereas a run shares calls among images of equal size, so that it may take less. What runs by strips is one piece when
engine and encoder run alone. The last column is how wrong the time left was that the run stated half-way.

Run it on a quiet machine. ``--only`` picks rows by parts of their names. ``--rounds`` repeats each row, and the median
of each column counts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from bench.common import machine_facts
from bench.huge import SCALE, network
from bench.works import SMALL, Work, works
from gankit import Upscaler
from gankit.images import decode, encode
from gankit.pipeline.items import Progress
from gankit.pipeline.report import ImageReport, Report
from gankit.pipeline.workload import thread_counts
from gankit.video import VideoOptions, run_files

WIDTH = 160  # characters of the table
STRIPS_BYTES = 400 << 20  # for the strips, above what the process has


@dataclass(frozen=True)
class Measured:
    """One row.

    Attributes:
        name: of the work.
        megapixels: of the results.
        run: seconds of the run.
        engine_share: share of them in which the engine was busy.
        bottleneck: what took the most of them.
        engine: seconds of the engine alone.
        encoder: seconds of the encoder alone.
        left: the seconds left that the run stated half-way, over those that it took.
    """

    name: str
    megapixels: float
    run: float
    engine_share: float
    bottleneck: str
    engine: float
    encoder: float
    left: float

    @property
    def over(self) -> float:
        """The run's seconds over those of the longer of engine and encoder."""
        return self.run / max(self.engine, self.encoder)


class Listener:
    """Notes when a run states which time is left."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def __call__(self, state: Progress) -> None:
        """Take a state of the run, from any thread."""
        if (left := state.seconds_left) is not None:
            self._seen.append((perf_counter(), left))

    def half_way(self, began: float, ended: float) -> float:
        """Return what was stated half-way, counted down since, over what was true.

        Args:
            began: when the run began.
            ended: when it ended.
        """
        middle = (began + ended) / 2
        at, left = max(((at, left) for at, left in self._seen if at <= middle), default=(middle, 0.0))
        return (left - (middle - at)) / (ended - middle)


def measure(work: Work, upscaler: Upscaler, alone: Upscaler, folder: Path) -> Measured:
    """Run a work, and its engine and encoder alone.

    Args:
        work: the work.
        upscaler: has run before, so that its engine is loaded.
        alone: the same, without a limit of memory.
        folder: an empty folder.
    """
    sources, results = folder / "sources", folder / "results"
    sources.mkdir()
    work.make(sources)
    options: dict[str, Any] = {} if work.format is None or work.clip else {"format": work.format}
    listener = Listener()
    report = run_files(upscaler, sources, results, progress=listener, max_pixels=1 << 30, **options)
    ended = perf_counter()
    failed = [item.error for item in report.failures]
    assert not failed, failed
    assert work.strips == any(item.strips for item in report.images), "use more --megapixels"
    totals = report.totals
    assert totals.engine_share is not None
    assert totals.bottleneck is not None
    engine, encoder = (clip_alone if work.clip else images_alone)(report, alone, folder)
    left = listener.half_way(ended - totals.seconds, ended)
    return Measured(
        work.name, totals.output_mp, totals.seconds, totals.engine_share, totals.bottleneck, engine, encoder, left
    )


def images_alone(report: Report, upscaler: Upscaler, folder: Path) -> tuple[float, float]:
    """Return the seconds of the engine alone and of the encoder alone for the images of a run."""
    decoded = [decode(item.source, max_pixels=1 << 30) for item in report.images]
    with clock() as engine:
        for image in decoded:
            upscaler.engines.image(image, lambda part: None)
    del decoded
    made = [(decode(item.target, max_pixels=1 << 30), folder / item.target.name) for item in report.images]
    with ThreadPoolExecutor(thread_counts()["encoders"]) as pool, clock() as encoder:
        list(pool.map(lambda each: encode(*each), made))
    return engine[0], encoder[0]


def clip_alone(report: Report, upscaler: Upscaler, folder: Path) -> tuple[float, float]:
    """Return the seconds of the engine alone and of the encoder alone for the clip of a run."""
    from gankit.video.clip import probe
    from gankit.video.colour import Converter
    from gankit.video.encode import SegmentEncoder, plan_for

    item: ImageReport = report.images[0]
    assert item.output_size is not None
    frames, times = read_clip(item.source)
    assert not any(np.array_equal(*pair) for pair in pairwise(frames))
    at_once = upscaler.engines.largest_batch()
    with clock() as engine:
        for first in range(0, len(frames), at_once):
            upscaler(np.stack(frames[first : first + at_once]))
    made, _ = read_clip(item.target)
    plan = plan_for(probe(item.source), folder / "alone.mp4", VideoOptions(), item.output_size)
    with clock() as encoder:
        segment = SegmentEncoder(plan, Converter(plan.colours, plan.path))
        for pixels, time in zip(made, times, strict=True):
            segment.add(pixels, time)
        segment.finish()
    return engine[0], encoder[0]


def read_clip(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Return the frames of a clip, (H, W, 3) uint8, and their times in ticks."""
    from gankit.video.clip import probe
    from gankit.video.colour import Converter
    from gankit.video.decode import decoded, upright

    clip = probe(path)
    converter = Converter(clip.colours.stated(clip.width, clip.height, rgb=False), path)
    found = [(upright(each.frame, clip, converter), each.pts) for each in decoded(clip)]
    return [pixels for pixels, _ in found], [time for _, time in found]


@contextmanager
def clock() -> Iterator[list[float]]:
    """Measure the seconds of a block, which are the first item of the list afterwards."""
    seconds: list[float] = []
    began = perf_counter()
    yield seconds
    seconds.append(perf_counter() - began)


def table(rows: Sequence[Measured]) -> Table:
    """Return the rows as a table."""
    found = Table(box=box.SIMPLE)
    found.add_column("work", no_wrap=True)
    for title in (
        "results MP",
        "run s",
        "engine busy",
        "bottleneck",
        "engine alone s",
        "encoder alone s",
        "run / longer",
        "time left",
    ):
        found.add_column(title, justify="right")
    for row in rows:
        seconds = (f"{value:.2f}" for value in (row.engine, row.encoder, row.over))
        busy = f"{row.engine_share:.0%}"
        left = f"{row.left - 1:+.0%}"
        found.add_row(row.name, f"{row.megapixels:.1f}", f"{row.run:.2f}", busy, row.bottleneck, *seconds, left)
    return found


def middle(rounds: Sequence[Measured]) -> Measured:
    """Return the median of each column."""
    names = ("run", "engine_share", "engine", "encoder", "left")
    return replace(rounds[-1], **{name: median(getattr(each, name) for each in rounds) for name in names})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="edsr-photo", help="name of an upscaler  [edsr-photo]")
    parser.add_argument("--backend", default="auto", help="backend  [auto]")
    parser.add_argument("--images", type=int, default=24, help="images of the test set  [24]")
    parser.add_argument("--small", type=int, default=200, help="number of small images  [200]")
    parser.add_argument("--megapixels", type=float, default=100.0, help="of the result of the large image  [100]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the clip  [10]")
    parser.add_argument("--clip-size", default="160x120", help="of the clip, in pixels  [160x120]")
    parser.add_argument("--rounds", type=int, default=1, help="how often each row runs  [1]")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of rows")
    given = parser.parse_args(arguments)
    width, height = map(int, given.clip_size.split("x"))
    console, rows = Console(width=WIDTH), []
    console.print(", ".join(f"{name} {value}" for name, value in machine_facts().items()))
    chosen = [
        work
        for work in works(given.images, given.small, given.megapixels, given.seconds, (width, height))
        if not given.only or any(part in work.name for part in given.only)
    ]
    with ExitStack() as stack:
        upscalers: dict[tuple[bool, bool], Upscaler] = {}
        for work in chosen:
            for strips in {False, work.strips}:
                if (kind := (work.tiny, strips)) not in upscalers:
                    made = upscaler_for(replace(work, strips=strips), given.model, given.backend)
                    engine = stack.enter_context(made).engines.fast().engine
                    upscalers[kind] = made
                    name = "the tiny network" if work.tiny else given.model
                    console.print(f"{name} on {engine.backend} {engine.precision}")
            upscaler, alone = upscalers[work.tiny, work.strips], upscalers[work.tiny, False]
            rounds = []
            for _ in range(given.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    rounds.append(measure(work, upscaler, alone, Path(folder)))
            rows.append(middle(rounds))
    console.print(table(rows))


def upscaler_for(work: Work, model: str, backend: str) -> Upscaler:
    """Make the upscaler of a work, and let it choose and load its engine."""
    limit = {"max_memory": psutil.Process().memory_info().rss + STRIPS_BYTES} if work.strips else {}
    if work.tiny:
        made = Upscaler(network(), scale=SCALE, value_range=(0, 1), backend=backend, **limit)
    else:
        made = Upscaler(model, backend=backend, **limit)
    made(np.zeros((SMALL, SMALL, 3), np.uint8))
    return made


if __name__ == "__main__":
    main()
