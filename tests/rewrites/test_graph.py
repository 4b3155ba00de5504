"""Every rewrite gives the same fp32 images."""

import operator

import pytest
import torch
from gankit_export.rewrites import (
    fold_batch_norm,
    fold_factors,
    for_inference,
    shared_prelu_to_leaky,
    sink,
    sink_last_shuffle,
    trace,
)
from torch import nn

from gankit.models import build
from tests.networks import small_srgan

ENDS = {  # whose network it is: options, and the layers behind the last convolution
    "leftthomas": ({"neck": "prelu", "output": "tanh"}, [nn.Sigmoid]),
    "sgrvinod": ({"values_in": "imagenet", "output": "tanh"}, [nn.Sigmoid]),
    "eriklindernoren": ({"values_in": "imagenet", "output": "tanh-imagenet"}, [nn.Tanh, nn.BatchNorm2d]),
}


def same(one, other, shape=(2, 3, 13, 17)):
    x = torch.rand(shape)
    with torch.no_grad():
        expected, result = one(x), other(x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-3  # a constant image would prove nothing


@pytest.mark.parametrize("rewrite", [trace, fold_batch_norm, shared_prelu_to_leaky, sink_last_shuffle, for_inference])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_rewrite_keeps_the_images(rewrite, scale):
    net = small_srgan(scale=scale)
    same(net, rewrite(net))


def test_rewrite_leaves_its_argument_alone():
    net = small_srgan()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for_inference(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert isinstance(net.upsampler[-1].shuffle, nn.PixelShuffle)


def test_inference_graph_has_no_norm_and_ends_in_the_shuffle():
    graph = for_inference(small_srgan())
    modules = list(graph.modules())
    assert not any(isinstance(module, (nn.BatchNorm2d, nn.PReLU)) for module in modules)
    last = [node for node in graph.graph.nodes if node.op == "call_module"][-1]
    assert isinstance(graph.get_submodule(last.target), nn.PixelShuffle)
    assert graph.tail.kernel_size == (5, 5)
    assert (graph.tail.in_channels, graph.tail.out_channels) == (64, 12)


@pytest.mark.parametrize(("factor", "kernel"), [(2, 1), (2, 3), (2, 5), (2, 9), (3, 3), (3, 7), (4, 5), (4, 9)])
def test_sunk_convolution_equals_the_one_after_the_shuffle(factor, kernel):
    torch.manual_seed(0)
    shuffle, conv = nn.PixelShuffle(factor), nn.Conv2d(3, 2, kernel, padding=kernel // 2)
    sunk, last = sink(shuffle, conv)
    same(nn.Sequential(shuffle, conv), nn.Sequential(sunk, last), (2, 3 * factor**2, 6, 5))


@pytest.mark.parametrize(
    ("model", "options", "left"),
    [
        ("edsr", {"channels": 8, "blocks": 3, "res_scale": 0.1, "scale": 2}, 0),
        ("edsr", {"channels": 8, "blocks": 3, "res_scale": 0.1, "tail": "edsr", "mean": [0.4, 0.5, 0.6]}, 0),
        ("esrgan", {"channels": 8, "growth": 4, "blocks": 2}, 2),  # the factors of sums stay
    ],
)
def test_factors_of_residuals_join_the_convolutions(model, options, left):
    torch.manual_seed(0)
    net = build(model, options).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph = fold_factors(net)
    same(net, graph)
    same(net, for_inference(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert sum(node.target is operator.mul for node in graph.graph.nodes) == left


def test_factors_of_shared_or_read_results_stay():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.read = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.read(x)
            return self.conv(x) * 0.5 + self.conv(y) + y * 3 + 2 * x * y

    net = Shared().eval()
    same(net, fold_factors(net))


def test_slopes_per_channel_are_not_moved_before_the_shuffle():
    net = nn.Sequential(nn.PixelShuffle(2), nn.PReLU(3), nn.Conv2d(3, 3, 9, padding=4)).eval()
    nn.init.uniform_(net[1].weight, 0, 1)
    graph = sink_last_shuffle(net, always=True)
    same(net, graph, (1, 12, 6, 6))
    assert graph.get_submodule("2").kernel_size == (9, 9)


@pytest.mark.parametrize("change", [{"stride": 2}, {"padding": 0}, {"padding_mode": "reflect"}, {"groups": 3}])
def test_what_cannot_be_sunk_is_refused(change):
    conv = nn.Conv2d(3, 3, 3, **{"padding": 1, **change})
    with pytest.raises(ValueError, match="can be sunk"):
        sink(nn.PixelShuffle(2), conv)


def test_a_norm_whose_convolution_is_used_twice_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(0.5)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    net = Twice().eval()
    same(net, fold_batch_norm(net))


def test_a_shared_layer_is_rewritten_call_by_call():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.two.running_mean.fill_(1.0)
            self.two.running_var.fill_(4.0)

        def forward(self, x):
            return self.two(self.conv(self.one(self.conv(x))))

    net = Shared().eval()
    graph = fold_batch_norm(net)
    same(net, graph)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())


def test_data_dependent_networks_are_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="cannot be traced"):
        trace(Branching())


def test_the_full_size_network():
    net = build("srgan").eval()
    same(net, for_inference(net), (1, 3, 9, 8))


@pytest.mark.parametrize("whose", ENDS)
def test_the_shuffle_sinks_before_pointwise_layers_that_end_the_network(whose):
    options, ends = ENDS[whose]
    net = small_srgan(**options)
    graph = for_inference(net)
    same(net, graph)
    assert (graph.tail.in_channels, graph.tail.out_channels) == (64, 12)
    layers = [graph.get_submodule(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    assert [type(layer) for layer in layers[-len(ends) - 2 :]] == [nn.Conv2d, nn.PixelShuffle, *ends]


def test_channels_of_a_tail_stay_their_own():
    """Slopes and statistics that differ by channel, and numbers on either side."""

    class Tail(nn.Module):
        def __init__(self):
            super().__init__()
            self.shuffle, self.conv = nn.PixelShuffle(2), nn.Conv2d(3, 3, 9, padding=4)
            self.slopes, self.norm = nn.PReLU(3), nn.BatchNorm2d(3)
            self.slopes.weight.data = torch.tensor([-1.0, 0.1, 2.0])
            self.norm.running_mean.copy_(torch.tensor([-3.0, 0.0, 5.0]))
            self.norm.running_var.copy_(torch.tensor([0.1, 1.0, 9.0]))

        def forward(self, x):
            y = self.norm(self.slopes(self.conv(self.shuffle(x))))
            return 1 - torch.sigmoid(y).mul(0.5)

    net = Tail().eval()
    graph = sink_last_shuffle(net, always=True)
    same(net, graph, (1, 12, 6, 6))
    assert graph.conv.out_channels == 12


def test_what_is_not_pointwise_stops_the_search():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.shuffle, self.conv = nn.PixelShuffle(2), nn.Conv2d(3, 3, 9, padding=4)

        def forward(self, x):
            y = self.conv(self.shuffle(x))
            return torch.sigmoid(y) * y

    net = Gated().eval()
    graph = sink_last_shuffle(net, always=True)
    same(net, graph, (1, 12, 6, 6))
    assert graph.conv.out_channels == 3
