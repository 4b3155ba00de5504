"""The JSON of a run."""

import json
import os
from pathlib import Path

from gankit.pipeline.report import ImageReport, Report


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
