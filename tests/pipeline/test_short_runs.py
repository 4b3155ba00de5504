"""A pipeline whose engine was chosen for a short job, and the work that follows."""

import numpy as np
import pytest
from PIL import Image

import gankit
from gankit.backends.choice.parity import Parity
from gankit.backends.choice.select import Selection
from tests.pipeline.pipeline_fakes import Repeat, install_repeat

SMALL = 8 * 8


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the choice, with the engine that it gave: one for up to so many pixels, if the job is all."""
    install_repeat(monkeypatch)
    found = []

    def select(loaded, options, *, job_pixels, whole_job, **_):
        engine = Repeat(4)
        found.append((job_pixels, whole_job, engine))
        short = whole_job and job_pixels is not None and job_pixels <= SMALL
        return Selection(engine, Parity(70.0, 0.001), "a fake", most_pixels=SMALL if short else float("inf"))

    monkeypatch.setattr("gankit.backends.choice.select.select", select)
    return found


def write(folder, *sides):
    folder.mkdir()
    for number, side in enumerate(sides):
        Image.fromarray(np.full((side, side, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_longer_run_chooses_again_and_a_short_one_does_not(asked, tmp_path):
    one, two, many = (write(tmp_path / name, *sides) for name, sides in (("a", [8]), ("b", [8]), ("c", [8, 8])))
    with gankit.Upscaler() as upscaler:
        upscaler.run(one, tmp_path / "out_a")
        upscaler.run(two, tmp_path / "out_b")
        assert [item[:2] for item in asked] == [(SMALL, True)]
        upscaler.run(many, tmp_path / "out_c")
        assert [item[:2] for item in asked] == [(SMALL, True), (2 * SMALL, True)]
        assert (asked[0][2].closed, asked[1][2].closed) == (1, 0)
        upscaler.run(one, tmp_path / "out_d")
        assert len(asked) == 2
    assert asked[1][2].closed == 1


def test_an_image_from_python_may_be_the_first_of_many(asked, tmp_path):
    with gankit.Upscaler() as upscaler:
        upscaler.run(write(tmp_path / "a", 8), tmp_path / "out")
        for _ in range(2):
            upscaler(np.zeros((8, 8, 3), np.uint8))
    assert [item[:2] for item in asked] == [(SMALL, True), (None, False)]
    assert asked[0][2].closed == 1
