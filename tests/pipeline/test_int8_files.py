"""int8 on request, on a real network: built once, verified, run from the cache, and refused with the figures."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from gankit_export.int8 import Attempt, Estimator, Int8RefusedError
from gankit_export.parity import ShapeParity

from gankit.backends.cached import cached_files
from gankit.backends.choice import quantised
from gankit.cli import main
from gankit.pipeline import quantising
from tests.export.formats import EXACT, refusal, result, small_image, small_weights
from tests.latent_networks import weights as latent_weights

needs_nncf = pytest.mark.skipif(find_spec("nncf") is None, reason="the extra 'int8' is not installed")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GANKIT_DATA", raising=False)
    monkeypatch.setattr(quantising, "_SHIPPED_CROPS", 3)
    return small_weights(tmp_path)


@needs_nncf
@pytest.mark.slow
def test_a_file_is_built_once_and_runs(weights, tmp_path, capsys):
    image = small_image(tmp_path)
    wanted = result("upscale", weights, tmp_path / "w", image, *EXACT)
    capsys.readouterr()
    found = result("upscale", weights, tmp_path / "f", image, "--precision", "int8")
    shown = capsys.readouterr()
    assert "building srgan in int8 by NNCF" in shown.err
    assert "which is lossy" in shown.err
    assert "on openvino int8" in shown.out or "on onnxruntime int8" in shown.out
    assert 0 < np.abs(found - wanted).mean() < 4
    files = sorted(item.name for item in quantised.folder().iterdir())
    assert len(files) == 2
    again = result("upscale", weights, tmp_path / "again", image, "--int8")
    shown = capsys.readouterr()
    assert "building" not in shown.err
    assert "which is lossy" in shown.err
    np.testing.assert_array_equal(again, found)
    by_runtime = result("upscale", weights, tmp_path / "ort", image, "--int8", "--backend", "onnxruntime")
    assert np.abs(by_runtime - wanted).mean() < 4
    capsys.readouterr()
    assert main(["cache", "verify"]) == 0
    (path,) = quantised.folder().glob("*.onnx")
    path.write_bytes(path.read_bytes()[:-1])
    result("upscale", weights, tmp_path / "more", image, "--int8")
    shown = capsys.readouterr()
    assert "has changed since gankit wrote it" in shown.err
    assert "building srgan in int8" in shown.err


@pytest.mark.slow
def test_below_the_gate_int8_is_refused_with_the_figures(weights, tmp_path, capsys, monkeypatch):
    searches = []

    def refused(*rest, **options):
        searches.append(rest)
        raise Int8RefusedError([Attempt((), Estimator(), (ShapeParity((1, 3, 8, 8), 31.2, 0.1, 31.2),))], 38)

    monkeypatch.setattr("gankit_export.int8.nncf", lambda: None)
    monkeypatch.setattr("gankit_export.int8.make_int8", refused)
    image = small_image(tmp_path)
    arguments = ["upscale", str(image), "--model", str(weights), "-o", str(tmp_path / "o"), "--int8"]
    assert main(arguments) != 0
    err = capsys.readouterr().err
    assert "int8 reaches 31.2 dB with all layers in int8" in err
    assert "use --precision fp32" in err
    assert main(arguments) != 0
    err = capsys.readouterr().err
    assert "int8 reaches 31.2 dB" in err
    assert "found by an earlier run" in err
    assert len(searches) == 1
    (cached,) = (item for item in cached_files() if item.kind == "refusal")
    assert (cached.model, cached.problem()) == ("srgan", None)
    assert main(["cache", "remove", err.split("remove '")[1].split("'")[0]]) == 0
    assert not list(quantised.folder().iterdir())
    assert main(arguments) != 0
    assert len(searches) == 2


def test_a_missing_package_is_reported_before_the_work(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    err = refusal(capsys, "upscale", small_image(tmp_path), "--model", weights, "-o", tmp_path / "o", "--int8")
    assert "pip install 'gankit[int8]'" in err
    assert "building" not in err


def test_wrong_use_is_one_line(weights, tmp_path, capsys):
    image = small_image(tmp_path)
    upscale = ["upscale", image, "--model", weights, "-o", tmp_path / "o"]
    assert "use it with the precision int8" in refusal(capsys, *upscale, "--calibration", tmp_path)
    assert "does not run int8" in refusal(capsys, *upscale, "--int8", "--backend", "eager")
    assert "contradict each other" in refusal(capsys, *upscale, "--int8", "--precision", "fp32")
    generate = ["generate", "--model", latent_weights(tmp_path, "cgan"), "-o", tmp_path / "g"]
    assert "int8 is for models that take images" in refusal(capsys, *generate, "--precision", "int8")
