"""Engines and selections that need no backend."""

from pathlib import Path

import torch

from gankit import models
from gankit.backends.base import Engine
from gankit.backends.choice.parity import Parity
from gankit.backends.choice.select import Selection
from gankit.checkpoints.types import Loaded
from gankit.pipeline.tiles import run_tiled


class Repeat(Engine):
    """Repeats every pixel; records the shapes that it saw.

    Args:
        scale: output side over input side.
        wants: as in :class:`Engine`.
        change: what is done to each batch.
    """

    backend, precision, device = "repeat", "fp32", "cpu"

    def __init__(self, scale=4, wants="tiles", change=None):
        self.scale, self.wants, self.change = scale, wants, change
        self.shapes, self.dtypes, self.closed = [], [], 0

    def run(self, batch):
        self.shapes.append(tuple(batch.shape))
        self.dtypes.append(batch.dtype)
        if self.change:
            batch = self.change(batch)
        wide = batch.to(torch.float32)  # few operations know uint16
        wide = wide.repeat_interleave(self.scale, dim=2).repeat_interleave(self.scale, dim=3)
        return wide.to(batch.dtype).contiguous(memory_format=torch.channels_last)

    def close(self):
        self.closed += 1


class NetEngine(Engine):
    """Runs a module as it is, float32 only."""

    backend, precision, device = "net", "fp32", "cpu"

    def __init__(self, net):
        self.net = net

    def run(self, batch):
        return self.net(batch)


def selection(engine):
    """What ``gankit.backends.choice.select.select`` gives."""
    return Selection(engine=engine, parity=Parity(70.0, 0.001), summary="a fake")


def install_repeat(monkeypatch):
    """Let every upscaler open a small SRGAN of no file, and run an engine that repeats pixels in its place."""
    options = {"blocks": 1, "channels": 8}
    loaded = Loaded(
        module=models.build("srgan", options).eval(),
        facts=models.facts("srgan", options),
        sha256="0" * 64,
        path=Path("x.safetensors"),
    )
    monkeypatch.setattr("gankit.pipeline.opened.look_up", lambda question: None)
    monkeypatch.setattr("gankit.checkpoints.open_model", lambda name, **_: loaded)
    monkeypatch.setattr("gankit.backends.choice.select.select", lambda *_, **__: selection(Repeat(4)))


def tiled(engine, image, **options):
    """``run_tiled`` for tensors."""
    return torch.from_numpy(run_tiled(engine, image.numpy(), **options))
