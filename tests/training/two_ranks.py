"""Two processes that train together, as torchrun starts them; test_ranks.py looks at what they wrote.

Run as ``torchrun --nproc-per-node 2 two_ranks.py FOLDER``.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from gankit.errors import GankitError
from gankit.training import losses, ranks
from gankit.training.fabric import fabric_for
from gankit.training.loader import batches
from gankit.training.loop import Plan, System, fit
from gankit.training.penalties import gradient_penalty
from gankit.training.pool import ImagePool


class Numbered(Dataset):
    """Item ``i`` depends on ``i`` alone."""

    def __len__(self):
        return 2**40

    def __getitem__(self, index):
        return torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(index))


class Content(System):
    """Learns to blur; without noise, so that what a batch gives is the mean over its items."""

    def __init__(self, fabric):
        torch.manual_seed(3)
        self.generator = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1))
        self.forward, self.optimiser = fabric.setup(
            self.generator, torch.optim.SGD(self.generator.parameters(), lr=0.1, momentum=0.9)
        )
        self.fabric = fabric
        self.modules = {"generator": self.generator}
        self.optimisers = {"generator": self.optimiser.optimizer}
        self.schedules = {}
        self.validated = 0

    def step(self, batch, index):
        loss = losses.mse(self.forward(batch), nn.functional.avg_pool2d(batch, 3, 1, 1))
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.optimiser.step()
        return {"content": loss.detach()}

    def validate(self, generator):
        self.validated += 1
        return {"score": -float(generator(torch.ones(1, 3, 6, 6)).square().mean())}

    def save_generator(self, path, state, extra):
        save_file(dict(state), path)


class Game(Content):
    """A Wasserstein game with all that DistributedDataParallel has trouble with: several passes, slopes, a pool."""

    keeps_best = False

    def __init__(self, fabric):
        super().__init__(fabric)
        self.discriminator = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4), nn.Flatten())
        self.says, self.teacher = fabric.setup(
            self.discriminator, torch.optim.Adam(self.discriminator.parameters(), lr=1e-2)
        )
        self.modules["discriminator"] = self.discriminator
        self.optimisers["discriminator"] = self.teacher.optimizer
        self.extras = {"pool": ImagePool(3, seed=ranks.rank())}
        self.noise = []

    def step(self, batch, index):
        noise = torch.randn_like(batch)
        self.noise.append(noise.mean().item())
        fake = self.forward(noise)
        shown = self.extras["pool"](fake)
        loss_of_both = losses.wasserstein_discriminator(self.says(batch), self.says(shown))
        loss_of_both = loss_of_both + 10 * gradient_penalty(self.says, batch, shown)
        self.teacher.zero_grad()
        self.fabric.backward(loss_of_both)
        self.teacher.step()
        self.discriminator.requires_grad_(False)
        loss = losses.wasserstein_generator(self.says(fake))
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.optimiser.step()
        self.discriminator.requires_grad_(True)
        return {"discriminator": loss_of_both.detach(), "generator": loss.detach()}


def stream(batch):
    return lambda start: batches(Numbered(), batch, start)


def main(folder):
    fabric = fabric_for("cpu", "fp32")
    rank = ranks.rank()
    found = {"world": ranks.world(), "first": ranks.is_first()}

    content = Content(fabric)
    best = fit(content, stream(2), Plan(6, folder / "content", validate_every=3))
    found["content"] = {name: value.clone() for name, value in content.generator.state_dict().items()}
    found |= {"best": best, "validated": content.validated}

    def interrupt(progress):
        if progress.step == 4 and rank == 1:
            os.kill(os.getpid(), signal.SIGINT)

    for name in ("whole", "parts"):
        game = Game(fabric)
        try:
            fit(game, stream(2), Plan(10, folder / name), interrupt if name == "parts" else None)
        except KeyboardInterrupt:
            found["interrupted"] = torch.load(folder / name / "last.pt", weights_only=True)["step"]
            game = Game(fabric)
            torch.manual_seed(77)
            fit(game, stream(2), Plan(10, folder / name, resume=True))
        else:
            found["noise"] = game.noise
        found[name] = {f"{net}.{key}": v for net in game.modules for key, v in game.modules[net].state_dict().items()}

    class Spoilt(Content):
        def step(self, batch, index):
            loss = super().step(batch, index)["content"]
            return {"content": loss * float("nan") if rank == 1 and index == 2 else loss}

    class Unsaved(Content):
        def save_generator(self, path, state, extra):
            raise GankitError("disk full")

    for name, made in (("nan", Spoilt), ("full", Unsaved)):
        try:
            fit(made(fabric), stream(2), Plan(5, folder / name))
        except GankitError as error:
            found[name] = f"{type(error).__name__}: {error}"
    torch.save(found, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(Path(sys.argv[1]))
