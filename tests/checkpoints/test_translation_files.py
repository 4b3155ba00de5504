"""Translation networks of others: recognised from the keys alone, and the same images."""

import functools
import logging

import pytest
import torch
from torch import nn

from gankit.checkpoints import open_model, recognise
from gankit.checkpoints.layouts import _LAYOUTS, animegan, cartoongan, junyanz_resnet, junyanz_unet
from gankit.checkpoints.native import save
from gankit.errors import CheckpointError
from gankit.models import build
from tests.checkpoints.published_translation import AnimeGAN, CartoonGAN, ResNet, UNet, shake

OLD_INSTANCE = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=True)


def image(height=24, width=32, channels=3, count=2):
    generator = torch.Generator().manual_seed(7)
    return torch.rand((count, channels, height, width), generator=generator) * 2 - 1


def opened(tmp_path, theirs):
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    return open_model(tmp_path / "latest_net_G.pth")


def same(one, other, atol=1e-5):
    assert one.std() > 0.05  # a constant image would prove nothing
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


RESNETS = {
    "plain": ({}, {"blocks": 2, "norm": "instance", "dropout": None, "antialias": False, "widths": None}),
    "six": ({"blocks": 6, "ngf": 4}, {"blocks": 6, "channels": 4}),
    "dropout": ({"dropout": 0.5}, {"dropout": 0.5}),
    "batch": ({"norm": nn.BatchNorm2d}, {"norm": "batch", "norm_at_test": "eval"}),
    "batch and dropout": ({"norm": nn.BatchNorm2d, "dropout": 0.5}, {"norm": "batch", "dropout": 0.5}),
    "channels": ({"ins": 1, "outs": 4}, {"in_channels": 1, "out_channels": 4}),
    "cut": ({"cut": (True, True)}, {"antialias": True, "antialias_up": True, "blocks": 2}),
    "cut down": ({"cut": (True, False), "dropout": 0.5}, {"antialias": True, "antialias_up": False, "dropout": 0.5}),
    "cut up": ({"cut": (False, True), "norm": nn.BatchNorm2d}, {"antialias": False, "antialias_up": True}),
    "compressed, full": ({"dropout": 0.0}, {"blocks": 2, "separable": False}),
    "compressed": (
        {"dropout": 0.0, "separable": True},
        {"separable": True, "dropout": 0.0, "widths": [8, 16, 32, 28, 24, 16, 8]},
    ),
}


@pytest.mark.parametrize("case", RESNETS)
def test_resnet(tmp_path, case):
    arguments, expected = RESNETS[case]
    theirs = shake(ResNet(**arguments)).eval()
    loaded = opened(tmp_path, theirs)
    options = dict(loaded.facts.options)
    assert (loaded.facts.name, {name: options[name] for name in expected}) == ("cyclegan", expected)
    assert loaded.facts.tileable is False
    assert (loaded.facts.channels, loaded.facts.out_channels) == (arguments.get("ins", 3), arguments.get("outs", 3))
    x = image(channels=arguments.get("ins", 3))
    with torch.no_grad():
        same(loaded.generator(x), theirs(x))


def test_stale_statistics_of_old_instance_norms_are_dropped_with_one_notice(tmp_path, caplog):
    theirs = shake(ResNet(norm=OLD_INSTANCE)).train()  # in training it looks at the image, as it should
    assert "model.2.running_mean" in theirs.state_dict()
    with caplog.at_level(logging.WARNING):
        loaded = opened(tmp_path, theirs)
    assert [record.getMessage().startswith("dropped 27 running statistics") for record in caplog.records] == [True]
    assert loaded.facts.options["norm"] == "instance"
    x = image()
    with torch.no_grad():
        same(loaded.generator(x), theirs(x))
        assert (theirs.eval()(x) - loaded.generator(x)).abs().max() > 0.05


def test_no_notice_without_stale_statistics(tmp_path, caplog):
    opened(tmp_path, ResNet(norm=nn.BatchNorm2d))
    opened(tmp_path, UNet())
    assert not caplog.records


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d, OLD_INSTANCE])
@pytest.mark.parametrize(("downs", "channels"), [(5, 3), (7, 1)])
def test_unet(tmp_path, norm, downs, channels):
    theirs = shake(UNet(downs, norm=norm, ins=channels, outs=4 - channels))
    loaded = opened(tmp_path, theirs)
    options = loaded.facts.options
    assert (loaded.facts.name, options["downs"], options["channels"]) == ("pix2pix", downs, 4)
    assert options["norm"] == ("batch" if norm is nn.BatchNorm2d else "instance")
    assert (loaded.facts.channels, loaded.facts.out_channels) == (channels, 4 - channels)
    assert (loaded.facts.multiple, loaded.facts.tileable) == (2**downs, False)
    x = image(2**downs, 2 ** (downs + 1), channels)
    theirs.train()  # as the paper runs it
    with torch.no_grad():
        result = loaded.generator(x)
        for index in (0, 1):  # one image of a batch does not change another
            same(result[index : index + 1], theirs(x[index : index + 1]))
    if norm is nn.BatchNorm2d:
        assert (result - theirs.eval()(x)).abs().max() > 0.05


