"""The goals of the engines on a CPU, in one table: ``python -m bench.goals``.

Every row is measured in rounds (A B A B …), each candidate in a process of its own, on weights that are untrained
unless the row is about a folder. Run it on a quiet machine; the table names the machine and its load. ``--only`` picks
rows by parts of their names.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.common import ONNXRUNTIME, OPENVINO, ROOT, machine_facts, spread, versions
from bench.goal_measures import command_seconds, convolution_rate, folder_seconds, gigaflop_of, neighbour
from bench.peers import COMPILE
from bench.versions import Version

ALL_PEERS = (OPENVINO, ONNXRUNTIME, COMPILE)


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        work: what was done.
        against: what gankit is compared with.
        gankit: seconds of gankit's runs.
        other: seconds of the other's runs; empty where the goal is a number of seconds.
        goal: least ratio; or most seconds, if ``other`` is empty.
        remark: such as the backend that was fastest.
        share: a ratio that is no quotient of seconds.
    """

    work: str
    against: str
    gankit: Sequence[float]
    other: Sequence[float]
    goal: float
    remark: str = ""
    share: float | None = None

    @property
    def value(self) -> float:
        """The ratio that the goal is about, or the seconds."""
        if self.share is not None:
            return self.share
        own = float(np.median(self.gankit))
        return float(np.median(self.other)) / own if self.other else own

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal if not self.other and self.share is None else self.value >= self.goal


@dataclass(frozen=True)
class Setting:
    """How rows are measured.

    Attributes:
        rounds: timed runs of each candidate.
        threads: of gankit's engines.
        precision: of gankit's engines; the fastest of the machine.
        images: of the folder.
        model: that rows about any upscaler run.
    """

    rounds: int
    threads: int
    precision: str
    images: int
    model: str


@cache
def _by_winograd(model: str, precision: str) -> bool:
    """Whether the backend ``winograd`` runs a model in a precision."""
    from gankit import models
    from gankit.backends.cpu.winograd import convolutions

    return precision == "fp32" and bool(convolutions(models.build(model, {})))


def _own(setting: Setting, model: str) -> tuple[str, ...]:
    """The backends of gankit among which its fastest engine is."""
    return ("eager", "openvino", "onnxruntime", *(("winograd",) if _by_winograd(model, setting.precision) else ()))


Measure = Callable[[Setting], Line]


