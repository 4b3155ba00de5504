"""Several engines behind one queue: real modules on the CPU, each on a device of its own name."""

import threading
import time

import pytest
import torch
from torch import nn

from gankit.backends.base import Engine, EngineMemoryError, EngineSpec
from gankit.backends.modules import ModuleEngine
from gankit.backends.several import SeveralEngines
from gankit.errors import BackendError, NotFiniteError
from gankit.models.facts import Facts

FACTS = Facts(task="upscale", scale=1, value_range=(0, 1), name="shift", channels=3)


class Shift(nn.Module):
    """Turns every value over."""

    def forward(self, x):
        return 1 - x


class Twin(Engine):
    """Runs a real engine of the CPU under the name of a GPU. ``gate`` and ``error`` make it slow or broken."""

    def __init__(self, device, *, depth=1, gate=None, error=None, pixel_bytes=None):
        self.backend, self.precision, self.device, self.depth = "twin", "fp32", device, depth
        self.inner = ModuleEngine("twin", EngineSpec(nn.Identity(), FACTS, threads=1), Shift())
        self.entered = threading.Event()
        self.gate, self.error, self.closed, self.ran, self.pixel_bytes = gate, error, 0, [], pixel_bytes

    def run(self, batch):
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        self.ran.append(int(batch.flatten()[0]))
        if self.error is not None and (error := self.error(batch)):
            raise error
        return self.inner.run(batch)

    def close(self):
        self.closed += 1


def batches(count):
    return [torch.full((1, 3, 2, 2), index, dtype=torch.uint8) for index in range(count)]


def always(error):
    return lambda batch: error


def check(engine, count=20):
    pending = [engine.submit(batch) for batch in batches(count)]
    for index, one in enumerate(pending):
        assert int(one.result().unique()) == 255 - index  # in the order of the calls, each once


@pytest.mark.parametrize("depths", [(1, 1), (2, 1), (2, 2, 2)])
def test_every_call_runs_once_and_the_order_stays(depths):
    twins = [Twin(f"cuda:{index}", depth=depth) for index, depth in enumerate(depths)]
    with SeveralEngines(twins) as engine:
        check(engine)
        assert engine.depth == sum(depths) + len(depths)
        assert engine.device == ",".join(twin.device for twin in twins)
        assert engine.spread == len(depths)
        assert sum(engine.calls.values()) == 20
    assert sorted(number for twin in twins for number in twin.ran) == list(range(20))
    assert [twin.closed for twin in twins] == [1] * len(depths)


def test_a_slow_gpu_gets_fewer_calls():
    gate = threading.Event()
    slow = Twin("cuda:0", gate=gate)
    fast = Twin("cuda:1", gate=slow.entered)
    engine = SeveralEngines([slow, fast])
    pending = [engine.submit(batch) for batch in batches(9)]
    for _ in range(2000):
        if engine.calls["cuda:1"] == 8:  # all but the one that the slow one holds
            break
        time.sleep(0.01)
    assert engine.calls == {"cuda:0": 0, "cuda:1": 8}
    gate.set()
    assert [int(one.result().unique()) for one in pending] == [255 - index for index in range(9)]
    engine.close()


def test_a_gpu_that_fails_is_named_and_the_others_do_its_work():
    lines, good, bad = [], Twin("cuda:0"), Twin("cuda:1", error=always(RuntimeError("CUDA error: unspecified\nmore")))
    with SeveralEngines([good, bad], lines.append) as engine:
        check(engine)
        check(engine)
    named = "cuda:1 failed (CUDA error: unspecified) and is not used any more; its work runs on cuda:0"
    assert lines in ([named], [])  # empty if cuda:0 was so fast that cuda:1 got nothing
    assert len(bad.ran) <= 1
    assert good.closed == bad.closed == 1


def test_a_gpu_that_fails_gets_nothing_more():
    held = threading.Event()
    lines, good = [], Twin("cuda:0", gate=held)
    bad = Twin("cuda:1", gate=good.entered, error=always(RuntimeError("launch failure")))
    engine = SeveralEngines([good, bad], lines.append)
    pending = [engine.submit(batch) for batch in batches(6)]
    for _ in range(2000):
        if bad.ran:  # cuda:0 holds another call, so that nobody knows yet who is at fault
            break
        time.sleep(0.01)
    held.set()
    assert [int(one.result().unique()) for one in pending] == [255 - index for index in range(6)]
    check(engine)
    assert len(bad.ran) == 1
    for _ in range(2000):  # the line follows the result
        if lines:
            break
        time.sleep(0.01)
    assert lines == ["cuda:1 failed (launch failure) and is not used any more; its work runs on cuda:0"]
    engine.close()


def test_a_call_that_fails_on_all_is_at_fault_itself():
    def of_five(batch):
        return ValueError("a batch of fives") if int(batch.flatten()[0]) == 5 else None

    lines, twins = [], [Twin("cuda:0", error=of_five), Twin("cuda:1", error=of_five)]
    with SeveralEngines(twins, lines.append) as engine:
        pending = [engine.submit(batch) for batch in batches(10)]
        for index, one in enumerate(pending):
            if index == 5:
                with pytest.raises(ValueError, match="fives"):
                    one.result()
            else:
                assert int(one.result().unique()) == 255 - index
        check(engine, 5)
    assert lines == []
    assert sorted(number for twin in twins for number in twin.ran if number == 5) == [5, 5]


@pytest.mark.parametrize(
    "error", [EngineMemoryError("full"), RuntimeError("CUDA out of memory"), NotFiniteError("inf")]
)
def test_memory_and_values_are_for_the_caller(error):
    lines, twins = [], [Twin(f"cuda:{index}", error=always(error)) for index in range(2)]
    with SeveralEngines(twins, lines.append) as engine, pytest.raises(type(error)):
        engine.run(*batches(1))
    assert sum(len(twin.ran) for twin in twins) == 1
    assert not lines


def test_close_drops_what_waits():
    gate = threading.Event()
    engine = SeveralEngines([Twin("cuda:0", gate=gate), Twin("cuda:1", gate=gate)])
    pending = [engine.submit(batch) for batch in batches(5)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(BackendError, match="closed"):
        pending[-1].result()
    gate.set()
    closing.join()
    engine.close()
    assert {twin.closed for twin in engine.engines} == {1}
    with pytest.raises(BackendError, match="closed"):
        engine.submit(*batches(1))


def test_the_memory_of_the_most_demanding_counts():
    with SeveralEngines([Twin("cuda:0", pixel_bytes=7), Twin("cuda:1", pixel_bytes=9)]) as engine:
        assert engine.pixel_bytes == 9
