"""gan, cgan, dcgan, vae: shapes, value ranges, published sizes, discriminators, options."""

import pytest
import torch
from torch import nn

from gankit import models
from gankit.models import cgan, dcgan, gan, vae

OPTIONS = {
    "gan": [
        {},
        {"hidden": [8], "size": [12, 20], "channels": 3, "output": "tanh"},
        {"hidden": [8, 9, 10], "norm": True},
    ],
    "cgan": [
        {},
        {"classes": 3, "embedding": 5, "widths": [8, 9]},
        {"body": "convolutional", "widths": [8, 6, 4], "size": [12, 20], "channels": 3, "norm": False},
        {"classes": 3, "body": "convolutional", "widths": [8, 6], "conditional_norm": True},
    ],
    "dcgan": [{"widths": [16, 8]}, {"widths": [9, 5], "kernels": [[7, 1, 0], [4, 2, 1], [4, 2, 1]], "channels": 1}],
    "vae": [{}, {"hidden": [30, 20], "latent": 3, "size": [8, 12], "channels": 3, "output": "tanh"}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def images(name, options, n=3):
    torch.manual_seed(0)
    net = models.build(name, options).eval()
    facts = models.facts(name, options)
    classes = [torch.arange(n) % facts.classes] if facts.classes else []
    with torch.no_grad():
        return net(10 * torch.randn(n, facts.latent), *classes), facts


@pytest.mark.parametrize(("name", "options"), CASES)
def test_images_are_what_the_facts_say(name, options):
    result, facts = images(name, options)
    assert facts.task == "generate"
    assert result.shape == (3, facts.channels, *facts.output_size)
    low, high = facts.value_range
    assert low <= result.min() < result.max() <= high
    assert models.facts(name, facts.options) == facts


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (7, 5)])
def test_stages_double_the_same_way_in_training(size):
    """One transposed convolution in place of repetition and a convolution, with the same gradients."""
    torch.manual_seed(0)
    stage, x = cgan.Stage(5, 7, nn.Identity(), "leaky_relu").double(), torch.randn(2, 5, *size, dtype=torch.float64)
    made = {}
    for mode in (True, False):
        inputs = x.clone().requires_grad_()
        result = stage.train(mode)(inputs, torch.zeros(2, dtype=torch.int64))
        made[mode] = result, *torch.autograd.grad(result.square().sum(), [inputs, *stage.parameters()])
    assert made[True][0].shape == (2, 7, 2 * size[0], 2 * size[1])
    for trained, evaluated in zip(made[True], made[False], strict=True):
        torch.testing.assert_close(trained, evaluated, rtol=0, atol=1e-10)


def test_conditional_norm():
    """BatchNorm without a scale and a shift of its own, then those of each sample's class."""
    torch.manual_seed(0)
    x, classes = torch.randn(6, 4, 3, 5), torch.tensor([2, 0, 1, 1, 2, 0])
    norm, plain = cgan.ConditionalNorm(4, 3, 1e-3), nn.BatchNorm2d(4, 1e-3, affine=False)
    torch.testing.assert_close(norm(x, classes), plain(x))
    torch.nn.init.normal_(norm.scale.weight)
    torch.nn.init.normal_(norm.shift.weight)
    expected = plain(x)
    for index, class_ in enumerate(classes.tolist()):
        for channel in range(4):
            expected[index, channel] *= norm.scale.weight[class_, channel].item()
            expected[index, channel] += norm.shift.weight[class_, channel].item()
    torch.testing.assert_close(norm(x, classes), expected)


@pytest.mark.parametrize("options", [{"body": "dense"}, {"body": "convolutional", "widths": [8, 8], "norm": False}])
def test_conditional_norm_needs_norms_of_maps(options):
    with pytest.raises(ValueError, match="conditional_norm needs norm and a convolutional body"):
        models.facts("cgan", {**options, "conditional_norm": True})


def test_dcgan_has_the_published_size():
    # pytorch/examples: 3 576 704 parameters in the generator, 64×64 images
    assert count(dcgan.Generator()) == 3_576_704
    assert models.facts("dcgan").output_size == (64, 64)
    assert count(dcgan.Discriminator()) == 2_765_568


def test_vae_has_the_published_size():
    # pytorch/examples: 784-400-20 and back
    assert count(vae.VAE()) == 784 * 400 + 400 + 2 * (400 * 20 + 20) + 20 * 400 + 400 + 400 * 784 + 784


@pytest.mark.parametrize(
    ("kernels", "side"),
    [
        ([[4, 1, 0], [4, 2, 1], [4, 2, 1], [4, 2, 1]], 32),
        ([[7, 1, 0], [4, 2, 1], [4, 2, 1]], 28),
        ([[4, 1, 0], [3, 2, 1], [4, 2, 1], [4, 2, 1]], 28),
        ([[4, 1, 0], [4, 2, 1], [4, 2, 1], [4, 2, 1], [1, 1, 2]], 28),
        ([[3, 1, 0], [4, 2, 1]], 6),
    ],
)
def test_dcgan_makes_the_size_of_its_kernels_and_its_discriminator_takes_it(kernels, side):
    widths = [8] * (len(kernels) - 1)
    result, facts = images("dcgan", {"widths": widths, "kernels": kernels, "channels": 1})
    assert facts.output_size == (side, side) == tuple(result.shape[2:])
    for norm in dcgan.NORMS:
        assert dcgan.Discriminator(widths, 1, kernels, norm)(result).shape == (3, 1)


