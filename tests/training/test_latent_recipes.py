"""A short run of every recipe that begins with a latent: samples move to the data, and a resumed run is exact."""

import pytest
import torch
from latent_making import bars, latent_stream, latent_system
from training_making import rows, same

from gankit.checkpoints import open_model
from gankit.errors import UsageError
from gankit.training.loop import Plan, fit

# In so few steps the papers' learning rates do nothing.
FAST = {"lr": 4e-3, "discriminator_lr": 4e-3}
EXACT = [
    ("gan", {"discriminator_dropout": 0.3, "instance_noise": 0.2}),
    ("cgan", {"r1_weight": 0.1, "schedule": "cosine", "warmup": 5}),
    ("wgan-gp", {"discriminator_steps": 2}),
    ("vae", {}),
    ("dcgan", {"progressive": 0.8, "size": 16, "widths": (8, 6)}),
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["gan", "cgan", "dcgan", "wgan", "wgan-gp", "lsgan", "hinge"])
def test_samples_come_near_the_data(tmp_path, recipe):
    """The mean image of samples is at most half as far from that of the data as at the start."""
    images = bars(tmp_path)
    given = FAST | ({"discriminator_steps": 2} if recipe.startswith("wgan") else {})
    system = latent_system(recipe, images, 150, **given)
    before = system.validate(system.generator.eval())
    system.generator.train()
    seen = []
    plan = Plan(150, tmp_path / "run", average=0.9)
    fit(system, latent_stream(system, images), plan, lambda progress: seen.append(dict(progress.validation)))
    after = seen[-1]
    assert after["mean_error"] < before["mean_error"] / 2
    assert 0.3 < after["diversity"] < 2


def test_the_autoencoder_learns(tmp_path):
    images = bars(tmp_path)
    system = latent_system("vae", images, 150, lr=5e-3)
    before = system.validate(system.generator)
    fit(system, latent_stream(system, images), Plan(150, tmp_path / "run", average=0.9))
    after = system.validate(system.generator)
    assert after["reconstruction"] < before["reconstruction"] / 2
    assert 0.1 < after["kl"] < 20


@pytest.mark.parametrize(("recipe", "options"), EXACT)
def test_ten_and_ten_steps_are_twenty(tmp_path, recipe, options):
    size = options.get("size", 8)
    images = bars(tmp_path, size)

    def train(folder, *stops):
        for number, steps in enumerate(stops):
            system = latent_system(recipe, images, 20, **options)
            plan = Plan(steps, tmp_path / folder, validate_every=5, resume=bool(number))
            fit(system, latent_stream(system, images, 8), plan)
        return torch.load(tmp_path / folder / "last.pt", weights_only=True)

    assert same(train("whole", 20), train("parts", 10, 20))
    wanted, found = (rows(tmp_path / folder / "log.csv") for folder in ("whole", "parts"))
    assert wanted == found


@pytest.mark.parametrize("recipe", ["gan", "cgan", "dcgan", "vae"])
def test_the_file_opens_as_the_generator_that_was_trained(tmp_path, recipe):
    images = bars(tmp_path)
    system = latent_system(recipe, images, 2)
    fit(system, latent_stream(system, images, 4), Plan(2, tmp_path / "run", average=0))
    opened = open_model(tmp_path / "run/final.safetensors")
    assert (opened.facts.name, opened.facts.classes) == (recipe, 2 if recipe == "cgan" else 0)
    latents = torch.randn(3, 4)
    classes = [torch.tensor([0, 1, 1])] if recipe == "cgan" else []
    with torch.no_grad():
        wanted = system.generator.eval()(latents, *classes)
        torch.testing.assert_close(opened.generator.eval()(latents, *classes), wanted, atol=2e-3, rtol=0)


def test_bf16_trains(tmp_path):
    images = bars(tmp_path)
    for recipe in ("wgan-gp", "hinge", "vae"):
        system = latent_system(recipe, images, 3, "bf16")
        fit(system, latent_stream(system, images, 4), Plan(3, tmp_path / recipe))


def test_a_sample_grid_has_a_column_for_each_class(tmp_path):
    images = bars(tmp_path)
    system = latent_system("cgan", images)
    system.samples = lambda generator: torch.linspace(-1, 1, 2).repeat(8).view(16, 1, 1, 1).expand(16, 1, 8, 8)
    sample_grid = system.sample_grid(system.generator)
    assert sample_grid.shape == (8 * 10 - 2, 2 * 10 - 2, 3)
    assert sample_grid[:, :8].reshape(-1, 3)[:64].max() == 0
    assert sample_grid[:8, 10:].min() == 255
    plain = latent_system("dcgan", images)
    assert plain.sample_grid(plain.generator.eval()).shape == (78, 78, 3)


def test_the_same_latents_on_every_sample_grid(tmp_path):
    images = bars(tmp_path)
    for recipe in ("gan", "vae"):
        system = latent_system(recipe, images)
        net = system.generator.eval()
        first = system.sample_grid(net)
        torch.randn(5)
        assert (system.sample_grid(net) == first).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial": "kl"}, "unknown adversarial loss 'kl'"),
        ({"discriminator_steps": 0}, "at least one step"),
        ({"penalty_weight": 10.0}, "BatchNorm mixes them"),
        ({"adversarial": "hinge", "smooth": 0.1}, "no labels to smooth"),
        ({"net": "gan", "discriminator_norm": "batch"}, "--discriminator-norm batch: the discriminator of gan has"),
        ({"net": "gan", "discriminator_norm": "none", "progressive": 0.5}, "omit --progressive"),
        ({"progressive": 0.5}, "omit --progressive"),  # 8×8 is doubled once
        ({"widths": (8, 8, 8, 8)}, "cannot make 8×8"),
        ({"size": 9, "widths": ()}, "cannot be made by doubling"),
        ({"discriminator_widths": (8, 8)}, "need 1 widths"),
        ({"latent": 0}, "cannot be built"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    with pytest.raises(UsageError, match=message) as error:
        latent_system("dcgan", bars(tmp_path), **options)
    assert "\n" not in str(error.value)
