"""Whether the pipeline keeps its engine busy: ``python -m bench.pipeline``.

Each row runs a folder through `gankit upscale`'s pipeline, and then the engine and the encoder alone, in one process:
decoded images through the engine, and the results through the encoder on as many threads as the run has. Decoding,
engine and encoding overlap in a run, so that it should take little more than the longer of the two; the last column is
that quotient. The engine alone takes one image at a time, whereas a run shares calls among images of equal size, so
that it may take less. Run it on a quiet machine. ``--only`` picks rows by parts of their names.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from bench.common import images, machine_facts
from gankit import Upscaler
from gankit.images import decode, encode
from gankit.pipeline.workload import thread_counts

SMALL = 64  # pixels
WIDTH = 140  # characters of the table
MODES = (("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("PNG", "L"), ("PNG", "RGBA"))


@dataclass(frozen=True)
class Work:
    """A folder to upscale.

    Attributes:
        name: what is in it.
        make: writes the sources into a folder.
        format: format of the results; ``None`` chooses by the sources.
    """

    name: str
    make: Callable[[Path], None]
    format: str | None = "png"


@dataclass(frozen=True)
class Measured:
    """One row.

    Attributes:
        name: of the work.
        images: number of images.
        megapixels: of the results.
        run: seconds of the run.
        engine_share: share of them in which the engine was busy.
        bottleneck: what took the most of them.
        engine: seconds of the engine alone.
        encoder: seconds of the encoder alone.
    """

    name: str
    images: int
    megapixels: float
    run: float
    engine_share: float
    bottleneck: str
    engine: float
    encoder: float

    @property
    def over(self) -> float:
        """The run's seconds over those of the longer of engine and encoder."""
        return self.run / max(self.engine, self.encoder)


def works(count: int, small: int, megapixels: float) -> list[Work]:
    """List the folders.

    Args:
        count: images of the test set.
        small: number of small images.
        megapixels: of the result of the large image, at ×4.
    """
    chosen = images()[1][:count]

    def crops(folder: Path) -> None:
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in chosen]
        random = np.random.default_rng(0)
        for index in range(small):
            source = pixels[index % len(pixels)]
            top, left = (int(random.integers(0, side - SMALL)) for side in source.shape[:2])
            Image.fromarray(source[top : top + SMALL, left : left + SMALL]).save(folder / f"{index:04}.png")

    def whole(folder: Path) -> None:
        for path in chosen:
            shutil.copy(path, folder)

    def mixed(folder: Path) -> None:
        for index, path in enumerate(chosen):
            format, mode = MODES[index % len(MODES)]
            image = Image.open(path).convert(mode)
            side = 96 + 64 * (index % 5)
            image.resize((side, 2 * side // 3)).save(folder / f"{index:02}.{format.lower()}", format)

    def large(folder: Path) -> None:
        image = Image.open(chosen[0]).convert("RGB")
        factor = (megapixels / 16 * 1e6 / (image.width * image.height)) ** 0.5
        image.resize((round(image.width * factor), round(image.height * factor))).save(folder / "large.png")

    return [
        Work(f"{small} images of {SMALL}×{SMALL} -> PNG", crops),
        Work(f"{count} whole images -> PNG", whole),
        Work(f"{count} whole images -> JPEG", whole, "jpg"),
        Work(f"{count} images, mixed formats and sizes", mixed, None),
        Work(f"one image -> PNG of {megapixels:g} MP", large),
    ]


def measure(work: Work, upscaler: Upscaler, folder: Path) -> Measured:
    """Run a work, and its engine and encoder alone.

    Args:
        work: the work.
        upscaler: has run before, so that its engine is loaded.
        folder: an empty folder.
    """
    sources, results = folder / "sources", folder / "results"
    sources.mkdir()
    work.make(sources)
    report = upscaler.run(sources, results, **({} if work.format is None else {"format": work.format}))
    failed = [item.error for item in report.failures]
    assert not failed, failed
    totals = report.totals
    assert totals.engine_share is not None
    assert totals.bottleneck is not None
    decoded = [decode(item.source) for item in report.images]
    with clock() as engine:
        for image in decoded:
            upscaler.engines.image(image, lambda part: None)
    del decoded
    made = [(decode(item.target), folder / item.target.name) for item in report.images]
    with ThreadPoolExecutor(thread_counts()["encoders"]) as pool, clock() as encoder:
        list(pool.map(lambda each: encode(*each), made))
    count, pixels = len(report.images), totals.output_mp
    return Measured(
        work.name, count, pixels, totals.seconds, totals.engine_share, totals.bottleneck, engine[0], encoder[0]
    )


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
    ):
        found.add_column(title, justify="right")
    for row in rows:
        seconds = (f"{value:.2f}" for value in (row.engine, row.encoder, row.over))
        busy = f"{row.engine_share:.0%}"
        found.add_row(row.name, f"{row.megapixels:.1f}", f"{row.run:.2f}", busy, row.bottleneck, *seconds)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="edsr-photo", help="name of an upscaler  [edsr-photo]")
    parser.add_argument("--backend", default="auto", help="backend  [auto]")
    parser.add_argument("--images", type=int, default=24, help="images of the test set  [24]")
    parser.add_argument("--small", type=int, default=200, help="number of small images  [200]")
    parser.add_argument("--megapixels", type=float, default=100.0, help="of the result of the large image  [100]")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of rows")
    given = parser.parse_args(arguments)
    console, rows = Console(width=WIDTH), []
    console.print(", ".join(f"{name} {value}" for name, value in machine_facts().items()))
    with Upscaler(given.model, backend=given.backend) as upscaler:
        upscaler(np.zeros((SMALL, SMALL, 3), np.uint8))  # chooses and loads the engine
        engine = upscaler.engines.fast().engine
        console.print(f"{given.model} on {engine.backend} {engine.precision}")
        for work in works(given.images, given.small, given.megapixels):
            if given.only and not any(part in work.name for part in given.only):
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(work, upscaler, Path(folder)))
    console.print(table(rows))


if __name__ == "__main__":
    main()
