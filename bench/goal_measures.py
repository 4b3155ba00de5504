"""What :mod:`bench.goals` measures besides engines on a batch: folders, commands, a bare convolution, a neighbour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from bench.candidates import Candidate, Subject, works
from bench.common import OPENVINO, ROOT, images
from bench.rounds import Worker

_SHAPES = ((256, 64, 64), (64, 64, 512), (128, 64, 256))  # channels, height, width


def gigaflop_of(model: str, height: int, width: int) -> float:
    """Arithmetic of one image in 10⁹ operations."""
    from gankit import models
    from gankit.models.cost import cost

    return 2 * cost(models.build(model, {}).eval(), (models.facts(model, {}).channels, height, width)).macs / 1e9


def convolution_rate(precision: str, threads: int) -> float:
    """Return 10⁹ operations per second of bare 3×3 convolutions: the best shape, the fastest run."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    before, best = torch.get_num_threads(), 0.0
    torch.set_num_threads(threads)
    with torch.inference_mode():
        for channels, height, width in _SHAPES:
            layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
            x = torch.randn(1, channels, height, width, dtype=dtype).contiguous(memory_format=torch.channels_last)
            operations = 2 * 9 * channels**2 * height * width
            for _ in range(20):
                began = time.perf_counter()
                layer(x)
                best = max(best, operations / (time.perf_counter() - began) / 1e9)
    torch.set_num_threads(before)
    return best


def folder_seconds(count: int, rounds: int) -> tuple[list[float], list[float], str]:
    """Run a folder of photos to PNG files.

    Args:
        count: of photos.
        rounds: timed runs of each.

    Returns:
        Seconds of one image in gankit's runs and in those of plain OpenVINO with Pillow, and how gankit spent them.
    """
    from gankit.checkpoints import open_model

    with tempfile.TemporaryDirectory(prefix="gankit-goals-") as name:
        folder = Path(name)
        (folder / "in").mkdir()
        sources = [shutil.copy(path, folder / "in") for path in images()[1][:count]]
        subject = Subject(open_model("srresnet"), "srresnet", folder)
        two = [Candidate("gankit", "auto"), Candidate("plain", OPENVINO)]
        todo = works(subject, two, sources=tuple(map(str, sources)), output=str(folder / "out"))
        with Worker(todo[0], folder / "log") as own, Worker(todo[1], folder / "log") as other:
            running = (own, other)
            for worker in running:
                worker.run()  # chooses and compiles
            seconds = [[worker.run() for worker in running] for _ in range(rounds)]
            for worker in running:
                if worker.outcome.error:
                    raise SystemExit(f"{worker.outcome.candidate}: {worker.outcome.error}")
            facts = own.outcome.facts
    each = [[(second or 0.0) / len(sources) for second in column] for column in zip(*seconds, strict=True)]
    return each[0], each[1], f"{facts.get('backend', '')} {facts.get('precision', '')}, {facts.get('remark', '')}"


def command_seconds(words: Sequence[str], rounds: int) -> list[float]:
    """Run a command of gankit after one that is not counted; ``upscale`` runs on one image of 64×64.

    Args:
        words: the command.
        rounds: counted runs.

    Returns:
        Seconds from the start of the process to its end.
    """
    with tempfile.TemporaryDirectory(prefix="gankit-goals-") as name:
        if words[0] == "upscale":
            source = Path(name) / "image.png"
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(source)
            words = ["upscale", str(source), "--output", str(Path(name) / "out"), "--overwrite", "--quiet"]
        command = [sys.executable, "-m", "gankit", *words]
        seconds = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
    return seconds[1:]


@contextmanager
def neighbour() -> Iterator[None]:
    """Keep one core busy with another process."""
    code = "while True: pass"
    if hasattr(os, "sched_getaffinity"):
        core = max(os.sched_getaffinity(0))
        code = f"import os; os.sched_setaffinity(0, {{{core}}})\n{code}"
    process = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(0.5)  # until it is busy
    try:
        yield
    finally:
        process.kill()
        process.wait()
