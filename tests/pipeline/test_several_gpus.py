"""Runs on several GPUs, here twins of the CPU: the same files as one CPU makes, every image once, in order."""

import threading
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import gankit
from gankit import backends, cli
from gankit.backends.base import Backend
from gankit.backends.choice import candidates
from gankit.backends.choice.candidates import parse_devices
from gankit.backends.modules import ModuleEngine, ready
from gankit.checkpoints import save
from gankit.errors import BackendError, UsageError
from gankit.models import build
from tests.networks import small_srgan
from tests.opening import opened

BROKEN: set[str] = set()  # devices that fail, after their parity check
RAN: list[str] = []
_LOCK = threading.Lock()


class TwinEngine(ModuleEngine):
    """Computes on the CPU, and says that it runs on a GPU."""

    depth = 2

    def __init__(self, name, spec):
        here = replace(spec, device="cpu", threads=1)
        super().__init__(name, here, ready(here))
        self.said = spec.device
        self.closes = 0

    @property
    def device(self):
        return "cpu" if threading.current_thread() in COMPUTING else self.said

    @device.setter
    def device(self, value):
        pass

    def run(self, *tensors):
        with _LOCK:
            RAN.append(self.said)
            if self.said in BROKEN:
                raise RuntimeError(f"CUDA error: {self.said} has fallen off the bus")
        COMPUTING.add(threading.current_thread())
        try:
            return super().run(*tensors)
        finally:
            COMPUTING.discard(threading.current_thread())


COMPUTING: set[threading.Thread] = set()


class TwinBackend(Backend):
    """A backend of GPUs that needs none."""

    name: ClassVar[str] = "twin"
    precisions: ClassVar[dict] = {"cuda": ("fp32",)}
    packages: ClassVar[tuple] = ("torch",)

    def missing(self, spec):
        return "this GPU is too old" if spec.device == "cuda:9" else None

    def open(self, spec):
        return TwinEngine(self.name, spec)


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch, tmp_path):
    """Two GPUs and their backend."""
    table = MappingProxyType({"eager": backends.BACKENDS["eager"], "twin": f"{__name__}:TwinBackend"})
    monkeypatch.setattr(backends, "BACKENDS", table)
    monkeypatch.setattr(candidates, "BACKENDS", table)
    monkeypatch.setattr(candidates, "gpu_count", lambda: 2)
    monkeypatch.setattr("gankit.backends.choice.environment.BACKENDS", table)
    monkeypatch.setattr("gankit.pipeline.workspace.free_memory", lambda device: 1 << 30)
    monkeypatch.setattr("gankit.backends.choice.probe._GPU_TILE", (32, 48))  # the parity check takes longest
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    BROKEN.clear()
    RAN.clear()


