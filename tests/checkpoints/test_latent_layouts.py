"""Checkpoints of models that generate: the published networks, built here again, and every option read from keys."""

import random
from itertools import pairwise

import pytest
import torch
from torch import nn

from gankit import models
from gankit.checkpoints import open_model, recognise, save
from gankit.errors import CheckpointError

Z = torch.Generator()


def latents(n, size):
    return torch.randn(n, size, generator=Z.manual_seed(5))


def shake(module):
    """Weights and statistics of its own in every layer, as after training."""
    torch.manual_seed(7)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) if "running_var" in name else 0.05 * torch.randn_like(value))
    return module.eval()


def opened(tmp_path, module, wrap=lambda state: state):
    torch.save(wrap(module.state_dict()), tmp_path / "netG.pth")
    return open_model(tmp_path / "netG.pth")


def same(loaded, module, *inputs):
    with torch.no_grad():
        mine, theirs = loaded.generator(*inputs), module(*inputs)
    torch.testing.assert_close(mine, theirs.reshape(mine.shape), atol=1e-6, rtol=0)


class Dcgan(nn.Module):
    """pytorch/examples, dcgan/main.py; ``last`` and ``first`` as others changed it."""

    def __init__(self, nz=20, ngf=4, nc=3, steps=3, first=(4, 1, 0), last=(4, 2, 1)):
        super().__init__()
        layers, width = [], ngf * 2**steps
        layers += [nn.ConvTranspose2d(nz, width, *first, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
        for _ in range(steps):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width // 2),
                nn.ReLU(True),
            ]
            width //= 2
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(width, nc, *last, bias=False), nn.Tanh())

    def forward(self, z):
        return self.main(z.view(*z.shape, 1, 1))


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({}, 64),
        ({"steps": 2}, 32),
        ({"steps": 1, "first": (7, 1, 0), "nc": 1}, 28),
        ({"steps": 3, "last": (1, 1, 2), "nc": 1}, 28),  # csinva's for MNIST
        ({"steps": 3, "last": (1, 1, 0)}, 32),  # csinva's for CIFAR
    ],
)
def test_pytorch_dcgan(tmp_path, options, side):
    theirs = shake(Dcgan(**options))
    loaded = opened(tmp_path, theirs, lambda state: {f"module.{name}": value for name, value in state.items()})
    assert loaded.facts.name == "dcgan"
    assert loaded.facts.output_size == (side, side)
    same(loaded, theirs, latents(3, 20))


def test_the_published_dcgan_has_25_tensors():
    state = Dcgan(100, 64).state_dict()
    assert len(state) == 4 * 6 + 1  # the count of the published file, with the counters of its BatchNorms
    assert models.build("dcgan").state_dict().keys() == state.keys()


def test_dcgan_discriminator_is_not_taken_for_a_generator():
    net = nn.Module()
    net.main = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 4, 2, 1), nn.BatchNorm2d(8))
    with pytest.raises(CheckpointError, match="unknown architecture"):
        recognise(net.state_dict())


def test_sequential(tmp_path):
    theirs = shake(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 192), nn.Tanh()))
    loaded = opened(tmp_path, theirs)
    assert (loaded.facts.channels, loaded.facts.output_size, loaded.facts.latent) == (3, (8, 8), 6)
    same(loaded, theirs, latents(3, 6))


@pytest.mark.parametrize("widths", [(784, 256, 256, 1), (784, 100, 100), (64, 50, 130)])
def test_other_dense_networks_are_no_generators(widths):
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    with pytest.raises(CheckpointError, match="unknown architecture"):
        recognise(nn.Sequential(*layers).state_dict())


class Dense(nn.Module):
    """eriklindernoren/PyTorch-GAN, gan.py and, with classes, cgan.py."""

    def __init__(self, latent=11, classes=0, widths=(8, 16, 12), pixels=(1, 10, 10)):
        super().__init__()
        self.pixels = pixels
        if classes:
            self.label_emb = nn.Embedding(classes, classes)
        layers, before = [], latent + classes
        for index, width in enumerate(widths):
            norm = [nn.BatchNorm1d(width, 0.8)] if index else []
            layers += [nn.Linear(before, width), *norm, nn.LeakyReLU(0.2, inplace=True)]
            before = width
        self.model = nn.Sequential(*layers, nn.Linear(before, pixels[0] * pixels[1] * pixels[2]), nn.Tanh())

    def forward(self, z, labels=None):
        z = z if labels is None else torch.cat((self.label_emb(labels), z), -1)
        return self.model(z).view(len(z), *self.pixels)


def test_pytorch_gan_dense(tmp_path):
    theirs = shake(Dense())
    loaded = opened(tmp_path, theirs)
    assert (loaded.facts.name, loaded.facts.options["norm"], loaded.facts.latent) == ("gan", True, 11)
    same(loaded, theirs, latents(4, 11))


def test_pytorch_gan_conditional(tmp_path):
    theirs = shake(Dense(classes=5, pixels=(3, 8, 8)))
    loaded = opened(tmp_path, theirs)
    assert (loaded.facts.name, loaded.facts.classes, loaded.facts.latent) == ("cgan", 5, 11)
    same(loaded, theirs, latents(5, 11), torch.tensor([4, 0, 1, 2, 2]))


