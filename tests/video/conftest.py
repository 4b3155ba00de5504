"""An upscaler whose engine repeats pixels."""

from types import SimpleNamespace

import pytest

import gankit
from gankit import models
from gankit.backends.choice.parity import Parity
from gankit.backends.choice.select import Selection


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """The engine that every upscaler gets."""
    from video_making import Repeat

    made, options = Repeat(2), {"blocks": 1, "channels": 8, "scale": 2}
    loaded = SimpleNamespace(
        generator=models.build("srgan", options).eval(),
        facts=models.facts("srgan", options),
        sha256="0" * 64,
        path=tmp_path / "x.safetensors",
    )
    chosen = Selection(engine=made, parity=Parity(70.0, 0.001), summary="a fake")
    monkeypatch.setattr("gankit.checkpoints.open_model", lambda name, **options: loaded)
    monkeypatch.setattr("gankit.backends.choice.select.select", lambda *_, **__: chosen)
    monkeypatch.setattr("gankit.backends.choice.select.check", lambda loaded, options: None)
    return made


@pytest.fixture
def lines():
    """What was reported to the user."""
    return []


@pytest.fixture
def upscaler(engine, lines):
    """An upscaler of scale 2."""
    with gankit.Upscaler("srgan", notify=lines.append) as made:
        yield made