@pytest.fixture
def model(tmp_path):
    options = {"scale": 2, "channels": 8, "blocks": 1}
    path = tmp_path / "small.safetensors"
    save(path, small_srgan(**options).state_dict(), "srgan", options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Images of several sizes and kinds, so that calls differ and some images run alone."""
    root = tmp_path / "in"
    root.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        channels = 4 if index == 5 else 3
        pixels = rng.integers(0, 256, (20 + index % 3, 24, channels), dtype=np.uint8)
        image = Image.fromarray(pixels)
        (image.convert("L") if index == 7 else image).save(root / f"{index:02d}.png")
    return root


def upscaled(folder, model, target, **options):
    """The report of a run, and its files."""
    lines = []
    with gankit.Upscaler(model, notify=lines.append, **options) as upscaler:
        report = upscaler.run(folder, target)
    files = {path.name: np.asarray(opened(path)) for path in sorted(target.glob("*.png"))}
    return report, files, lines


def check(report, files, wanted):
    assert [image.status for image in report.images] == ["done"] * 12
    assert [image.source.name for image in report.images] == sorted(wanted)
    assert files.keys() == wanted.keys()
    for name, pixels in wanted.items():
        np.testing.assert_array_equal(files[name], pixels)


@pytest.mark.parametrize("device", ["all", "cuda:0,cuda:1"])
def test_two_gpus_make_the_files_of_one_cpu(folder, model, tmp_path, device):
    _, wanted, _ = upscaled(folder, model, tmp_path / "one", backend="eager", precision="fp32", device="cpu", threads=1)
    report, files, lines = upscaled(folder, model, tmp_path / "two", backend="twin", device=device)
    check(report, files, wanted)
    assert report.engine.device == "cuda:0,cuda:1"
    assert "on cuda:0, cuda:1" in report.engine.summary
    assert {"cuda:0", "cuda:1"} <= set(RAN)
    assert lines == []


def test_a_gpu_that_fails_is_named_and_no_image_is(folder, model, tmp_path):
    _, wanted, _ = upscaled(folder, model, tmp_path / "one", backend="eager", precision="fp32", device="cpu", threads=1)
    lines = []
    with gankit.Upscaler(model, notify=lines.append, backend="twin", device="all") as upscaler:
        upscaler(np.zeros((24, 24, 3), np.uint8))  # both pass the parity check
        BROKEN.add("cuda:1")
        report = upscaler.run(folder, tmp_path / "two")
    files = {path.name: np.asarray(opened(path)) for path in sorted((tmp_path / "two").glob("*.png"))}
    check(report, files, wanted)
    failed = "cuda:1 failed (CUDA error: cuda:1 has fallen off the bus) and is not used any more"
    assert lines in ([f"{failed}; its work runs on cuda:0"], [])  # none if cuda:0 was so fast that it got nothing


def test_all_gpus_fail(folder, model, tmp_path):
    with gankit.Upscaler(model, backend="twin", device="all") as upscaler:
        upscaler(np.zeros((24, 24, 3), np.uint8))
        BROKEN.update({"cuda:0", "cuda:1"})
        with pytest.raises(RuntimeError, match="fallen off the bus"):
            upscaler(np.zeros((24, 24, 3), np.uint8))


def test_a_gpu_that_cannot_run_it_is_left_out(folder, model, tmp_path, monkeypatch):
    BROKEN.add("cuda:1")
    report, files, lines = upscaled(folder, model, tmp_path / "two", backend="twin", device="all")
    assert len(files) == 12
    assert report.engine.device == "cuda:0"
    assert len([line for line in lines if line.startswith("cuda:1 is not used: ") and "off the bus" in line]) == 1


def test_no_gpu_can_run_it(folder, model, tmp_path):
    BROKEN.update({"cuda:0", "cuda:1"})
    with pytest.raises(BackendError, match="off the bus"):
        upscaled(folder, model, tmp_path / "two", backend="twin", device="all")


def test_the_tiles_of_one_image_are_spread(model):
    image = np.random.default_rng(0).integers(0, 256, (60, 400, 3), dtype=np.uint8)
    with gankit.Upscaler(model, backend="twin", device="cuda:0", tile=64) as one:
        wanted = one(image)
    with gankit.Upscaler(model, backend="twin", device="all", tile=64) as two:
        two(image[:32, :32])
        RAN.clear()
        made = two(image)
    np.testing.assert_array_equal(made, wanted)
    assert len(RAN) == 2  # the tiles of one call of one GPU, in two halves


def test_samples_are_those_of_one_cpu(tmp_path):
    torch.manual_seed(0)
    options = {"widths": (16, 8), "latent": 8}
    save(tmp_path / "net.safetensors", build("dcgan", options).state_dict(), "dcgan", options)
    common = {"batch": 4}
    with gankit.Sampler(tmp_path / "net.safetensors", device="cpu", threads=1, **common) as sampler:
        wanted = sampler.sample(30, seed=3)
    with gankit.Sampler(tmp_path / "net.safetensors", backend="twin", device="cuda:1,cuda:0", **common) as sampler:
        made = sampler.sample(30, seed=3)
    np.testing.assert_array_equal(made, wanted)
    assert {"cuda:0", "cuda:1"} <= set(RAN)


def test_the_command_takes_all(folder, model, tmp_path, capsys):
    line = ["upscale", str(folder), "--model", str(model), "--output", str(tmp_path / "out"), "--backend", "twin"]
    assert cli.main([*line, "--device", "all"]) == 0
    assert "(cuda:0,cuda:1)" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*.png"))) == 12


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:0,cuda:0", "names a GPU twice"),
        ("cpu,cuda:0", "name several GPUs by their numbers"),
        ("cuda,cuda:1", "name several GPUs by their numbers"),
        ("cuda:0,cuda:7", "no such GPU; this machine has cuda:0, cuda:1"),
        ("cuda:0,", "name several GPUs by their numbers"),
        ("everything", "unknown device"),
    ],
)
def test_wrong_devices(device, words):
    with pytest.raises(UsageError, match=words):
        parse_devices(device)


def test_all_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(candidates, "gpu_count", lambda: 0)
    with pytest.raises(UsageError, match="'all': this torch finds no CUDA GPU; use --device cpu"):
        parse_devices("all")
    monkeypatch.setattr(candidates, "gpu_count", lambda: 1)
    assert parse_devices("all") == ("cuda:0",)
