"""Whether OpenVINO runs images whole or in segments is measured in long jobs only, and remembered."""

import json

import numpy as np
import pytest

pytest.importorskip("openvino")

from gankit import backends
from gankit.backends import open_vino_choice
from gankit.backends.base import EngineSpec
from gankit.backends.exhausted import EngineMemoryError
from gankit.backends.open_vino_choice import SegmentChoice
from gankit.backends.open_vino_segments import Cutting, SegmentedGraph
from gankit.paths import cache_folder
from tests.backends.test_open_vino_segments import SMALL, network, pixels

CHOSEN = Cutting(SMALL, 10, 2)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """Load an engine that runs images of 64 × 64 pixels and more as if they were large."""
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(open_vino_choice, "LEAST_PIXELS", 64 * 64)
    net, known = network("edsr")
    made = []

    def load(notify=None):
        made.append(backends.get("openvino").load(EngineSpec(net, known, threads=2, notify=notify)))
        return made[-1]

    yield load
    for one in made:
        one.close()


def batch(height=70, width=81):
    """A batch (1, 3, H, W) of bytes."""
    return pixels(height, width, np.uint8).transpose(0, 3, 1, 2)


def always(monkeypatch, gain):
    """Make the measurement find this gain, at once."""
    monkeypatch.setattr(open_vino_choice, "SHORT_JOB_SECONDS", 0.0)
    monkeypatch.setattr(SegmentChoice, "fastest", lambda self, pixels, limit: CHOSEN)
    monkeypatch.setattr(SegmentChoice, "_gain", lambda self, cutting, pixels, pixel: gain)


def refuse(monkeypatch, owner, name):
    """Make a method fail the test."""
    monkeypatch.setattr(owner, name, lambda *given: pytest.fail(f"{name} was called"))


def test_segments_that_are_faster_are_remembered(engine, monkeypatch):
    always(monkeypatch, 1.4)
    lines = []
    first = engine(lines.append)
    wanted = [first.run_arrays(batch()) for _ in range(3)]
    assert [line for line in lines if "1.40 times as fast" in line]
    refuse(monkeypatch, SegmentChoice, "decide")
    second = engine()
    refuse(monkeypatch, type(second), "whole")
    for result in (*wanted, second.run_arrays(batch())):
        np.testing.assert_array_equal(result, wanted[0])


def test_that_whole_images_are_faster_is_remembered(engine, monkeypatch):
    always(monkeypatch, 1.02)
    first = engine()
    for _ in range(3):
        first.run_arrays(batch())
    refuse(monkeypatch, SegmentChoice, "decide")
    refuse(monkeypatch, SegmentedGraph, "run")
    second = engine()
    for _ in range(3):
        second.run_arrays(batch())


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"segments": {"values": 1}}', '{"segments": {"values": "a", "moved": 1, "streams": 1, "static": 0}}'],
)
def test_a_damaged_file_is_measured_again(text, engine, monkeypatch):
    always(monkeypatch, 1.4)
    first = engine()
    for _ in range(2):
        first.run_arrays(batch())
    (path,) = (cache_folder() / "choices").glob("*.json")
    path.write_text(text)
    second = engine()
    for _ in range(2):
        second.run_arrays(batch())
    assert json.loads(path.read_text())["segments"]["values"] == SMALL


def test_another_size_is_another_question(engine, monkeypatch):
    always(monkeypatch, 1.4)
    one = engine()
    for height in (70, 70, 140, 140):
        one.run_arrays(batch(height))
    assert len(list((cache_folder() / "choices").glob("*.json"))) == 2


def test_a_short_job_and_small_images_measure_nothing(engine, monkeypatch):
    refuse(monkeypatch, SegmentChoice, "decide")
    one = engine()
    for _ in range(3):
        one.run_arrays(batch())
    monkeypatch.setattr(open_vino_choice, "SHORT_JOB_SECONDS", 0.0)
    for _ in range(3):
        one.run_arrays(batch(20, 20))
    assert not (cache_folder() / "choices").exists()


def test_a_real_measurement_decides_and_changes_no_pixel(engine, monkeypatch):
    monkeypatch.setattr(open_vino_choice, "SHORT_JOB_SECONDS", 0.0)
    monkeypatch.setattr(open_vino_choice, "VALUES", (SMALL, 2 * SMALL))
    monkeypatch.setattr(open_vino_choice, "_MARGIN", 0.01)  # whatever this machine says, segments win
    one = engine()
    results = [one.run_arrays(batch(128, 128)) for _ in range(4)]
    (path,) = (cache_folder() / "choices").glob("*.json")
    assert json.loads(path.read_text())["segments"]["values"] in (SMALL, 2 * SMALL)
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def test_segments_that_make_another_image_are_not_taken(engine, monkeypatch):
    monkeypatch.setattr(open_vino_choice, "SHORT_JOB_SECONDS", 0.0)
    monkeypatch.setattr(open_vino_choice, "_MARGIN", 0.01)
    monkeypatch.setattr(SegmentedGraph, "run", lambda self, images: np.zeros((1, 512, 512, 3), np.uint8))
    one = engine()
    for _ in range(3):
        result = one.run_arrays(batch(128, 128))
    (path,) = (cache_folder() / "choices").glob("*.json")
    assert json.loads(path.read_text()) == {"segments": {}, "gain": 0.0}
    assert result.any()


def test_memory_that_runs_out_in_a_segment_leaves_the_engine_usable(engine, monkeypatch):
    always(monkeypatch, 1.4)
    one = engine()
    wanted = one.run_arrays(batch())
    one.run_arrays(batch())
    with monkeypatch.context() as patch:
        patch.setattr(SegmentedGraph, "_taken", lambda *given: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(EngineMemoryError):
            one.run_arrays(batch())
    np.testing.assert_array_equal(one.run_arrays(batch()), wanted)
