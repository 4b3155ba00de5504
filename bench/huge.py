"""Whether a huge image runs within a limit of memory: ``python -m bench.huge``.

It writes a source of 30 000 × 20 000 pixels, photographs under a gradient, and upscales it ×4 with ``gankit upscale
--max-memory`` and a network of two small convolutions whose weights are made here. It prints how much memory the
command and its children have used at most, how long it took, and how large the result is. Then it reads the result with
libvips and compares its columns and bands with plain PyTorch: three columns over the full height, and three bands over
the full width, which cross every seam of the strips and their blocks. ``--whole`` runs the image in one piece, too, and
compares all pixels; it needs the memory for it. The exit status is 1 if the limit or the pixels were not kept.

The files take up to 30 GB, in a temporary folder that is removed (``--folder`` says where). It needs
``gankit[large]``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from bench.common import ROOT, images, machine_facts, read
from gankit.images import from_array
from gankit.images.row_writers import encode_rows

SCALE = 4
OPTIONS = {"scale": SCALE, "channels": 4, "convs": 0}
HALO = 2  # two convolutions of 3×3
ROWS = 64  # of the source, that are written at a time
WIDE = 32  # source pixels of a column or band that is compared
MOST_LEVELS = 1  # an engine may sum in another order, which moves a value over the border between two levels
POLL = 0.2  # seconds between two looks at the memory
WIDTH = 110  # characters of the table


@dataclass(frozen=True)
class Scene:
    """A source: a photograph, mirrored from tile to tile, under a gradient from corner to corner.

    Attributes:
        width: width in pixels.
        height: height in pixels.
        photo: the photograph, (H, W, 3) uint8.
    """

    width: int
    height: int
    photo: np.ndarray

    def part(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Return some pixels, (bottom - top, right - left, 3) uint8."""
        tall, wide = self.photo.shape[:2]
        down, across = np.arange(top, bottom), np.arange(left, right)
        pixels = self.photo[_mirrored(down, tall)][:, _mirrored(across, wide)].astype(np.uint16)
        light = 96 + 80 * down[:, None] // self.height + 80 * across // self.width
        return (pixels * light[..., None].astype(np.uint16) >> 8).astype(np.uint8)

    def write(self, path: Path) -> None:
        """Write it as TIFF or PNG, a few rows at a time."""
        tops = range(0, self.height, ROWS)
        strips = (from_array(self.part(top, min(top + ROWS, self.height), 0, self.width)) for top in tops)
        encode_rows(from_array(self.part(0, 1, 0, 1)), (self.width, self.height), strips, path)


@dataclass(frozen=True)
class Done:
    """A run of the command.

    Attributes:
        seconds: wall time, with the start of Python.
        peak: most bytes that the process and its children had resident.
        image: what its report says of the image.
        engine: what its report says of the engine.
        file_bytes: size of the result.
    """

    seconds: float
    peak: int
    image: dict[str, Any]
    engine: dict[str, Any]
    file_bytes: int


@dataclass(frozen=True)
class Compared:
    """How far two images are from each other.

    Attributes:
        samples: number of samples.
        different: number of those that differ.
        most: largest difference in levels.
    """

    samples: int = 0
    different: int = 0
    most: int = 0

    def plus(self, first: np.ndarray, second: np.ndarray) -> Compared:
        """Add two arrays of the same shape, uint8."""
        apart = np.maximum(first, second) - np.minimum(first, second)
        most = max(self.most, int(apart.max(initial=0)))
        return Compared(self.samples + apart.size, self.different + int(np.count_nonzero(apart)), most)


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    folded = places % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def network() -> Any:
    """Make the network: an enlargement by nearest neighbours, and some of its surroundings added."""
    import torch

    from gankit import models

    torch.manual_seed(0)
    return models.build("srvgg", OPTIONS).eval().requires_grad_(False)


def upscale(arguments: Sequence[str], target: Path) -> Done:
    """Run ``gankit upscale`` in a process of its own, and watch its memory.

    Args:
        arguments: those of the command, besides the output and the report.
        target: the result, in a folder that does not exist.
    """
    report, began = target.parent.with_suffix(".json"), perf_counter()
    line = [sys.executable, "-m", "gankit", "upscale", *arguments, "--output", str(target.parent)]
    with subprocess.Popen([*line, "--report", str(report)], cwd=ROOT) as run:
        peak, process = 0, psutil.Process(run.pid)
        while run.poll() is None:
            with suppress(psutil.Error):
                resident = [each.memory_info().rss for each in (process, *process.children(recursive=True))]
                peak = max(peak, sum(resident), _high_water(run.pid))
            sleep(POLL)
    seconds = perf_counter() - began
    if run.returncode:
        raise SystemExit(f"gankit upscale has failed, with exit status {run.returncode}")
    said = json.loads(report.read_text())
    return Done(seconds, peak, said["images"][0], said["engine"], target.stat().st_size)


