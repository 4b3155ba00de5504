"""The public API with wrong input: every error is a GankitError of one line, or the TypeError of a wrong keyword."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

import gankit
from gankit import errors


class Odd:
    """An object whose name is the same in every process of a run, which an address in memory is not."""

    def __repr__(self):
        return "an odd object"


WRONG = [None, 3, 2.5, -1, "", "no such thing", b"bytes", Odd(), [], {}, (1, "x"), float("nan"), np.zeros(3), print]
FAST = {"backend": "eager", "device": "cpu", "precision": "fp32"}


class Twice(nn.Module):
    """×2 by repetition."""

    def forward(self, x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture(scope="module")
def upscaler():
    with gankit.Upscaler(Twice(), scale=2, value_range=(0, 1), halo=0, **FAST) as made:
        yield made


@pytest.fixture(scope="module")
def sampler():
    with gankit.Sampler("cgan", **FAST) as made:
        yield made


def ends_well(call):
    """Call it, and let only errors of gankit out of it, each with a message of one line."""
    caught = None
    try:
        call()
    except gankit.GankitError as error:
        caught = error
    if caught is not None:
        assert str(caught).strip()
        assert "\n" not in str(caught)
        assert caught.exit_code in (1, 2)


def test_every_error_is_of_one_family_and_exported():
    own = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert len(own) > 5
    assert all(issubclass(kind, gankit.GankitError) for kind in own)
    assert {kind.__name__ for kind in own} <= set(gankit.__all__)
    assert {kind.__name__ for kind in own} <= set(dir(gankit))
    assert all(getattr(gankit, kind.__name__) is kind for kind in own)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("kind", [gankit.Upscaler, gankit.Translator, gankit.Sampler])
def test_models(kind, wrong):
    ends_well(lambda: kind(wrong, **FAST).facts)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_load_and_export(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ends_well(lambda: gankit.load(wrong))
    ends_well(lambda: gankit.export(wrong))
    ends_well(lambda: gankit.export("gan", wrong, precision="fp8"))
    for option in ("precision", "opset", "threshold", "parity_images", "direction", "norm", "options", "facts"):
        ends_well(lambda option=option: gankit.export("no such model", **{option: wrong}))
        ends_well(lambda option=option: gankit.export(Twice(), tmp_path, **{"scale": 2, option: wrong}))
    assert all(path.suffix in (".onnx", ".json") for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize(
    "option",
    [
        *("backend", "precision", "device", "tile", "batch", "threads", "max_memory", "engine", "direction", "norm"),
        *("options", "facts", "scale", "channels", "value_range", "multiple", "minimum", "tileable", "halo"),
        *("input_kind", "labels"),
    ],
)
def test_options(option, wrong):
    own = {"scale": 2, "value_range": (0, 1), "halo": 0}
    image = np.zeros((6, 6, 3), np.uint8)
    ends_well(lambda: gankit.Upscaler(Twice(), **{**FAST, **own, option: wrong})(image))
    ends_well(lambda: gankit.Upscaler("no such model", **{**FAST, option: wrong}))


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("fact", [item for item in gankit.Facts.__dataclass_fields__ if item != "options"])
def test_facts(fact, wrong):
    ends_well(lambda: gankit.Facts(**{"task": "upscale", "value_range": (0, 1), fact: wrong}))
    ends_well(lambda: gankit.Facts(**{"task": "translate", "value_range": (0, 1), fact: wrong}))


@pytest.mark.parametrize(
    "wrong",
    [
        *(item for item in WRONG if not isinstance(item, list)),  # an empty list has no images and no results
        *([item] for item in WRONG),
        *(np.zeros((3, 0, 3)), np.array(3), np.array("text"), np.zeros((2, 2), object), np.zeros((2, 2), complex)),
        *(np.full((4, 4, 3), 255.0), torch.zeros(3), torch.zeros(1, 3, 0, 4), torch.zeros(2, 4, 4)),
        *(torch.zeros(3, 4, 4, dtype=kind) for kind in (torch.int64, torch.complex64)),
        *("a\0b.png", "x" * 5000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_images(upscaler, sampler, wrong):
    with pytest.raises(gankit.GankitError):
        upscaler(wrong)
    ends_well(lambda: sampler.reconstruct(wrong))


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_runs(upscaler, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    ends_well(lambda: upscaler.run(wrong, tmp_path / "out"))
    ends_well(lambda: upscaler.run("a.png", wrong))
    for option in ("suffix", "format", "overwrite", "quality", "max_pixels", "strip_metadata", "mask_from"):
        ends_well(lambda option=option: upscaler.run("a.png", "out", **{option: wrong}))
        ends_well(lambda option=option: upscaler.plan("a.png", "out", **{option: wrong}))


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_samples(sampler, wrong):
    ends_well(lambda: sampler(wrong))
    for option in ("seed", "classes", "truncation"):
        ends_well(lambda option=option: sampler(2, **{option: wrong}))
        ends_well(lambda option=option: sampler.interpolate(2, 1, **{option: wrong}))
    ends_well(lambda: sampler.interpolate(wrong))
    ends_well(lambda: sampler.interpolate(2, wrong))


def test_a_wrong_keyword_is_a_type_error():
    for kind in (gankit.Upscaler, gankit.Translator, gankit.Sampler):
        with pytest.raises(TypeError, match="unexpected keyword argument 'presicion'"):
            kind("srgan", presicion="fp32")
