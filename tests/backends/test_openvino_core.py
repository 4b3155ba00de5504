"""One core, also where threads ask for it at the same time."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

from gankit_export import openvino_core


def test_threads_share_one_core(monkeypatch):
    made, together = [], Barrier(4)

    def core():
        time.sleep(0.05)  # as the real one: long enough for others to come
        made.append(object())
        return made[-1]

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=core))
    monkeypatch.setattr(openvino_core, "_core", openvino_core.cache(openvino_core._core.__wrapped__))

    def ask(_):
        together.wait()
        return openvino_core.openvino_core()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(4))) == set(made)
    assert len(made) == 1
