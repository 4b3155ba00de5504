"""The table of the engines' goals, on work that is small."""

import numpy as np
import pytest

from bench import goals
from bench.common import ROOT
from bench.goals import Line, Setting
from bench.versions import Version

SETTING = Setting(rounds=2, threads=1, precision="fp32", images=1, model="edsr")


def test_what_a_goal_is_about():
    faster = Line("an image", "a peer", [1.0, 1.2, 0.8], [2.0, 2.2, 1.8], 1.8)
    assert faster.value == pytest.approx(2)
    assert faster.met
    start = Line("--help", "", [0.2, 0.4, 0.3], [], 0.25)
    assert start.value == pytest.approx(0.3)
    assert not start.met
    share = Line("the engine", "a convolution", [1.0], [], 0.55, share=0.6)
    assert share.value == 0.6
    assert share.met


def test_the_table_names_the_machine_and_every_goal():
    text = goals.render([Line("an image", "a peer", [1.0, 1.1], [2.0, 2.2], 3.0, "eager fp32")], SETTING)
    assert "load" in text
    assert "torch" in text
    (line,) = (line for line in text.splitlines() if line.strip().startswith("an image"))
    assert "2.00 ×" in line
    assert "NO" in line
    assert line.endswith("eager fp32")


def test_a_worker_answers_each_run():
    """An engine in a process of its own."""
    small = {"model": "edsr", "options": {"channels": 4, "blocks": 1}, "batch": 1, "width": 8, "height": 6}
    own = small | {"backend": "eager", "precision": "fp32", "threads": 1}
    with Version(ROOT, own) as engine:
        engine.run()
        engine.run()
        assert len(engine.cpu) == len(engine.wall) == 2
        assert engine.sha256
    assert np.median(engine.wall) > 0
