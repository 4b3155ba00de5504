"""Options given for what no key of a weights file tells."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gankit import models
from gankit.checkpoints import open_model
from gankit.errors import CheckpointError
from tests.checkpoints.published import MEAN, STD, unlike_new
from tests.checkpoints.test_srgan_layouts import Erik, imagenet
from tests.networks import small_srgan

IMAGE = torch.rand(1, 3, 9, 13, generator=torch.Generator().manual_seed(1))


class Compact(nn.Module):
    """Real-ESRGAN's SRVGGNetCompact, with an activation that has no weights."""

    def __init__(self, act, width=8, convs=3):
        super().__init__()
        layers = [nn.Conv2d(3, width, 3, padding=1), act()]
        for _ in range(convs):
            layers += [nn.Conv2d(width, width, 3, padding=1), act()]
        self.body = nn.ModuleList([*layers, nn.Conv2d(width, 12, 3, padding=1)])

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, 2) + F.interpolate(x, scale_factor=2, mode="nearest")


def leaky():
    return nn.LeakyReLU(0.1)


@pytest.mark.parametrize(("act", "word"), [(nn.ReLU, "relu"), (leaky, "leaky")])
def test_an_activation_without_weights(tmp_path, act, word):
    theirs = unlike_new(Compact(act))
    torch.save(theirs.state_dict(), tmp_path / "n.pth")
    loaded = open_model(tmp_path / "n.pth", options={"activation": word})
    assert loaded.facts.options["activation"] == word
    torch.testing.assert_close(loaded.generator(IMAGE), theirs(IMAGE), atol=1e-5, rtol=0)
    other = open_model(tmp_path / "n.pth", options={"activation": "leaky" if word == "relu" else "relu"})
    assert (other.generator(IMAGE) - theirs(IMAGE)).abs().max() > 0.01  # so that the option matters


@pytest.fixture
def erik(tmp_path):
    """PyTorch-GAN's SRGAN after somebody took the usual BatchNorm."""
    theirs = unlike_new(Erik(nn.PReLU, 1e-5))
    torch.save(theirs.state_dict(), tmp_path / "n.pth")
    return tmp_path / "n.pth", theirs


def test_the_number_in_a_norm(erik):
    path, theirs = erik
    wanted = theirs(imagenet(IMAGE)) * STD + MEAN
    reported, usual = open_model(path, options={"bn_eps": 1e-5}), open_model(path)
    torch.testing.assert_close(reported.generator(IMAGE), wanted, atol=1e-5, rtol=0)
    assert (usual.generator(IMAGE) - wanted).abs().max() > 0.01
    assert usual.facts.options != reported.facts.options  # or a choice of the engine would be cached for both


def test_values_at_the_ends(erik):
    """Their constants are weights of the generator, and follow the options."""
    path, theirs = erik
    loaded = open_model(path, options={"bn_eps": 1e-5, "values_in": "unit", "output": "tanh"})
    torch.testing.assert_close(loaded.generator(IMAGE), (theirs(IMAGE) + 1) / 2, atol=1e-5, rtol=0)
    plain = small_srgan()
    torch.save(plain.state_dict(), path)
    loaded = open_model(path, options={"values_in": "signed"})
    torch.testing.assert_close(loaded.generator(IMAGE), plain(IMAGE * 2 - 1), atol=1e-5, rtol=0)


def test_a_whole_number_for_any_number(erik):
    assert open_model(erik[0], options={"bn_eps": 1}).facts.options["bn_eps"] == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "leaky"}, "'srgan' has no option 'activation': the options of 'srgan' are scale, channels"),
        (
            {"channel": 8},
            r"no option 'channel': did you mean 'channels' \(a whole number from 1 to 4096\)\?",
        ),
        ({"name": "esrgan"}, "'srgan' has no option 'name'"),
        ({"bn_eps": -1.0}, r"bn_eps must be a number above 0 and at most 1, not -1.0 \('gankit models srgan' lists"),
        ({"bn_eps": "small"}, "bn_eps must be .*, not 'small'"),
        ({"bn_eps": 10**400}, "bn_eps must be a number above 0 and at most 1, not 1000000*…"),
        ({"neck": ["norm"]}, r"neck must be 'norm' or 'prelu', not \['norm'\]"),
        ({"scale": 2}, "does not fit 'srgan'"),
        ({"norm_at_test": "eval"}, "no option 'norm_at_test'"),
    ],
)
def test_what_the_model_has_not(tmp_path, options, words):
    torch.save(small_srgan().state_dict(), tmp_path / "n.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        open_model(tmp_path / "n.pth", options=options)
    assert "n.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_answers(tmp_path):
    net = models.build("pix2pix", {"channels": 4, "norm": "batch", "norm_at_test": "eval"}).eval()
    torch.save(net.state_dict(), tmp_path / "n.pth")
    options = {"norm_at_test": "eval"}
    assert open_model(tmp_path / "n.pth", options=options).facts.options["norm_at_test"] == "eval"
    assert open_model(tmp_path / "n.pth", options=options, norm="eval").facts.options["norm_at_test"] == "eval"
    with pytest.raises(CheckpointError, match="contradict each other"):
        open_model(tmp_path / "n.pth", options=options, norm="instance")


def test_of_weights_that_ship():
    reported = open_model("srgan", options={"bn_eps": 0.5})
    assert reported.facts.options["bn_eps"] == 0.5
    assert (reported.generator(IMAGE) - open_model("srgan").generator(IMAGE)).abs().max() > 1e-3
