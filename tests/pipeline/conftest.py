"""Fixtures of the tests of the pipeline."""

import threading

import pytest

from gankit.pipeline import large, strips
from tests.pipeline.strip_runs import ROOM


@pytest.fixture
def by_strips(monkeypatch):
    """Images of more than a thousand pixels do not fit into memory, and strips have few rows."""

    def within(room=ROOM):
        needed = lambda it, opened: (1 << 60) * (opened.header.width * opened.header.height > 1000)  # noqa: E731
        monkeypatch.setattr(large.LargeImages, "_needed", needed)
        monkeypatch.setattr(large, "available_memory", lambda limit: room)
        monkeypatch.setattr(strips, "_ROWS", 16)

    return within


@pytest.fixture
def no_thread_is_left():
    """The test ends all threads that it starts."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before
