"""A new backend is one file and one registry line: found by --backend, doctor, auto, the report and the benchmarks."""

import json
import sys
from types import MappingProxyType

import pytest
from PIL import Image

from gankit import backends, cli
from gankit.backends.choice.environment import environment
from gankit.checkpoints import save
from gankit.errors import UsageError
from tests.networks import small_srgan
from tests.opening import opened

FILE = '''
"""Runs the generator as it is, and says so."""

from typing import ClassVar

import torch

from gankit.backends.base import Backend, Engine
from gankit.backends.pixels import enter, leave


class MirrorBackend(Backend):
    name: ClassVar[str] = "mirror"
    precisions: ClassVar[dict] = {"cpu": ("fp32",)}
    packages: ClassVar[tuple] = ("pillow",)
    rank: ClassVar[int] = -1

    def missing(self, spec):
        return None

    def open(self, spec):
        return MirrorEngine(spec)


class MirrorEngine(Engine):
    def __init__(self, spec):
        super().__init__("mirror", spec)
        self.spec = spec

    def run(self, *tensors):
        with torch.inference_mode():
            return leave(self.spec.generator(*enter(tensors, self.spec.facts)), tensors, self.spec.facts)
'''


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The file on the path, and the line in the registry."""
    (tmp_path / "mirror_backend.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    table = {**backends.BACKENDS, "mirror": "mirror_backend:MirrorBackend"}
    monkeypatch.setattr(backends, "BACKENDS", MappingProxyType(table))
    for module in ("choice.candidates", "choice.environment"):
        monkeypatch.setattr(f"gankit.backends.{module}.BACKENDS", MappingProxyType(table))
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    yield "mirror"
    sys.modules.pop("mirror_backend", None)


@pytest.fixture
def model(tmp_path):
    """A small upscaler, so that every backend exports and runs it at once."""
    options = {"scale": 4, "channels": 8, "blocks": 1}
    path = tmp_path / "small.safetensors"
    save(path, small_srgan(**options).state_dict(), "srgan", options)
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in.png"
    Image.radial_gradient("L").resize((20, 16)).convert("RGB").save(path)
    return path


def test_the_command_line_takes_it_and_the_report_names_it(mirror, model, image, tmp_path):
    report = tmp_path / "report.json"
    out = tmp_path / "out"
    line = [
        "upscale",
        str(image),
        "--model",
        str(model),
        "--output",
        str(out),
        "--backend",
        mirror,
        "--quiet",
        "--report",
        str(report),
    ]
    assert cli.main(line) == 0
    assert opened(out / "in.png").size == (80, 64)
    written = json.loads(report.read_text())
    assert written["engine"]["backend"] == "mirror"
    assert written["engine"]["parity_db"] is None or written["engine"]["parity_db"] > 90
    assert "pillow" in written["versions"]


def test_a_misspelt_name_suggests_it(mirror):
    with pytest.raises(UsageError, match="did you mean 'mirror'"):
        backends.get("miror")


def test_doctor_shows_it_with_its_version(mirror, capsys):
    import PIL

    found = environment()
    assert found.backends["mirror"] == (True, "", ("fp32",))
    assert found.packages["pillow"] == PIL.__version__
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "mirror" in text
    assert PIL.__version__ in text


def test_auto_measures_it(mirror, model, image, tmp_path, capsys, monkeypatch):
    table = MappingProxyType({name: backends.BACKENDS[name] for name in ("eager", mirror)})  # the others take seconds
    monkeypatch.setattr("gankit.backends.choice.candidates.BACKENDS", table)
    line = ["upscale", str(image), "--model", str(model), "--output", str(tmp_path / "auto"), "--precision", "fp32"]
    assert cli.main(line) == 0
    said = capsys.readouterr()
    assert "mirror fp32" in said.err + said.out


def test_the_benchmarks_list_it(mirror):
    from bench import common
    from gankit.checkpoints import open_model

    assert ("mirror", "fp32", "cpu") in list(common.engines(open_model("srgan")))