def test_unet_dropout_leaves_no_trace(tmp_path):
    theirs = shake(UNet(6, dropout=True))
    assert theirs.state_dict().keys() == UNet(6).state_dict().keys()
    loaded = opened(tmp_path, theirs)
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    x = image(64, 128, count=1)
    with torch.no_grad():
        same(loaded.generator(x), theirs(x))


def test_unet_on_running_statistics():
    theirs = shake(UNet()).eval()
    ours = build("pix2pix", {"channels": 4, "downs": 5, "norm_at_test": "eval"}).eval()
    ours.load_state_dict(theirs.state_dict())
    x = image(32, 64)
    with torch.no_grad():
        same(ours(x), theirs(x))


def test_animegan(tmp_path):
    theirs = shake(AnimeGAN()).eval()
    loaded = opened(tmp_path, theirs)
    assert (loaded.facts.name, loaded.facts.multiple, loaded.facts.tileable) == ("animegan", 4, False)
    assert loaded.facts.options["align_corners"] is True
    x = image()
    unaligned = build("animegan", {"channels": 4, "align_corners": False}).eval()
    unaligned.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        same(loaded.generator(x), theirs(x))
        same(unaligned(x), theirs(x, align_corners=False))
        assert (unaligned(x) - loaded.generator(x)).abs().max() > 0.01


def test_cartoongan(tmp_path):
    theirs = shake(CartoonGAN()).eval()
    loaded = opened(tmp_path, theirs)
    options = loaded.facts.options
    assert (loaded.facts.name, options["blocks"], options["channel_order"]) == ("cartoongan", 8, "bgr")
    x = image()
    with torch.no_grad():
        same(loaded.generator(x), theirs(x))


def test_our_own_files_come_back(tmp_path):
    theirs = shake(ResNet(dropout=0.0, separable=True)).eval()
    loaded = opened(tmp_path, theirs)
    path = tmp_path / "own.safetensors"
    save(path, loaded.generator.state_dict(), "cyclegan", loaded.facts.options, dtype=torch.float32)
    again = open_model(path)
    assert again.facts == loaded.facts
    x = image()
    with torch.no_grad():
        same(again.generator(x), loaded.generator(x), atol=0)


@pytest.mark.parametrize("net", [lambda: ResNet(), lambda: UNet(), lambda: AnimeGAN(), lambda: CartoonGAN()])
def test_incomplete_files_name_what_is_missing(tmp_path, net):
    state = net().state_dict()
    del state[[name for name, value in state.items() if value.ndim == 4][3]]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"does not fit '\w+': '\S+' missing: give"):
        open_model(tmp_path / "x.pth")


def test_super_resolution_networks_are_not_taken_for_translation():
    conv = torch.zeros(64, 3, 3, 3)
    old_rrdb = {"model.0.weight": conv, "model.1.sub.0.RDB1.conv1.0.weight": conv, "model.3.weight": conv}
    kair = {"model.0.weight": conv, "model.1.sub.0.res.0.weight": conv, "model.1.sub.16.weight": conv}
    eriklindernoren = {"conv1.0.weight": torch.zeros(64, 3, 9, 9), "res_blocks.0.conv_block.1.weight": torch.zeros(64)}
    for state in (old_rrdb, kair, eriklindernoren):
        for layout in (animegan, cartoongan, junyanz_resnet, junyanz_unet):
            assert layout.match(state) is None


@pytest.mark.parametrize("case", RESNETS)
def test_no_other_layout_takes_a_resnet(case):
    state = ResNet(**RESNETS[case][0]).state_dict()
    assert sum(layout.match(state) is not None for layout in _LAYOUTS) == 1


@pytest.mark.parametrize("net", [UNet, AnimeGAN, CartoonGAN])
def test_no_other_layout_takes_the_others(net):
    state = net().state_dict()
    assert sum(layout.match(state) is not None for layout in _LAYOUTS) == 1


@pytest.mark.parametrize(
    ("net", "tensors", "parameters"),
    [
        (lambda: ResNet(64, 9), 48, 11_378_179),
        (lambda: ResNet(64, 6), 36, 7_837_699),
        (lambda: UNet(8, 64), 82, 54_413_955),
        (lambda: UNet(7, 64), 70, 41_828_995),
        (lambda: AnimeGAN(32), 77, 2_143_552),
    ],
)
def test_published_sizes(net, tensors, parameters):
    with torch.device("meta"):
        theirs = net()
        state = theirs.state_dict()
        found = recognise(state)
        ours = build(found.model, found.options)
    assert len(state) == tensors
    assert sum(item.numel() for item in theirs.parameters()) == parameters
    assert sum(item.numel() for item in ours.parameters()) == parameters
