"""The translation networks and their discriminators: sizes, options, receptive fields."""

import pytest
import torch
from torch import nn

from gankit import models
from gankit.models.animegan import AnimeDiscriminator
from gankit.models.cartoongan import CartoonDiscriminator
from gankit.models.patchgan import PatchGAN, PixelGAN

NAMES = ("cyclegan", "pix2pix", "animegan", "cartoongan")


@pytest.mark.parametrize(
    ("name", "parameters"), [("cyclegan", 11_378_179), ("pix2pix", 54_413_955), ("animegan", 2_143_552)]
)
def test_the_default_is_the_published_network(name, parameters):
    with torch.device("meta"):
        net = models.build(name)
    assert sum(item.numel() for item in net.parameters()) == parameters


@pytest.mark.parametrize("name", NAMES)
def test_facts_build_the_same_again(name):
    facts = models.facts(name)
    assert models.facts(name, facts.options) == facts
    assert (facts.task, facts.scale, facts.value_range, facts.tileable) == ("translate", 1, (-1, 1), False)
    with torch.device("meta"):
        one, other = models.build(name), models.build(name, facts.options)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "options", "sides"),
    [
        ("cyclegan", {"channels": 4, "blocks": 1}, (8, 12)),
        ("cyclegan", {"channels": 4, "blocks": 1, "antialias": True, "antialias_up": True}, (8, 12)),
        ("cyclegan", {"channels": 4, "blocks": 1, "in_channels": 1, "out_channels": 2}, (8, 12)),
        ("pix2pix", {"channels": 4, "downs": 2}, (4, 8)),
        ("pix2pix", {"channels": 2, "downs": 9}, (512, 512)),
        ("animegan", {"channels": 4, "blocks": 2}, (8, 12)),
        ("cartoongan", {"channels": 4, "blocks": 1}, (8, 12)),
    ],
)
def test_the_size_stays(name, options, sides):
    facts = models.facts(name, options)
    net = models.build(name, options).eval()
    assert all(side % facts.multiple == 0 for side in sides)
    with torch.no_grad():
        result = net(torch.rand(2, facts.channels, *sides))
    assert result.shape == (2, facts.out_channels, *sides)
    assert result.abs().max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_size_works_and_the_next_below_does_not(name):
    options = {"channels": 2, "downs": 3} if name == "pix2pix" else {"channels": 2, "blocks": 1}
    known, net = models.facts(name, options), models.build(name, options).eval()
    side = known.minimum
    assert net(torch.rand(1, 3, side, side)).shape == (1, 3, side, side)
    below = (side - 1) // known.multiple * known.multiple
    if below:
        with pytest.raises((RuntimeError, ValueError)):
            net(torch.rand(1, 3, below, below))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cyclegan", {"channels": 0}),
        ("cyclegan", {"blocks": 1025}),
        ("cyclegan", {"norm": "layer"}),
        ("cyclegan", {"norm_at_test": True}),
        ("cyclegan", {"dropout": 1.5}),
        ("cyclegan", {"antialias": 1}),
        ("cyclegan", {"separable": True, "norm": "batch"}),
        ("cyclegan", {"widths": [1, 2], "blocks": 1}),
        ("pix2pix", {"downs": 1}),
        ("pix2pix", {"downs": 17}),
        ("pix2pix", {"dropout": 0.5}),
        ("animegan", {"align_corners": "yes"}),
        ("cartoongan", {"channel_order": "brg"}),
        ("cartoongan", {"eps": 0}),
    ],
)
def test_options_that_no_network_has_are_refused(name, options):
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} "):
        models.facts(name, options)


@pytest.mark.parametrize("at_test", ["instance", "eval"])
def test_batch_norm_at_test_time_is_an_option(at_test):
    for name in ("pix2pix", "cyclegan"):
        options = {"norm": "batch", "norm_at_test": at_test, "channels": 4}
        assert models.facts(name, options).tileable is False, "its receptive field is hundreds of pixels"
        net = models.build(name, options)
        kind = nn.BatchNorm2d if at_test == "eval" else nn.InstanceNorm2d
        norms = [module for module in net.modules() if isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d))]
        assert norms
        assert all(type(module) is kind and module.affine for module in norms)


def test_the_unets_bottleneck_has_no_norm():
    net = models.build("pix2pix", {"channels": 2})
    inner = net.model
    while any(hasattr(child, "model") for child in inner.model):
        inner = next(child for child in inner.model if hasattr(child, "model"))
    kinds = [type(layer) for layer in inner.model]
    assert kinds == [nn.LeakyReLU, nn.Conv2d, nn.ReLU, nn.ConvTranspose2d, nn.InstanceNorm2d]


def test_unets_dropout_is_in_the_levels_of_full_width():
    for downs in (5, 7, 8):
        net = models.build("pix2pix", {"channels": 2, "downs": downs})
        assert sum(isinstance(module, nn.Dropout) for module in net.modules()) == downs - 5
    assert not any(
        isinstance(m, nn.Dropout) for m in models.build("pix2pix", {"channels": 2, "dropout": False}).modules()
    )


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70), (5, 286)])
def test_patchgan_sees_the_papers_patches(layers, side):
    net = PatchGAN(channels=2, layers=layers, norm="none")
    assert net.receptive_field == side
    x = torch.rand(1, 3, 2 * side + 20, side + 10, requires_grad=True)
    logits = net(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == side


def test_patchgan_has_the_published_layers():
    # 70×70 with BatchNorm on joined images, as pix2pix has it: 2 768 705 parameters in the authors' code
    net = PatchGAN(in_channels=6, norm="batch")
    assert sum(item.numel() for item in net.parameters()) == 2_768_705
    assert net(torch.rand(1, 6, 256, 256)).shape == (1, 1, 30, 30)
    convs = {name: tuple(value.shape) for name, value in net.state_dict().items() if value.ndim == 4}
    assert convs == {
        "model.0.weight": (64, 6, 4, 4),
        "model.2.weight": (128, 64, 4, 4),
        "model.5.weight": (256, 128, 4, 4),
        "model.8.weight": (512, 256, 4, 4),
        "model.11.weight": (1, 512, 4, 4),
    }


def test_patchgan_of_cut_blurs():
    net = PatchGAN(channels=4, antialias=True)
    assert "model.2.filt" in net.state_dict()
    assert net(torch.rand(1, 3, 64, 64)).shape[1] == 1


def test_pixelgan_sees_single_pixels():
    net = PixelGAN(channels=4, norm="none")
    x = torch.rand(1, 3, 9, 7, requires_grad=True)
    net(x)[0, 0, 4, 3].backward()
    assert x.grad.abs().sum(1).nonzero().tolist() == [[0, 4, 3]]


def test_cartoon_discriminator():
    assert CartoonDiscriminator(channels=4)(torch.rand(2, 3, 64, 32)).shape == (2, 1, 16, 8)
    anime = AnimeDiscriminator(channels=4).train()
    for _ in range(30):  # the power iteration settles
        assert anime(torch.rand(2, 3, 64, 32)).shape == (2, 1, 16, 8)
    convolutions = [module for module in anime.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [item.out_channels for item in convolutions] == [4, 8, 16, 16, 32, 32, 1]
    for item in convolutions:
        assert torch.linalg.matrix_norm(item.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
