import pytest
import torch

from gankit import models

OPTIONS = {"scale": 2, "channels": 8, "blocks": 2, "in_channels": 3}


@pytest.fixture
def generator():
    """A small generator whose every tensor differs from its initial value, running statistics too."""
    torch.manual_seed(0)
    module = models.build("srgan", OPTIONS).eval().requires_grad_(False)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) * 0.1 if "running_var" in name else torch.randn_like(value) * 0.05)
    return module


@pytest.fixture
def batch():
    return torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(1))
