"""Two processes whose networks have BatchNorm, as torchrun starts them; test_shared_norm.py looks at what they wrote.

Run as ``torchrun --nproc-per-node 2 two_norms.py FOLDER``, or with ``alone`` in place of torchrun.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from gankit.training import ranks
from gankit.training.fabric import fabric_for
from gankit.training.shared_norm import SharedBatchNorm1d, SharedBatchNorm2d

STEPS = 4


def network():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 2, 3, bias=False),
        nn.BatchNorm2d(2, momentum=None, affine=False),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.BatchNorm1d(5),
        nn.Linear(5, 1),
    )


def main(folder):
    fabric = fabric_for("cpu", "fp32")
    rank, world = ranks.rank(), ranks.world()
    net, optimiser = fabric.setup(module := network(), torch.optim.SGD(module.parameters(), lr=0.05))
    found = {"shared": sum(isinstance(each, SharedBatchNorm1d | SharedBatchNorm2d) for each in module.modules())}
    losses = []
    for step in range(STEPS):
        whole = (
            torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step)) + 100.0
        )  # a mean that costs digits
        part = whole.chunk(world)[rank].clone().requires_grad_(True)
        result = net(part)
        (slope,) = torch.autograd.grad(result.square().sum(), part, create_graph=True)
        loss = (result - 1).square().mean() + slope.square().sum() / 800 * world  # with a gradient of a gradient
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        losses.append(ranks.mean([float(loss.detach())])[0])
    module.eval()
    found["eval"] = module(torch.ones(2, 3, 6, 6) * 100).detach()
    found["state"] = module.state_dict()
    found["losses"] = losses
    torch.save(found, folder / f"norms{world}-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
