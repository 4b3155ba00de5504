"""The JSON of a run."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gankit.pipeline.report import ImageReport, Report, Waits


def report(*images):
    return Report(images=images, ignored=0, seconds=1.0, engine=None, model=None)


def test_names_that_are_no_text_survive(tmp_path):
    """Linux takes any bytes as a file's name; Python has what is not UTF-8 as lone surrogates."""
    name = os.fsdecode(b"caf\xe9.png")
    report(ImageReport(Path(name), Path("out") / name, "done")).write(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["images"][0]["source"] == name
    assert os.fsencode(content["images"][0]["target"]) == b"out/caf\xe9.png"


def test_what_is_left_is_counted():
    a, b, c = Path("a"), Path("b"), Path("c")
    totals = report(ImageReport(a, a, "done"), ImageReport(b, b, "left"), ImageReport(c, c, "left")).totals
    assert (totals.done, totals.left, totals.failed) == (1, 2, 0)


@pytest.mark.parametrize(
    ("decode", "encode", "bottleneck"), [(1.0, 2.0, "engine"), (6.0, 1.0, "decoder"), (2.0, 5.0, "encoder")]
)
def test_the_bottleneck_is_what_took_the_most_time(decode, encode, bottleneck):
    done = ImageReport(Path("a.png"), Path("b.png"), "done", input_size=(4, 4), output_size=(16, 16))
    report = Report((done,), 0, 10.0, None, None, waits=Waits(decode, encode))
    assert report.totals.bottleneck == bottleneck
    assert report.totals.engine_share == pytest.approx((10 - decode - encode) / 10)
    assert report.to_dict()["totals"]["bottleneck"] == bottleneck
    assert replace(report, waits=None).totals.bottleneck is None
