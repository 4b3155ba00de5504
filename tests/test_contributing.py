"""CONTRIBUTING's worked examples, done as they are written: one new file and one registry line each, and they work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gankit.checkpoints import save
from tests.networks import small_srgan
from tests.opening import opened

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gankit", "kernels", "export")


@pytest.fixture
def apply(tmp_path):
    """Write an example's file and registry line into a copy of the packages; gives a way to run Python there."""

    def do(word):
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        (section,) = (part for part in text.split("\n## ") if part.startswith(f"Add a {word}"))
        for name in PACKAGES:
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        new, body = re.search(r"\*\*1\.\*\* `([^`]+)`.*?```python\n(.*?)```", section, re.DOTALL).groups()
        assert not (tmp_path / new).exists()
        (tmp_path / new).write_text(body, encoding="utf-8")
        registry, table, diff = re.search(
            r"\*\*2\.\*\* `([^`]+)`[^`]*`(\w+)`.*?```diff\n(.*?)```", section, re.DOTALL
        ).groups()
        (line,) = diff.splitlines()
        assert line.startswith("+")
        source = (tmp_path / registry).read_text(encoding="utf-8")
        changed, count = re.subn(
            rf"(?m)(^{table}\b[^\n]*\n(?:    \{{\n)?)", lambda found: f"{found[1]}{line[1:]}\n", source, count=1
        )
        assert count == 1
        (tmp_path / registry).write_text(changed, encoding="utf-8")
        paths = os.pathsep.join(str(tmp_path / name) for name in ("", "kernels", "export"))
        environment = os.environ | {"PYTHONPATH": paths, "GANKIT_CACHE": str(tmp_path / "cache")}

        def run(*arguments, status=0):
            command = [sys.executable, "-m", "gankit", *map(str, arguments)]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == status, done.stderr
            return done.stdout + done.stderr

        return run

    return do


@pytest.fixture
def model(tmp_path):
    options = {"scale": 4, "channels": 8, "blocks": 1}
    save(tmp_path / "small.safetensors", small_srgan(**options).state_dict(), "srgan", options)
    return tmp_path / "small.safetensors"


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    return path


@pytest.mark.slow
def test_a_model(apply):
    run = apply("model")
    shown = run("models", "plain")
    assert "convs" in shown
    assert "arXiv:1609.05158" in shown


@pytest.mark.slow
def test_a_backend(apply, image, model, tmp_path):
    run = apply("backend")
    report = tmp_path / "report.json"
    run("upscale", image, "--model", model, "-o", tmp_path / "out", "--backend", "scripted", "--report", report)
    assert opened(tmp_path / "out" / "in.png").size == (64, 48)
    assert '"backend": "scripted"' in (tmp_path / "report.json").read_text()
    assert "scripted" in run("doctor")


@pytest.mark.slow
def test_a_file_format(apply, image, model, tmp_path):
    run = apply("file format")
    options = ("--model", model, "--backend", "eager", "--quiet")
    run("upscale", image, "--output", tmp_path / "out", "--format", "ppm", *options)
    assert opened(tmp_path / "out" / "in.ppm").size == (64, 48)
    run("upscale", tmp_path / "out", "--output", tmp_path / "again", *options)
    assert opened(tmp_path / "again" / "in.ppm").size == (256, 192)


@pytest.mark.slow
def test_a_training_recipe(apply, tmp_path):
    run = apply("training recipe")
    assert "lsgan-r1" in run("train", "--help")
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    run("train", "lsgan-r1", "--data", folder, "--output", tmp_path / "run", "--steps", 2, "--batch", 4)
    assert (tmp_path / "run" / "final.safetensors").exists()