def test_dcgan_starts_from_the_papers_weights():
    torch.manual_seed(0)
    for net in (dcgan.Generator(), dcgan.Discriminator()):
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
                assert module.bias is None
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.01)


def test_dcgan_discriminator_norms():
    def norms(kind):
        return sum(isinstance(m, nn.BatchNorm2d) for m in dcgan.Discriminator(norm=kind).modules())

    assert (norms("batch"), norms("spectral"), norms("none")) == (3, 0, 0)
    net = dcgan.Discriminator([8, 4], 1, norm="spectral").train()
    for _ in range(50):
        net(torch.randn(2, 1, 16, 16))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="norm must be"):
        dcgan.Discriminator(norm="group")


@pytest.mark.parametrize("body", cgan.BODIES)
@pytest.mark.parametrize("spectral", [False, True])
def test_conditional_discriminator_sees_the_class(body, spectral):
    torch.manual_seed(0)
    net = cgan.Discriminator(4, body, [8, 8], (28, 28), 1, spectral=spectral).eval()
    x = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        right, wrong = net(x, torch.arange(4)), net(x, torch.arange(4).roll(1))
    assert right.shape == (4, 1)
    assert not torch.allclose(right, wrong)


def test_dense_discriminator():
    assert gan.Discriminator([8, 4], (6, 5), 3, 0.3)(torch.rand(2, 3, 6, 5)).shape == (2, 1)


@pytest.mark.parametrize("body", cgan.BODIES)
def test_class_changes_the_image(body):
    torch.manual_seed(0)
    net = models.build("cgan", {"body": body, "widths": [8, 4]}).eval()
    z = torch.randn(1, 100).expand(10, 100)
    with torch.no_grad():
        assert len(torch.unique(net(z, torch.arange(10)), dim=0)) == 10


def test_vae_reconstructs_through_the_mean():
    torch.manual_seed(0)
    net = models.build("vae", {"latent": 4, "hidden": [20, 10]}).eval()
    x, noise = torch.rand(3, 1, 28, 28), torch.randn(3, 4)
    with torch.no_grad():
        mean, log_variance = net.encode(x)
        assert torch.equal(net.reconstruct(x)[0], net(mean))
        torch.testing.assert_close(net.reconstruct(x, noise)[0], net(mean + noise * log_variance.exp().sqrt()))
        assert net.encoder[0].in_features == net.decoder[4].out_features == 784


def test_every_discriminator_trains_its_generator():
    """A gradient reaches the first layer of each generator through its discriminator."""
    pairs = [
        ("gan", {"hidden": [8], "size": [8, 8]}, gan.Discriminator([8], (8, 8)), []),
        ("dcgan", {"widths": [8], "channels": 1}, dcgan.Discriminator([8], 1, norm="none"), []),
        ("cgan", {"widths": [8, 8], "size": [8, 8]}, cgan.Discriminator(widths=[8], size=(8, 8)), [torch.arange(4)]),
    ]
    for name, options, discriminator, classes in pairs:
        generator = models.build(name, {"latent": 5, **options})
        discriminator(generator(torch.randn(4, 5), *classes), *classes).sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in list(generator.parameters())[:1])


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("gan", {"hidden": []}, "hidden"),
        ("gan", {"hidden": 8}, "hidden"),
        ("gan", {"latent": 0}, "latent"),
        ("gan", {"activation": "sin"}, "activation"),
        ("gan", {"output": "none"}, "output"),
        ("gan", {"size": [28]}, "size"),
        ("gan", {"channels": 2}, "channels"),
        ("gan", {"eps": 2.0}, "eps"),
        ("gan", {"norm": 1}, "norm"),
        ("cgan", {"classes": 0}, "classes"),
        ("cgan", {"body": "transformer"}, "body"),
        ("cgan", {"body": "convolutional", "widths": [8, 8, 8], "size": [30, 28]}, "size"),
        ("dcgan", {"widths": [8], "kernels": [[4, 1, 0]]}, "kernels"),
        ("dcgan", {"widths": [8], "kernels": [[4, 1, 0], [4, 2]]}, "kernels"),
        ("dcgan", {"widths": [8], "kernels": [[4, 1, 0], [4, 0, 1]]}, "kernels"),
        ("dcgan", {"widths": [8], "kernels": [[1, 1, 0], [2, 1, 4]]}, "size"),
        ("vae", {"hidden": ["400"]}, "hidden"),
        ("vae", {"size": [28, 5000]}, "size"),
    ],
)
def test_options_that_no_network_has_are_refused(name, options, word):
    with pytest.raises(ValueError, match=f"^{word} must be "):
        models.facts(name, options)
