"""Tracing: several threads at once, and values that are changed in place."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from gankit_export.rewrites import for_inference, trace
from torch import nn
from torch.nn import functional as F

THREADS = 8


class Block(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(depth))
        self.gain = nn.Parameter(torch.rand(2, 1, 1))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x)) * self.gain
        return x


def test_eight_threads_trace_at_once():
    """torch.fx replaces nn.Module's call for the whole process; without the lock the graphs mix, or the names fail."""
    start = threading.Barrier(THREADS)

    def make(depth):
        net = Block(depth).eval().requires_grad_(False)
        start.wait()
        for _ in range(10):
            graph = trace(net)
            assert sum(node.op == "call_module" for node in graph.graph.nodes) == depth
        return net, graph

    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(make, range(3, 3 + THREADS)))
    x = torch.rand(1, 2, 8, 8)
    for net, graph in made:
        torch.testing.assert_close(graph(x), net(x), rtol=0, atol=0)


def test_other_threads_run_modules_meanwhile():
    """Theirs are no part of the graph, and tracing must not take their calls for its own."""
    done, failures = threading.Event(), []
    net, x = Block(4).eval().requires_grad_(False), torch.rand(1, 2, 8, 8)
    wanted = net(x)

    def run():
        while not done.is_set():
            try:
                assert torch.equal(net(x), wanted)
            except BaseException as error:
                failures.append(error)
                return

    workers = [threading.Thread(target=run) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(30):
            trace(Block(6))
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert failures == []


class InPlace(nn.Module):
    """A skip reads what its block changed in place, as in many published networks."""

    def __init__(self, change):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.relu, self.change = nn.ReLU(inplace=True), change
        self.same = nn.Sequential(nn.Identity(), nn.Dropout(0.5))

    def forward(self, x):
        y = self.one(x)
        return self.two(self.change(self, y)) + y


def through(net, y):
    return net.relu(net.same(y))


def plus(net, y):
    y += 1
    return y


CHANGES = {
    "module": lambda net, y: net.relu(y),
    "function": lambda net, y: F.leaky_relu(y, 0.1, inplace=True),
    "method": lambda net, y: y.mul_(2),
    "operator": plus,
    "through the identity": through,
    "underscore": lambda net, y: torch.relu_(y),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("rewrite", [trace, for_inference])
def test_what_is_read_after_a_change_is_the_changed_value(name, rewrite):
    torch.manual_seed(0)
    net = InPlace(CHANGES[name]).eval().requires_grad_(False)
    graph, x = rewrite(net), torch.randn(1, 2, 9, 7)
    torch.testing.assert_close(graph(x), net(x), rtol=0, atol=1e-6)
    (last,) = (node for node in graph.graph.nodes if node.op == "output")
    skip = last.args[0].args[1]
    assert skip.name != "one"  # the graph itself says so, for whoever runs it in another order


def test_a_change_by_another_name_is_refused():
    def change(net, y):
        y[:, :1].mul_(2)
        return y

    with pytest.raises(ValueError, match="changes a tensor by another of its names"):
        trace(InPlace(change))


def test_a_graph_is_copied_and_not_traced_again():
    net = nn.Sequential(Block(2), nn.ReLU())
    first = trace(net)
    second = trace(first)
    assert first.code == second.code
    assert not {id(item) for item in first.parameters()} & {id(item) for item in second.parameters()}
    node = next(node for node in second.graph.nodes if node.target is torch.tanh)
    assert list(node.meta["nn_module_stack"].values())[-1][0] == "0"


class Storing(nn.Module):
    """Stores what it computes in itself, as SPAN does with its mean."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.25))
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.last = None

    def forward(self, x):
        self.mean = self.mean.type_as(x)
        self.last = x - self.mean
        return self.conv(self.last)


def test_a_module_that_stores_values_is_traced_with_its_own():
    net, image = Storing().eval(), torch.rand(1, 3, 5, 6)
    traced = copy.deepcopy(trace(net))
    with torch.no_grad():
        torch.testing.assert_close(traced(image), net(image))
