"""A run whose engine is in the cache imports no torch, and makes the same files as the run that filled the cache."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gankit import cli
from gankit.backends.cached import cached_files
from gankit.backends.cuda.driver import driver_installed
from gankit.checkpoints import open_model, save
from gankit.checkpoints.known import look_up
from gankit.errors import CheckpointError
from gankit.models import build, facts
from gankit.pipeline.opened import Opened, open_source
from gankit.pipeline.source import ModelSource
from tests.networks import small_srgan

without_driver = pytest.mark.skipif(driver_installed(), reason="torch looks for the GPU of this machine")
OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
UNET = {"channels": 4, "downs": 2, "norm": "instance"}
RUN = """
import sys
from gankit.cli import main
status = main(sys.argv[1:])
print("torch" if "torch" in sys.modules else "no torch")
sys.exit(status)
"""


def run(*arguments):
    """What a new process prints on both streams."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr + done.stdout


def fill(*arguments):
    """Run in this process, which has imported torch."""
    assert cli.main([*map(str, arguments)]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images that take different ways: colour, gray, transparent, 16 bit, and one that is cut into tiles."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(root / "colour.png")
    Image.fromarray(random.integers(0, 256, (20, 24), np.uint8)).save(root / "gray.png")
    clear = random.integers(0, 256, (20, 24, 4), np.uint8)
    clear[:12, :16, 3] = 255
    Image.fromarray(clear).save(root / "clear.png")
    Image.fromarray(random.integers(0, 65536, (20, 24), np.uint16)).save(root / "deep.png")
    Image.fromarray(random.integers(0, 256, (70, 50, 3), np.uint8)).save(root / "tiles.png")
    return root


def write_weights(path, seed=0):
    save(path, small_srgan(**OPTIONS, seed=seed).state_dict(), "srgan", facts("srgan", OPTIONS).options)
    return path


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "small.safetensors")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that serves several backends, which share one exported file, and weights to which it belongs."""
    root = tmp_path_factory.mktemp("filled")
    write_weights(root / "small.safetensors")
    return root


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.png"))}


@without_driver
@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_warm_upscale(backend, folder, filled, monkeypatch):
    pytest.importorskip(backend)
    monkeypatch.setenv("GANKIT_CACHE", str(filled / "cache"))
    words = ["upscale", folder, "--model", filled / "small.safetensors", "--tile", 48, "--backend", backend]
    cold, warm = filled / f"{backend}_cold", filled / f"{backend}_warm"
    fill(*words, "-o", cold)
    said = run(*words, "-o", warm)
    assert said.endswith("\nno torch\n")
    assert backend in said
    assert len(files(warm)) == 5
    assert files(warm) == files(cold)
    pixels = torch.from_numpy(np.asarray(Image.open(folder / "colour.png")).copy())
    wanted = small_srgan(**OPTIONS)(pixels.permute(2, 0, 1)[None] / 255)[0].clamp(0, 1).mul(255).permute(1, 2, 0)
    assert np.abs(np.asarray(Image.open(warm / "colour.png")) - wanted.numpy()).max() < 0.51


@without_driver
@pytest.mark.slow
def test_a_warm_translate_of_a_network_that_needs_the_whole_image(folder, tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    save(tmp_path / "unet.safetensors", build("pix2pix", UNET).state_dict(), "pix2pix", facts("pix2pix", UNET).options)
    words = ["translate", folder, "--model", tmp_path / "unet.safetensors", "--backend", "onnxruntime"]
    fill(*words, "-o", tmp_path / "cold")
    assert run(*words, "-o", tmp_path / "warm").endswith("\nno torch\n")
    assert files(tmp_path / "warm") == files(tmp_path / "cold")


@without_driver
@pytest.mark.slow
def test_a_warm_run_of_an_onnx_file_says_what_it_assumes(folder, weights, tmp_path, gankit_log):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "small.onnx"
    fill("export", "--model", weights, "--output", file)
    words = ["upscale", folder / "colour.png", "--model", file, "--backend", "onnxruntime"]
    fill(*words, "-o", tmp_path / "cold")
    (line,) = {item.getMessage() for item in gankit_log.records if f"{file}: by" in item.getMessage()}
    said = run(*words, "-o", tmp_path / "warm")
    assert said.endswith("\nno torch\n")
    assert line in said
    assert files(tmp_path / "warm") == files(tmp_path / "cold")


def described(path):
    """Open a model like a pipeline does, and describe it for the next run."""
    opened = open_source(ModelSource(str(path), "upscale"))
    opened.describe()
    return opened


def test_a_record_has_what_the_file_says(weights):
    first, second = described(weights), described(weights)
    assert first.known is None
    assert second.known is not None
    for name in ("facts", "sha256", "path", "recognised", "assumed"):
        assert getattr(second.loaded, name) == getattr(first.loaded, name)
    assert second.halo == first.halo > 0
    state = open_model(weights).generator.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in second.loaded.generator.state_dict().items())


def test_other_weights_and_other_options_have_other_records(weights):
    described(weights)
    assert open_source(ModelSource(str(weights), "upscale", options={"bn_eps": 1e-3})).known is None
    write_weights(weights, seed=1)
    assert open_source(ModelSource(str(weights), "upscale")).known is None


def test_facts_that_the_user_states_are_not_recorded(tmp_path):
    options = {**UNET, "in_channels": 1}
    path = tmp_path / "unet.safetensors"
    save(path, build("pix2pix", options).state_dict(), "pix2pix", facts("pix2pix", options).options)
    stated = open_source(ModelSource(str(path), "translate", stated={"input_kind": "mask"}))
    stated.describe()
    plain = open_source(ModelSource(str(path), "translate"))
    assert plain.known is not None
    assert (stated.loaded.facts.input_kind, plain.loaded.facts.input_kind) == ("mask", "image")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('\\"scale\\": 2', '\\"scale\\": 4'),
        lambda text: text[:-9],
        lambda text: "[" * 9999,
        lambda text: json.dumps({"known": "{}", "sha256": ""}),
        lambda text: "{}",
    ],
)
def test_a_changed_record_is_not_used(change, weights, cache):
    described(weights)
    (record,) = cache.glob("models/*.json")
    text = record.read_text()
    assert change(text) != text
    record.write_text(change(text))
    (item,) = [item for item in cached_files() if item.kind == "model"]
    assert item.problem() == "is damaged"
    opened = described(weights)
    assert (opened.known, opened.loaded.facts.scale) == (None, 2)
    assert item.problem() is None
    assert described(weights).known is not None


def test_weights_that_change_during_the_run(weights):
    described(weights)
    opened = open_source(ModelSource(str(weights), "upscale"))
    write_weights(weights, seed=1)
    with pytest.raises(CheckpointError, match=r"small\.safetensors: this file was changed during the run"):
        _ = opened.loaded.generator


def test_memory_that_may_not_be_enough_is_estimated_from_the_generator(tmp_path):
    path = tmp_path / "unet.safetensors"
    save(path, build("pix2pix", UNET).state_dict(), "pix2pix", facts("pix2pix", UNET).options)
    source = ModelSource(str(path), "translate")
    open_source(source).describe()
    opened = open_source(source)
    assert opened.fits(64, 64, "fp32", 1 << 30)
    assert not opened.loaded.module.made
    exact = opened._footprint.bytes(96, 128, "fp32")
    assert opened.fits(96, 128, "fp32", exact)
    assert not opened.fits(96, 128, "fp32", exact - 1)
    for side in (16, 100, 333, 1024):
        estimate = opened._footprint.bytes(side, side, "fp32")
        assert not replace_footprint(opened).fits(side, side, "fp32", estimate - 1)


def replace_footprint(opened):
    """The same model, whose exact memory is unknown: only what the record proves fits."""
    other = replace(opened)
    other.__dict__["_footprint"] = type("Unknown", (), {"bytes": lambda self, *_: 1 << 60})()
    return other


def test_a_cache_that_cannot_be_written_costs_a_read_only(weights, cache):
    cache.write_text("no folder")
    assert described(weights).known is None
    assert isinstance(described(weights), Opened)
    assert look_up(("anything",)) is None
