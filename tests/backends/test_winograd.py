"""Streams and modules whose convolutions run by Winograd's algorithm, against the networks themselves."""

import sys
from collections import Counter

import pytest
import torch
from gankit_export.rewrites import for_inference
from gankit_kernels import winograd_steps
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytest.importorskip("llvmlite")

from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.backends.cpu.convolution import ResidualChain
from gankit.backends.cpu.stages import build_stages
from gankit.backends.cpu.winograd import WinogradConv, WinogradLayer, with_winograd
from gankit.errors import BackendError
from gankit.models import build, facts
from tests.networks import small_srgan

FAMILIES = {
    "edsr": {"channels": 16, "blocks": 3, "scale": 4},
    "srgan": {"channels": 16, "blocks": 3, "scale": 2},
    "esrgan": {"channels": 32, "growth": 16, "blocks": 1},
    "srvgg": {"channels": 40, "convs": 3},
    "cyclegan": {"channels": 16, "blocks": 2},
    "animegan": {},
    "pix2pix": {"channels": 16, "downs": 3},
}
WHOLE = ("cyclegan", "animegan", "pix2pix")  # some layer needs the whole image


def engine_of(name, options, **rest):
    torch.manual_seed(0)
    net = build(name, options).eval()
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.2, 0.5)
    return net, backends.get("winograd").load(EngineSpec(net, facts(name, options), **rest))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_families(name, threads):
    net, engine = engine_of(name, FAMILIES[name], threads=threads)
    engine_facts = facts(name, FAMILIES[name])
    assert engine.wants == ("tiles" if name in WHOLE else "images")
    for size in ((32, 48), (64, 88)):
        x = torch.rand(2, 3, *size)
        low, high = engine_facts.value_range
        with torch.no_grad():
            wanted = (net(x * (high - low) + low) - low) / (high - low)
        difference = (engine.run(x) - wanted).abs().max()
        assert difference < 1e-4 * wanted.abs().max().clamp(min=1)
    engine.close()