def timed(setting: Setting, works: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Run works in rounds, and return the wall seconds of each."""
    with ExitStack() as stack:
        running = [stack.enter_context(Version(ROOT, work)) for work in works]
        for _ in range(setting.rounds):
            for each in running:
                each.run()
        return [each.wall for each in running]


def work_of(setting: Setting, model: str, size: tuple[int, int], batch: int = 1, **more: Any) -> dict[str, Any]:
    """What a worker is asked to do: gankit's own engine of the precision unless ``more`` says otherwise."""
    width, height = size
    shared = {"model": model, "options": {}, "batch": batch, "width": width, "height": height}
    own = "winograd" if _by_winograd(model, setting.precision) else "eager"
    return shared | {"backend": own, "precision": setting.precision, "threads": setting.threads} | more


def engine_row(
    name: str, model: str, size: tuple[int, int], peers: Sequence[str], goal: float, batch: int = 1
) -> tuple[str, Measure]:
    """Gankit's fastest engine against the fastest peer."""

    def measure(setting: Setting) -> Line:
        own = [work_of(setting, model, size, batch, backend=backend) for backend in _own(setting, model)]
        others = [work_of(setting, model, size, batch, peer=peer) for peer in peers]
        found = timed(setting, [*own, *others])
        mine = min(range(len(own)), key=lambda index: float(np.median(found[index])))
        theirs = min(range(len(own), len(found)), key=lambda index: float(np.median(found[index])))
        remark = f"{own[mine]['backend']} {setting.precision}"
        return Line(name, peers[theirs - len(own)], found[mine], found[theirs], goal, remark)

    return name, measure


def folder_row(setting: Setting) -> Line:
    """A folder of photos to PNG: the command's pipeline against a loop of plain OpenVINO and Pillow."""
    own, other, remark = folder_seconds(setting.images, setting.rounds)
    return Line("kodak24 srresnet -> PNG, one image", f"{OPENVINO} and Pillow", own, other, 3.0, remark)


def rate_row(setting: Setting) -> Line:
    """The engine's share of the rate of a bare convolution that suits the machine."""
    rate = convolution_rate(setting.precision, setting.threads)
    (seconds,) = timed(setting, [work_of(setting, setting.model, (768, 512))])
    own = gigaflop_of(setting.model, 512, 768) / float(np.median(seconds))
    remark = f"{own:.0f} of {rate:.0f} GFLOP/s"
    return Line(f"{setting.model} 768×512, share", "a convolution's rate", seconds, [], 0.55, remark, own / rate)


def neighbour_row(setting: Setting) -> Line:
    """One image while another process keeps one core busy."""
    work = work_of(setting, setting.model, (768, 512))
    quiet, busy = [], []
    with Version(ROOT, work) as engine:
        for _ in range(setting.rounds):
            engine.run()
            with neighbour():
                engine.run()
        quiet, busy = engine.wall[::2], engine.wall[1::2]
    slower = float(np.median(busy)) / float(np.median(quiet))
    return Line("one image, a neighbour on one core", "itself, quiet", busy, quiet, 1 / 2.2, f"{slower:.2f}× as long")


def size_row(size: tuple[int, int]) -> tuple[str, Measure]:
    """Megapixels per second of a large image against those of an image of usual size."""
    name = f"MP/s at {size[0]}×{size[1]}"

    def measure(setting: Setting) -> Line:
        large, usual = timed(
            setting, [work_of(setting, setting.model, size), work_of(setting, setting.model, (768, 512))]
        )
        factor = size[0] * size[1] / (768 * 512)
        remark = f"{setting.model}, {size[0] * size[1] / 1e6 / float(np.median(large)):.3f} MP/s"
        return Line(name, "768×512", large, [second * factor for second in usual], 0.9, remark)

    return name, measure


def start_row(name: str, goal: float, *words: str) -> tuple[str, Measure]:
    """Seconds of a command from its start to its end."""

    def measure(setting: Setting) -> Line:
        return Line(name, "", command_seconds(words, setting.rounds), [], goal)

    return name, measure


ROWS: dict[str, Measure] = dict(
    [
        ("kodak24 srresnet -> PNG", folder_row),
        engine_row("srresnet 768×512", "srgan", (768, 512), (OPENVINO,), 1.8),
        engine_row("edsr 768×512", "edsr", (768, 512), (OPENVINO,), 1.0),
        ("share of a convolution's rate", rate_row),
        engine_row("CycleGAN-9 256×256", "cyclegan", (256, 256), ALL_PEERS, 1.15),
        engine_row("CycleGAN-9 512×512", "cyclegan", (512, 512), ALL_PEERS, 1.15),
        engine_row("RRDB ×4 128×128", "esrgan", (128, 128), (OPENVINO, ONNXRUNTIME), 1.3),  # compiling takes minutes
        engine_row("SRVGG 256×256", "srvgg", (256, 256), ALL_PEERS, 1.0),
        engine_row("DCGAN, 64 samples", "dcgan", (0, 0), ALL_PEERS, 1.0, batch=64),
        engine_row("pix2pix 256×256", "pix2pix", (256, 256), ALL_PEERS, 1.0),
        ("neighbour", neighbour_row),
        size_row((4000, 3000)),
        size_row((12_000, 300)),
        start_row("start to first file, 64×64", 3.0, "upscale"),
        start_row("gankit --help", 0.3, "--help"),
        start_row("gankit doctor", 2.0, "doctor"),
    ]
)


def lines(setting: Setting, only: Sequence[str]) -> Iterator[Line]:
    """Measure the rows, those that the words of ``only`` are part of."""
    for name, measure in ROWS.items():
        if not only or any(word.lower() in name.lower() for word in only):
            yield measure(setting)


def render(found: Sequence[Line], setting: Setting) -> str:
    """The table as text, with the machine and its load."""
    machine = machine_facts()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    words = [f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['features'])})", f"load {load:.1f}"]
    words += [f"{setting.threads} threads", *(f"{name} {version}" for name, version in versions().items() if version)]
    table = Table(title="; ".join(words), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("work", "against", "gankit s", "spread", "other s", "spread", "n", "value", "goal", "met", "remark"):
        table.add_column(column, no_wrap=True)
    for line in found:
        seconds = (line.gankit, line.other)
        times = [text for each in seconds for text in (_median(each), _percent(spread(each)))]
        unit = "s" if not line.other and line.share is None else "×"
        sign = "<=" if unit == "s" else ">="
        value, goal = f"{line.value:.2f} {unit}", f"{sign} {line.goal:.2f} {unit}"
        row = [line.work, line.against, *times, str(len(line.gankit)), value, goal, "yes" if line.met else "NO"]
        table.add_row(*row, line.remark)
    console = Console(width=320, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _median(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.3f}" if seconds else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def main() -> None:
    """Parse the command line, measure, and print the table after each row."""
    from bench.common import engine_threads

    fast = "bf16" if {"AVX512-BF16", "AMX-BF16", "BF16 (Arm)"} & set(machine_facts()["features"]) else "fp32"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=engine_threads())
    parser.add_argument("--precision", default=fast, help="of gankit's engines")
    parser.add_argument("--images", type=int, default=24, help="of the folder")
    parser.add_argument("--model", default="srgan", help="of the rows about any upscaler")
    given = parser.parse_args()
    setting = Setting(given.rounds, given.threads, given.precision, given.images, given.model)
    found: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="gankit-goals-") as folder:
        os.environ["GANKIT_CACHE"] = str(Path(folder) / "cache")  # what an earlier run has cached changes no figure
        for line in lines(setting, given.only):
            found.append(line)
            print(render(found, setting), flush=True)


if __name__ == "__main__":
    main()
