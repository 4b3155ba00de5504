"""Images of more than 8 bits keep their levels, whatever the fast engine computes in."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_fakes import Repeat

import gankit
from gankit import checkpoints, models
from gankit.backends.choice.parity import Parity
from gankit.backends.choice.select import Selection
from gankit.backends.cpu.instructions import bf16_on_cpu
from gankit.checkpoints.types import Loaded
from gankit.errors import NotFiniteError
from gankit.options import EngineOptions
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 16, "blocks": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoints.save(path, small_srgan(**OPTIONS).state_dict(), "srgan", OPTIONS, dtype=torch.float32)
    return path


def ramp():
    """96×96 RGB that is hardly tinted, every pixel of another level between 0.55 and 0.95 of 65535."""
    values = np.linspace(0.55, 0.95, 96 * 96).reshape(96, 96, 1) * 65535
    return values.round().astype(np.uint16) + np.arange(3, dtype=np.uint16)


@pytest.mark.parametrize("kind", ["uint16", "float"])
def test_a_16_bit_ramp_keeps_its_levels(kind, weights):
    """bf16 leaves some hundred of them."""
    array = ramp()
    batch = torch.from_numpy(array.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    wanted = (small_srgan(**OPTIONS)(batch)[0].permute(1, 2, 0).clamp(0, 1) * 65535).round().numpy()
    with gankit.Upscaler(weights, backend="eager", device="cpu") as upscaler:
        if kind == "uint16":
            result = upscaler(array).astype(np.float64)
        else:
            result = (upscaler(batch)[0].permute(1, 2, 0).double() * 65535).round().numpy()
    assert np.abs(result - wanted).max() <= 1
    assert len(np.unique(result)) > 0.9 * len(np.unique(wanted)) > 5000


@pytest.mark.skipif(not bf16_on_cpu(), reason="this CPU has no bf16")
def test_who_asks_for_bf16_gets_it(weights):
    with gankit.Upscaler(weights, backend="eager", precision="bf16", device="cpu") as upscaler:
        assert len(np.unique(upscaler(ramp()))) < 2000


class Fast(Repeat):
    """An engine in fp16, which overflows in white."""

    precision = "fp16"

    def run(self, batch):
        if batch.dtype != torch.float32 and int(batch.float().max()) == 255:
            raise NotFiniteError("values beyond the range of fp16; use bf16 or fp32")
        return super().run(batch)


@pytest.fixture
def engines(monkeypatch, tmp_path):
    """The fast engine and the exact one; ``asked`` has the questions to the choice."""
    options = {"blocks": 1, "channels": 8}
    made = SimpleNamespace(fast=Fast(), exact=Repeat(), asked=[], backend="eager")

    def select(loaded, options, **_):
        made.asked.append(options)
        engine = made.exact if options.precision == "fp32" else made.fast
        engine.backend = made.backend if engine is made.fast else options.backend
        return Selection(engine=engine, parity=Parity(70.0, 0.001), summary="a fake")

    loaded = Loaded(
        module=models.build("srgan", options).eval(),
        facts=models.facts("srgan", options),
        sha256="0" * 64,
        path=tmp_path / "x.safetensors",
    )
    monkeypatch.setattr("gankit.pipeline.opened.look_up", lambda question: None)
    monkeypatch.setattr("gankit.checkpoints.open_model", lambda name, **options: loaded)
    monkeypatch.setattr("gankit.backends.choice.select.select", select)
    monkeypatch.setattr("gankit.backends.choice.select.check", lambda loaded, options: None)  # of any processor
    return made


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 200, shape, dtype=dtype)


def test_each_image_goes_to_its_engine(engines):
    reported = []
    with gankit.Upscaler(threads=1, notify=reported.append) as upscaler:
        upscaler(noise(5, 6, 3))
        upscaler(noise(5, 6))
        assert len(engines.asked) == 1  # the second engine is not loaded before it is needed
        upscaler(noise(5, 6, 4, dtype=np.uint16))
        upscaler(noise(5, 6, dtype=np.uint16))
        upscaler(torch.rand(3, 5, 6))
    assert set(engines.fast.dtypes) == {torch.uint8}
    assert set(engines.exact.dtypes) == {torch.uint16, torch.float32}
    assert len(engines.asked) == 2
    assert engines.asked[1] == EngineOptions(backend="eager", precision="fp32", device="cpu", threads=1)
    assert (engines.fast.closed, engines.exact.closed) == (1, 1)
    assert len(reported) == 1
    assert "eager fp32" in reported[0]


def test_what_compiles_for_minutes_does_not_do_so_twice(engines):
    engines.backend = "compile"
    gankit.Upscaler()(noise(5, 6, 3, dtype=np.uint16))
    assert engines.asked[1].backend == "eager"


def test_what_compiles_for_minutes_does_so_for_who_named_it(engines):
    engines.backend = "compile"
    gankit.Upscaler(backend="compile")(noise(5, 6, 3, dtype=np.uint16))
    assert engines.asked[1].backend == "compile"


def test_a_fast_engine_in_fp32_is_enough(engines):
    engines.fast.precision = "fp32"
    gankit.Upscaler()(noise(5, 6, 3, dtype=np.uint16))
    assert len(engines.asked) == 1


def test_an_overflow_is_done_again_in_fp32(engines):
    white = np.full((5, 6, 3), 255, np.uint8)
    np.testing.assert_array_equal(gankit.Upscaler()(white), np.full((20, 24, 3), 255, np.uint8))
    with pytest.raises(NotFiniteError, match="use bf16 or fp32"):
        gankit.Upscaler(precision="fp16")(white)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    Image.fromarray(noise(9, 8, 3)).save(root / "a.png")
    Image.fromarray(np.full((9, 8, 3), 255, np.uint8)).save(root / "b.png")
    Image.fromarray(noise(9, 8, dtype=np.uint16)).save(root / "c.png")
    return root


def test_a_run_reports_both_engines(engines, folder, tmp_path):
    report = gankit.Upscaler().run(folder, tmp_path / "out")
    assert report.totals.done == 3
    content = json.loads(json.dumps(report.to_dict()))
    assert content["engine"]["precision"] == "fp16"
    assert content["fp32_engine"]["precision"] == "fp32"
    assert content["fp32_engine"]["parity_db"] == 70
    (folder / "b.png").unlink()
    (folder / "c.png").unlink()
    assert gankit.Upscaler().run(folder, tmp_path / "other").fp32_engine is None


def test_an_overflow_that_the_user_chose_fails_that_image_only(engines, folder, tmp_path):
    report = gankit.Upscaler(precision="fp16").run(folder, tmp_path / "out")
    assert [item.status for item in report.images] == ["done", "failed", "done"]
    assert report.images[1].error == f"{folder / 'b.png'}: values beyond the range of fp16; use bf16 or fp32"
    assert math.isclose(report.totals.done, 2)
