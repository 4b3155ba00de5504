"""The command line around an engine that repeats pixels and takes its time. Run as a script, it is ``gankit``.

Usage: python cli_fakes.py SECONDS_PER_IMAGE ARGUMENTS...
"""

import signal
import sys
import time
from pathlib import Path

import torch

from gankit import checkpoints, models
from gankit.backends.base import Engine
from gankit.backends.choice import select as selecting
from gankit.backends.choice.parity import Parity
from gankit.backends.choice.select import Selection
from gankit.checkpoints.types import Loaded
from gankit.cli import main
from gankit.pipeline import opened


class Slow(Engine):
    """×4 by repetition."""

    backend, precision, device = "repeat", "fp32", "cpu"

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def run(self, batch):
        time.sleep(self.seconds)
        wide = batch.to(torch.float32).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        return wide.to(batch.dtype).contiguous(memory_format=torch.channels_last)


def install(patch, seconds=0.0):
    """Replace the choice of the engine, and the weights, by ``patch(module, name, value)``."""
    options = {"blocks": 1, "channels": 8}

    def open_model(name, **given):
        return Loaded(
            module=models.build("srgan", options).eval(),
            facts=models.facts("srgan", options),
            sha256="0" * 64,
            path=Path("small.safetensors"),
        )

    def select(loaded, *_, **__):
        return Selection(engine=Slow(seconds), parity=Parity(70.0, 0.001), summary="a fake")

    patch(opened, "look_up", lambda question: None)
    patch(checkpoints, "open_model", open_model)
    patch(selecting, "select", select)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
    install(setattr, float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
