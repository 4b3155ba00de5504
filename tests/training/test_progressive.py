"""Images that grow: when, how they fade in, and that the networks which ship are the ones that grew."""

import pytest
import torch
from latent_making import bars, latent_stream, latent_system
from torch.nn import functional as F

from gankit.models import cgan, dcgan
from gankit.training.loop import Plan, fit
from gankit.training.systems.progressive import (
    GrowingDiscriminator,
    GrowingGenerator,
    Growth,
    growth,
    lowered,
)

KERNELS = [[4, 1, 0], [4, 2, 1], [4, 2, 1]]


def nets(kind):
    torch.manual_seed(0)
    if kind == "dcgan":
        return (
            dcgan.Generator(dcgan.Generator.Options(5, (8, 6), 1, KERNELS)),
            dcgan.Discriminator((8, 6), 1, KERNELS),
            [],
        )
    generator = cgan.Generator(cgan.Generator.Options(5, 3, 4, "convolutional", (8, 6, 5), (16, 16)))
    discriminator = cgan.Discriminator(3, "convolutional", (6, 8), (16, 16), projection=True)
    return generator, discriminator, [torch.tensor([0, 2])]


def test_when_what_grows():
    """Of 100 steps 80 grow: 20 at a quarter, 20 fading to half, 20 at half, 20 fading to the whole."""
    wanted = {
        0: Growth(2, 1.0),
        19: Growth(2, 1.0),
        20: Growth(1, 0.0),
        30: Growth(1, 0.5),
        40: Growth(1, 1.0),
        59: Growth(1, 1.0),
        60: Growth(0, 0.0),
        70: Growth(0, 0.5),
        80: Growth(0, 1.0),
        99: Growth(0, 1.0),
    }
    found = {index: growth(index, 100, 0.8) for index in wanted}
    assert {index: now.level for index, now in found.items()} == {index: now.level for index, now in wanted.items()}
    assert [now.part for now in found.values()] == pytest.approx([now.part for now in wanted.values()])
    assert growth(0, 100, 0) == Growth()


def test_real_images_are_means_of_squares():
    x = torch.rand(2, 1, 8, 8)
    assert lowered(x, Growth()) is x
    assert lowered(x, Growth(2))[0, 0, 0, 0].item() == pytest.approx(x[0, 0, :4, :4].mean().item())
    blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0)
    torch.testing.assert_close(lowered(x, Growth(0, 0.25)), 0.75 * blurred + 0.25 * x)


@pytest.mark.parametrize("kind", ["dcgan", "cgan"])
def test_sizes_and_the_end(kind):
    generator, discriminator, classes = nets(kind)
    growing, growing_discriminator = GrowingGenerator(generator).eval(), GrowingDiscriminator(discriminator).eval()
    z = torch.randn(2, 5)
    with torch.no_grad():
        for level, side in ((2, 4), (1, 8), (0, 16)):
            for part in (0.3, 1.0) if level < 2 else (1.0,):
                growing.now = growing_discriminator.now = Growth(level, part)
                made = growing(z, *classes)
                assert made.shape == (2, 1, side, side)
                assert made.abs().max() <= 1
                assert growing_discriminator(made, *classes).shape == (2, 1)
        whole = generator(z, *classes)
        assert torch.equal(made, whole)
        torch.testing.assert_close(growing_discriminator(made, *classes), discriminator(whole, *classes))


@pytest.mark.parametrize("kind", ["dcgan", "cgan"])
@pytest.mark.parametrize("level", [0, 1])
def test_a_new_size_fades_in(kind, level):
    """At first it is the size before it, enlarged; then on a straight line to its own."""
    generator, discriminator, classes = nets(kind)
    growing, growing_discriminator = GrowingGenerator(generator).eval(), GrowingDiscriminator(discriminator).eval()
    z, made = torch.randn(2, 5), {}
    with torch.no_grad():
        growing.now = Growth(level + 1)
        before = F.interpolate(growing(z, *classes), scale_factor=2.0)
        for part in (0.0, 0.5, 1.0):
            growing.now = Growth(level, part)
            made[part] = growing(z, *classes)
        torch.testing.assert_close(made[0.0], before)
        torch.testing.assert_close(made[0.5], (before + made[1.0]) / 2)
        growing_discriminator.now = Growth(level, 0.0)
        faded = growing_discriminator(made[0.5], *classes)
        growing_discriminator.now = Growth(level + 1)
        if kind == "dcgan":  # of the class's map the mean is taken as well
            torch.testing.assert_close(faded, growing_discriminator(F.avg_pool2d(made[0.5], 2), *classes))


def test_every_layer_that_ships_is_trained(tmp_path):
    images = bars(tmp_path, 16)
    system = latent_system("dcgan", images, 8, widths=(8, 6), progressive=0.5, discriminator_norm="spectral")
    before = {name: value.clone() for name, value in system.generator.named_parameters()}
    sizes = []
    fit(
        system,
        latent_stream(system, images, 8),
        Plan(8, tmp_path / "run", average=0, validate_every=1),
        lambda progress: sizes.append(system.samples(system.generator).shape[-1]),
    )
    assert set(sizes) == {16}  # enlarged, so that all sample grids have one size
    assert all(not torch.equal(value, before[name]) for name, value in system.generator.named_parameters())
    assert set(system.modules) == {"generator", "discriminator", "to_colours", "from_colours"}


def test_at_a_quarter_of_the_size_the_outer_layers_rest(tmp_path):
    images = bars(tmp_path, 16)
    system = latent_system("dcgan", images, 100, widths=(8, 6), progressive=1.0)
    before = {name: value.clone() for name, value in system.generator.named_parameters()}
    system.step(next(latent_stream(system, images, 8)(0)), 0)
    moved = {name for name, value in system.generator.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"main.0.weight", "main.1.weight", "main.1.bias"}


def test_a_resumed_run_is_validated_at_the_size_it_had(tmp_path):
    images = bars(tmp_path, 16)
    options = {"widths": (8, 6), "progressive": 1.0}
    system = latent_system("dcgan", images, 8, **options)
    stream = latent_stream(system, images, 8)
    fit(system, stream, Plan(3, tmp_path / "run"))
    kept = torch.load(tmp_path / "run/last.pt", weights_only=True)
    content = str(kept)
    assert "'growth': {'level': 1, 'part': 0.0}" in content
    other = latent_system("dcgan", images, 8, **options)
    other.extras["growth"].load_state_dict({"level": 1, "part": 0.5})
    assert other._grown.now == other._discriminator_net.now == Growth(1, 0.5)