def _high_water(process: int) -> int:
    """Most bytes that a process had resident, where Linux says so; otherwise 0."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0]) << 10
    return 0


def rows_of(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Read a result with libvips: yield its rows from the top, (n, W, 3) uint8.

    Args:
        path: the file.
        size: the width and height that it must have.
    """
    import pyvips

    image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error", unlimited=True)
    assert (image.width, image.height, image.bands, image.format) == (*size, 3, "uchar"), image
    region, tall = pyvips.Region.new(image), SCALE * (ROWS // 4)
    for top in range(0, image.height, tall):
        count = min(tall, image.height - top)
        yield np.frombuffer(region.fetch(0, top, image.width, count), np.uint8).reshape(count, image.width, 3)


def windows(length: int) -> list[tuple[int, int]]:
    """Return the begin and end of what is compared of a side: at both ends, and in the middle."""
    wide = min(WIDE, length)
    return [(begin, begin + wide) for begin in (0, (length - wide) // 2, length - wide)]


def expected(scene: Scene, module: Any, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Return a part of the result by plain PyTorch, (SCALE · rows, SCALE · columns, 3) uint8."""
    import torch

    # What is outside of the image is zero to a convolution, so the window ends at the border of the image.
    above, before = min(HALO, top), min(HALO, left)
    pixels = scene.part(top - above, min(bottom + HALO, scene.height), left - before, min(right + HALO, scene.width))
    with torch.inference_mode():
        values = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        made = (module(values)[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    inside = made[above * SCALE :, before * SCALE :]
    return inside[: (bottom - top) * SCALE, : (right - left) * SCALE]


def compare_windows(scene: Scene, module: Any, path: Path) -> Compared:
    """Compare three columns and three bands of a result with plain PyTorch."""
    found, top = Compared(), 0
    bands = windows(scene.height)
    for rows in rows_of(path, (scene.width * SCALE, scene.height * SCALE)):
        bottom = top + len(rows) // SCALE
        parts = (
            [(0, scene.width)] if any(top < end and begin < bottom for begin, end in bands) else windows(scene.width)
        )
        for left, right in parts:
            there = rows[:, left * SCALE : right * SCALE]
            found = found.plus(there, expected(scene, module, top, bottom, left, right))
        top = bottom
    return found


def compare_files(first: Path, second: Path, size: tuple[int, int]) -> Compared:
    """Compare two results of one size."""
    found = Compared()
    for one, other in zip(rows_of(first, size), rows_of(second, size), strict=True):
        found = found.plus(one, other)
    return found


def table(lines: Sequence[tuple[str, str]]) -> Table:
    """Return lines of a name and a value as a table."""
    made = Table(box=box.SIMPLE, show_header=False)
    for line in lines:
        made.add_row(*line)
    return made


def lines_of(done: Done, limit: int) -> list[tuple[str, str]]:
    """Describe a run within a limit in bytes."""
    image, engine = done.image, done.engine
    out = image["output_size"]
    shares = [f"{name} {image[f'{name}_seconds']:.0f} s" for name in ("decode", "engine", "encode")]
    return [
        ("result", f"{out[0]}×{out[1]}, {out[0] * out[1] / 1e6:.0f} MP, {done.file_bytes / 1e9:.2f} GB"),
        ("engine", f"{engine['backend']} {engine['precision']}, {image['strips']} strips"),
        ("wall time", f"{done.seconds:.0f} s ({', '.join(shares)})"),
        ("most memory resident", f"{done.peak / 1e6:.0f} MB, the limit is {limit / 1e6:.0f} MB"),
    ]


def said(found: Compared) -> str:
    """Describe a comparison."""
    if not found.different:
        return f"equal in all of {found.samples / 1e6:.1f} million samples"
    return f"{found.different} of {found.samples / 1e6:.1f} million samples differ, by at most {found.most} of 255"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the source, run it, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.huge", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="30000x20000", help="of the source, in pixels  [30000x20000]")
    parser.add_argument("--source", choices=("tiff", "png"), default="tiff", help="format of the source  [tiff]")
    parser.add_argument("--format", choices=("tiff", "png"), default="tiff", help="format of the result  [tiff]")
    parser.add_argument("--max-memory", type=int, default=2000, help="limit in MB  [2000]")
    parser.add_argument("--backend", default="auto", help="backend  [auto]")
    parser.add_argument("--whole", action="store_true", help="also run it in one piece, and compare all pixels")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    given = parser.parse_args(arguments)
    import torch

    from gankit import checkpoints

    width, height = map(int, given.size.split("x"))
    scene, module, limit = Scene(width, height, read(images()[1][-1])), network(), given.max_memory * 10**6
    console = Console(width=WIDTH)
    console.print(", ".join(f"{name} {value}" for name, value in machine_facts().items()))
    with tempfile.TemporaryDirectory(prefix="gankit-huge-", dir=given.folder) as temporary:
        folder = Path(temporary)
        source, weights = folder / f"scene.{given.source}", folder / "small.safetensors"
        checkpoints.save(weights, module.state_dict(), "srvgg", OPTIONS, dtype=torch.float32)
        scene.write(source)
        begin = [str(source), "--model", str(weights), "--format", given.format, "--backend", given.backend]
        begin += ["--precision", "fp32", "--device", "cpu", "--max-pixels", str(width * height), "--quiet"]
        name = f"scene.{given.format}"
        done = upscale([*begin, "--max-memory", f"{given.max_memory}MB"], folder / "strips" / name)
        near = compare_windows(scene, module, folder / "strips" / name)
        size = f"{width}×{height}, {width * height / 1e6:.0f} MP, {source.stat().st_size / 1e9:.2f} GB"
        lines = [
            ("source", f"{size}, {given.source} to {given.format}"),
            *lines_of(done, limit),
            ("columns and bands", f"{said(near)} from plain PyTorch"),
        ]
        kept = done.peak <= limit and near.most <= MOST_LEVELS
        if given.whole:
            whole = upscale(begin, folder / "whole" / name)
            same = compare_files(folder / "strips" / name, folder / "whole" / name, (width * SCALE, height * SCALE))
            lines += [(f"in one piece, {what}", value) for what, value in lines_of(whole, limit)[1:3]]
            lines += [("in one piece, memory", f"{whole.peak / 1e6:.0f} MB"), ("all pixels", said(same))]
            kept = kept and not same.different
    console.print(table(lines))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