class Cwgan(nn.Module):
    """HayatoHongo/MNIST-Conditional-WGAN-gp, after PyTorch-GAN's dcgan.py."""

    def __init__(self, latent=10, classes=10, width=128, side=28):
        super().__init__()
        self.label_emb = nn.Embedding(classes, classes)
        self.first = (width, side // 4, side // 4)
        self.l1 = nn.Sequential(nn.Linear(latent + classes, width * (side // 4) ** 2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, stride=1, padding=1),
            nn.BatchNorm2d(width, 0.8),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width // 2, 3, stride=1, padding=1),
            nn.BatchNorm2d(width // 2, 0.8),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, 1, 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, z, labels):
        return self.conv_blocks(self.l1(torch.cat((z, self.label_emb(labels)), -1)).view(len(z), *self.first))


def test_cwgan_gp(tmp_path):
    theirs = shake(Cwgan(latent=6, classes=3, width=8, side=16))
    loaded = opened(tmp_path, theirs)
    assert (loaded.facts.classes, loaded.facts.latent, loaded.facts.output_size) == (3, 6, (16, 16))
    same(loaded, theirs, latents(3, 6), torch.tensor([2, 0, 1]))


def test_the_real_cwgan_gp(data):
    path = data / "checkpoints" / "mnist_cwgan_gp.pth"
    theirs = Cwgan()
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    same(open_model(path), theirs.eval(), latents(10, 10), torch.arange(10))


def test_the_real_gan(data):
    path = data / "checkpoints" / "mnist_gan_mlp.ckpt"
    relu = nn.ReLU()
    theirs = nn.Sequential(nn.Linear(64, 256), relu, nn.Linear(256, 256), relu, nn.Linear(256, 784), nn.Tanh())
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    loaded = open_model(path)
    assert loaded.facts.value_range == (-1, 1)
    same(loaded, theirs, latents(10, 64))


def test_the_real_vae(data):
    path = data / "checkpoints" / "mnist_vae.pth"
    theirs = nn.ModuleDict(
        {
            "fc1": nn.Linear(784, 400),
            "fc21": nn.Linear(400, 20),
            "fc22": nn.Linear(400, 20),
            "fc3": nn.Linear(20, 400),
            "fc4": nn.Linear(400, 784),
        }
    )
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    loaded = open_model(path)
    same(loaded, lambda z: theirs["fc4"](theirs["fc3"](z).relu()).sigmoid(), latents(10, 20))
    x = torch.rand(4, 1, 28, 28, generator=Z.manual_seed(1))
    features = theirs["fc1"](x.flatten(1)).relu()
    for mine, layer in zip(loaded.generator.encode(x), ("fc21", "fc22"), strict=True):
        torch.testing.assert_close(mine, theirs[layer](features).detach(), atol=1e-5, rtol=0)


def chance(seed):
    """A model of each kind with sizes by chance, and its options."""
    pick = random.Random(seed)

    def widths(fewest=1):
        return [pick.randint(2, 40) for _ in range(pick.randint(fewest, 4))]

    side, channels, latent = pick.randint(7, 40), pick.choice([1, 3]), pick.randint(1, 40)
    square = {"latent": latent, "size": [side, side], "channels": channels}
    classes = {"classes": pick.randint(2, 12), "embedding": pick.randint(1, 9), "norm": pick.random() < 0.5}
    stages = widths()
    small = [pick.randint(2, 7) * 2 ** (len(stages) - 1)] * 2
    norm = len(stages) > 1 and pick.random() < 0.5  # the first of the layers has none
    yield "gan", {**square, "hidden": stages, "norm": norm}
    yield "cgan", {**square, **classes, "body": "dense", "widths": widths(2)}
    yield "cgan", {**square, **classes, "body": "convolutional", "widths": stages, "size": small}
    yield "vae", {**square, "hidden": widths()}
    kernels = [[pick.randint(3, 7), 1, 0], *[[4, 2, 1]] * len(stages)]
    yield "dcgan", {"latent": latent, "widths": stages, "channels": channels, "kernels": kernels}


@pytest.mark.parametrize("seed", range(20))
def test_every_option_is_read_from_the_keys(seed):
    for name, options in chance(seed):
        found = recognise(models.build(name, options).state_dict())
        assert found.model == name
        assert {key: found.options[key] for key in options} == options


@pytest.mark.parametrize("index", range(5))
def test_round_trip(tmp_path, index):
    """Saved with a header, opened again: the same options, the same images."""
    name, options = list(chance(3))[index]
    own = {"gan": {"output": "tanh"}, "cgan": {"eps": 0.25, "class_first": True}, "vae": {"activation": "leaky_relu"}}
    options = {**options, **own.get(name, {})}
    module = shake(models.build(name, options))
    facts = models.facts(name, options)
    save(tmp_path / "a.safetensors", module.state_dict(), name, facts.options, dtype=torch.float32)
    loaded = open_model(tmp_path / "a.safetensors")
    assert loaded.facts == facts
    classes = [torch.arange(2)] if facts.classes else []
    same(loaded, module, latents(2, facts.latent), *classes)


def test_a_vae_without_its_encoder_is_reported_what_is_missing(tmp_path):
    state = models.build("vae").state_dict()
    del state["mean.bias"]
    torch.save(state, tmp_path / "v.pth")
    with pytest.raises(CheckpointError, match=r"does not fit 'vae': 'mean\.bias' missing"):
        open_model(tmp_path / "v.pth")
