"""Which shapes are recorded as CUDA graphs, and when."""

import pytest
import torch
from fake_gpu import FakeCuda

from gankit.backends.cuda.graphs import Graphs
from gankit.backends.cuda.switches import GRAPHS, graphs_wanted
from gankit.errors import UsageError


def double(x):
    return (x * 2,)


def call(graphs, gpu, x):
    (made,) = graphs.run((x,))
    graphs.learn((x,))
    gpu.synchronize()
    assert torch.equal(made, x * 2)


def shape(side):
    return torch.full((1, 1, side, side), float(side))


def test_a_shape_is_recorded_at_its_third_call_and_then_replayed():
    gpu = FakeCuda("early")
    graphs = Graphs(gpu, double, enabled=True)
    for k in range(5):
        call(graphs, gpu, shape(4) + k)
        assert (len(gpu.captures), gpu.replays) == (int(k >= 2), max(0, k - 2))
    for side in range(5, 40):  # shapes that come once or twice
        call(graphs, gpu, shape(side))
    assert len(gpu.captures) == 1
    call(graphs, gpu, shape(4).to(torch.float16))
    call(graphs, gpu, shape(4).repeat(1, 2, 1, 1).contiguous(memory_format=torch.channels_last))
    assert gpu.replays == 2  # neither another dtype nor another layout is the same


def test_few_graphs_are_kept_and_the_oldest_goes_first():
    gpu = FakeCuda("early")
    graphs = Graphs(gpu, double, enabled=True)
    for side in (1, 2, 3, 4, 1, 5):
        for _ in range(4):
            call(graphs, gpu, shape(side))
    assert len(graphs) == 4
    before = len(gpu.captures)
    call(graphs, gpu, shape(1))  # used last before 5
    assert len(gpu.captures) == before
    for k in range(4):  # dropped, so that it must come again
        call(graphs, gpu, shape(2))
        assert len(gpu.captures) == before + (k >= 2)
    assert len(graphs) == 4


def test_more_shapes_than_graphs_are_not_recorded_all_the_time():
    gpu = FakeCuda("early")
    graphs = Graphs(gpu, double, enabled=True)
    for _ in range(40):
        for side in range(1, 8):
            call(graphs, gpu, shape(side))
    assert len(gpu.captures) <= 14
    assert len(graphs) == 4


def test_shapes_that_never_end_are_forgotten():
    gpu = FakeCuda("early")
    graphs = Graphs(gpu, double, enabled=True)
    for side in range(1, 200):
        call(graphs, gpu, shape(side))
    assert len(graphs._seen) <= 64


def test_long_calls_are_not_recorded():
    gpu = FakeCuda("early", milliseconds=30.0)
    graphs = Graphs(gpu, double, enabled=True)
    for _ in range(6):
        call(graphs, gpu, shape(4))
    assert gpu.captures == []


def test_one_long_call_does_not_decide():
    gpu = FakeCuda("early", milliseconds=30.0)
    graphs = Graphs(gpu, double, enabled=True)
    for _ in range(3):
        call(graphs, gpu, shape(4))
    gpu.reported = 1.0
    for _ in range(3):
        call(graphs, gpu, shape(4))
    assert len(gpu.captures) == 1


def test_nobody_waits_for_the_timing():
    gpu = FakeCuda("late")
    graphs = Graphs(gpu, double, enabled=True)
    for _ in range(6):
        graphs.run((shape(4),))
        graphs.learn((shape(4),))
    assert gpu.captures == []
    gpu.synchronize()
    call(graphs, gpu, shape(4))
    assert len(gpu.captures) == 1


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing"), ValueError("no")])
def test_what_cannot_be_recorded_is_tried_once(error):
    gpu = FakeCuda("early")
    gpu.capture_error = error
    graphs = Graphs(gpu, double, enabled=True)
    for side in (4, 5):
        for _ in range(5):
            call(graphs, gpu, shape(side))
    gpu.capture_error = None
    for _ in range(5):
        call(graphs, gpu, shape(4))
    assert gpu.captures == []


def test_a_shape_without_memory_for_a_graph_does_not_stop_the_others():
    gpu = FakeCuda("early")
    gpu.capture_error = torch.OutOfMemoryError("CUDA out of memory.")
    graphs = Graphs(gpu, double, enabled=True)
    for _ in range(5):
        call(graphs, gpu, shape(9))
    gpu.capture_error = None
    for side in (9, 4):
        for _ in range(5):
            call(graphs, gpu, shape(side))
    assert gpu.captures == [[(1, 1, 4, 4)]]


def test_the_switch(monkeypatch):
    assert graphs_wanted()
    monkeypatch.setenv(GRAPHS, "off")
    assert not graphs_wanted()
    gpu = FakeCuda("early")
    graphs = Graphs(gpu, double, enabled=graphs_wanted())
    for _ in range(6):
        call(graphs, gpu, shape(4))
    assert gpu.captures == []
    monkeypatch.setenv(GRAPHS, "perhaps")
    with pytest.raises(UsageError, match="GANKIT_CUDA_GRAPHS must be on or off"):
        graphs_wanted()
