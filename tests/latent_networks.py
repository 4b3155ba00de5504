"""Small models that generate, in files, for the tests of sampling."""

import torch

from gankit import models
from gankit.checkpoints import save

OPTIONS = {
    "gan": {"latent": 6, "hidden": [16], "size": [8, 12], "channels": 3},
    "cgan": {"latent": 5, "classes": 4, "embedding": 3, "body": "convolutional", "widths": [8, 8], "size": [8, 8]},
    "dcgan": {"latent": 7, "widths": [16, 8], "channels": 3, "kernels": [[4, 1, 0], [4, 2, 1], [4, 2, 1]]},
    "vae": {"latent": 4, "hidden": [20], "size": [8, 8]},
}


def weights(folder, name, grow=3.0):
    """A file with a small model of that name, whose images have contrast and whose norms count."""
    torch.manual_seed(1)
    module = models.build(name, OPTIONS[name])
    for key, value in module.state_dict().items():
        if "running_mean" in key:
            value.uniform_(-0.2, 0.2)
        elif "running_var" in key:
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point() and value.ndim > 1:
            value.mul_(grow if name != "dcgan" else 10.0)
    path = folder / f"{name}.safetensors"
    save(path, module.state_dict(), name, models.facts(name, OPTIONS[name]).options, dtype=torch.float32)
    return path
