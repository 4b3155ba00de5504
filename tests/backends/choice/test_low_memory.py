"""The layerwise engine runs the same set of images through the parity check."""

import pytest
import torch

from gankit.backends.base import Backend, Engine
from gankit.backends.choice import low_memory
from gankit.backends.choice.low_memory import layerwise
from gankit.backends.choice.parity import reference
from gankit.backends.choice.synthetic import synthetic_images
from gankit.backends.pixels import enter, from_values
from gankit.checkpoints import open_model, save
from gankit.errors import ParityError
from gankit.models import build

LIMIT = 64 << 20


class FlatBackend(Backend):
    """The reference, but wrong on a black image in the precisions that are given."""

    name = "flat"
    precisions = {"cpu": ("fp32", "bf16")}  # noqa: RUF012

    def __init__(self, *wrong):
        self.wrong, self.engines = wrong, []

    def missing(self, spec):
        return None

    def open(self, spec):
        self.engines.append(FlatEngine(spec, spec.precision in self.wrong))
        return self.engines[-1]


class FlatEngine(Engine):
    def __init__(self, spec, wrong):
        super().__init__("flat", spec)
        self.spec, self.wrong, self.closed = spec, wrong, False

    def run(self, batch):
        facts = self.spec.facts
        result = from_values(reference(self.spec.generator, *enter((batch,), facts)), facts, torch.float32)
        return result + 0.1 * (self.wrong and batch.equal(synthetic_images()["a black image"]))

    def close(self):
        self.closed = True


@pytest.fixture
def upscaler():
    return open_model("srgan")


@pytest.mark.slow
def test_a_narrow_precision_that_fails_gives_way_to_fp32(upscaler, monkeypatch):
    backend = FlatBackend("bf16")
    monkeypatch.setattr(low_memory, "get", lambda name: backend)
    monkeypatch.setattr(low_memory, "_TILE", (32, 32))
    selection = layerwise(upscaler, "bf16", 1, LIMIT)
    assert [engine.precision for engine in backend.engines] == ["bf16", "fp32"]
    assert backend.engines[0].closed
    assert selection.engine is backend.engines[1]
    assert "fp32" in selection.summary


@pytest.mark.slow
def test_no_precision_passes(upscaler, monkeypatch):
    backend = FlatBackend("bf16", "fp32")
    monkeypatch.setattr(low_memory, "get", lambda name: backend)
    monkeypatch.setattr(low_memory, "_TILE", (32, 32))
    with pytest.raises(ParityError, match=r"bf16 layerwise .* on a black image; eager fp32 .* on a black image"):
        layerwise(upscaler, "bf16", 1, LIMIT)
    assert all(engine.closed for engine in backend.engines)


def test_the_real_engine_with_instance_norm_passes(monkeypatch, tmp_path):
    torch.manual_seed(0)
    options = {"channels": 8, "blocks": 2}
    save(tmp_path / "small.safetensors", build("cyclegan", options).state_dict(), "cyclegan", options)
    model = open_model(tmp_path / "small.safetensors")
    monkeypatch.setattr(low_memory, "_TILE", (64, 64))
    selection = layerwise(model, "fp32", 1, LIMIT)
    assert selection.parity.passes()