@pytest.mark.parametrize("strip_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40), (131, 12)])
def test_strips_equal_the_whole(size, strip_bytes):
    from gankit.backends.cpu.streaming import Stream

    net, image = small_srgan(scale=2, channels=16, blocks=3), torch.rand(1, 3, *size)
    canvas = torch.full((1, 3, 2 * size[0], 2 * size[1]), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        Stream(for_inference(net), strip_bytes, winograd=True).run(image, lambda rows: rows, write)
        torch.testing.assert_close(canvas, net(image), rtol=0, atol=1e-5)


def test_activations_and_additions_are_part_of_the_convolutions():
    net = for_inference(build("edsr", FAMILIES["edsr"]).eval())
    _, _, stages = build_stages(net, 1 << 20, fast=True)
    (chain,) = (stage for stage in stages if isinstance(stage, ResidualChain))
    assert all(isinstance(conv, WinogradConv) for block in chain._blocks for conv in block)
    net = for_inference(build("srvgg", FAMILIES["srvgg"]).eval())
    _, _, plain = build_stages(net, 1 << 20)
    _, _, stages = build_stages(net, 1 << 20, fast=True)
    assert len(stages) == len(plain) - 3  # the PReLUs, of which oneDNN knows none


class Allocations(TorchDispatchMode):
    """Counts the operators that return new memory of more than 16 KB."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {_memory(item) for item in tree_leaves((args, kwargs))}
        for item in tree_leaves(result):
            if _memory(item) not in given and item.numel() * item.element_size() > 16 << 10:
                self.found[function.overloadpacket.__name__] += 1
        return result


def _memory(value):
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return value.untyped_storage().data_ptr() if plain else None


def test_strips_after_the_first_ones_need_no_new_memory():
    """Except for what oneDNN and PixelShuffle return, which take no place for it, and for what waits to be added."""
    net = for_inference(small_srgan(scale=4, channels=16, blocks=3))
    strips, allocations = [], Allocations()

    def prepare(rows):
        strips.append(allocations.found.copy())
        allocations.found.clear()
        return rows

    from gankit.backends.cpu.streaming import Stream

    stream, image = (
        Stream(net, 200_000, winograd=True),
        torch.rand(1, 3, 600, 32).contiguous(memory_format=torch.channels_last),
    )
    with torch.inference_mode(), allocations:
        stream.run(image, prepare, lambda rows, row: None)
    assert len(strips) >= 6
    assert strips[1]["empty"] > 10
    for found in strips[4:]:  # the last strip, which also ends the image, is not among them
        assert set(found) == {"_convolution_pointwise", "pixel_shuffle", "clone"}, found
        assert found["_convolution_pointwise"] == 1
        assert found["clone"] <= 2


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.3), nn.PReLU(), nn.PReLU(4, 0.3)])
@pytest.mark.parametrize("fast", [False, True])
def test_activations_behind_a_shuffle(activation, fast):
    from gankit.backends.cpu.streaming import Stream

    torch.manual_seed(0)
    if isinstance(activation, nn.PReLU):
        nn.init.uniform_(activation.weight, -0.5, 0.5)
    layers = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.PixelShuffle(2), activation, nn.Conv2d(4, 3, 1))
    net, image = for_inference(layers.eval()), torch.randn(1, 16, 40, 9)
    canvas = torch.full((1, 3, 80, 18), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        Stream(net, 2000, winograd=fast).run(image, lambda rows: rows, write)
        torch.testing.assert_close(canvas, net(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 2, (0, 1), 3, "same"])
def test_modules_with_five_rows_and_columns(padding):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 12, 5, padding=padding), nn.InstanceNorm2d(12), nn.Conv2d(12, 3, 1))
    x = torch.randn(2, 16, 11, 14)
    with torch.inference_mode():
        wanted = net(x)
        made = with_winograd(net)
        assert isinstance(made[0], WinogradLayer) == (padding not in (3, "same"))
        torch.testing.assert_close(made(x), wanted, rtol=0, atol=1e-5)


GENERATORS = {
    "dcgan": {"widths": (64, 32, 16)},
    "cgan": {"body": "convolutional", "widths": (32, 16, 16), "conditional_norm": True},
}


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_of_images_from_latents(name, count):
    net, engine = engine_of(name, GENERATORS[name])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
    engine = backends.get("winograd").load(EngineSpec(net, facts(name, GENERATORS[name])))
    assert any(isinstance(module, WinogradLayer) for module in engine._module.modules())
    given = [torch.randn(count, facts(name, GENERATORS[name]).latent)]
    if facts(name, GENERATORS[name]).classes:
        given.append(torch.arange(count) % 10)
    eager = backends.get("eager").load(EngineSpec(net, facts(name, GENERATORS[name])))
    assert (engine.run(*given) - eager.run(*given)).abs().max() < 1e-5


@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU()])
@pytest.mark.parametrize("size", [(2, 2), (5, 9), (48, 40)])  # few pixels, and more
@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (nn.Conv2d, {"kernel_size": 4}),
        (nn.Conv2d, {"kernel_size": 3}),
        (nn.ConvTranspose2d, {"kernel_size": 4}),
        (nn.ConvTranspose2d, {"kernel_size": 3, "output_padding": 1}),
    ],
    ids=["halves", "halves-3", "doubles", "doubles-3"],
)
def test_steps_of_two_in_modules(kind, rest, size, activation):
    torch.manual_seed(0)
    layers = [kind(16, 16, stride=2, padding=1, **rest), *([activation] if activation else []), nn.Conv2d(16, 3, 1)]
    net, x = nn.Sequential(*layers).eval(), torch.randn(2, 16, *size)
    with torch.inference_mode():
        wanted, made = net(x), with_winograd(for_inference(net))
        assert [type(module) for module in made.children()] == [WinogradLayer, nn.Conv2d]
        torch.testing.assert_close(made(x), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (48, 40)])
def test_colours_do_not_fill_registers(size, kernel):
    torch.manual_seed(0)
    last = nn.ConvTranspose2d(16, 3, kernel, stride=2, padding=1, output_padding=4 - kernel)
    net, x = nn.Sequential(last, nn.Tanh()).eval(), torch.randn(2, 16, *size)
    with torch.inference_mode():
        wanted, made = net(x), with_winograd(for_inference(net))
        assert any(isinstance(module, WinogradLayer) for module in made.children()) == winograd_steps.suits(
            16, 3, doubles=True
        )
        torch.testing.assert_close(made(x), wanted, rtol=0, atol=1e-5)


class Branches(nn.Module):
    """Networks in which an activation must not become part of the convolution before it."""

    def __init__(self, join):
        super().__init__()
        self.conv, self.act, self.join = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), join

    def forward(self, x):
        return self.join(self, x)


def _also_without(net, x):
    y = net.conv(x)
    return y + net.act(y)


def _called_twice(net, x):
    return net.conv(net.act(net.conv(x)))


@pytest.mark.parametrize("join", [_also_without, _called_twice])
def test_activations_that_stay_apart(join):
    torch.manual_seed(0)
    net, x = Branches(join).eval(), torch.randn(1, 16, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(with_winograd(for_inference(net))(x), net(x), rtol=0, atol=5e-5)


class Doubled(nn.Conv2d):
    """A user's own convolution."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_convolutions_that_do_more_stay_as_they_are():
    torch.manual_seed(0)
    hooked = nn.Conv2d(16, 16, 4, stride=2, padding=1)
    hooked.register_forward_hook(lambda module, given, result: -result)
    net, x = nn.Sequential(Doubled(16, 16, 3, padding=1), hooked), torch.randn(1, 16, 48, 48)
    with torch.inference_mode():
        wanted = net(x)
        torch.testing.assert_close(with_winograd(net)(x), wanted, rtol=0, atol=0)


def test_a_network_without_such_convolutions_is_refused():
    with pytest.raises(BackendError, match="has no convolutions that gain; use --backend eager"):
        engine_of("gan", {})


def test_what_it_cannot_do(monkeypatch):
    with pytest.raises(BackendError, match="does not run layerwise; use --backend eager"):
        engine_of("edsr", FAMILIES["edsr"], layer_bytes=1 << 20)
    with pytest.raises(BackendError, match="does not run bf16 on cpu"):
        engine_of("edsr", FAMILIES["edsr"], precision="bf16")
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr("gankit.backends.winograd.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"llvmlite is not installed: pip install 'gankit\[cpu\]'"):
        engine_of("edsr", FAMILIES["edsr"])
