"""What the tests of other people's layouts share."""

import torch
from torch import nn

from gankit.checkpoints import open_model

MEAN, STD = (torch.tensor(numbers).view(3, 1, 1) for numbers in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def conv(width_in, width_out, size=3, bias=True):
    return nn.Conv2d(width_in, width_out, size, padding=size // 2, bias=bias)


def unlike_new(module, seed=3):
    """Every tensor away from its initial value, in eval mode, so that each one counts."""
    torch.manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.uniform_(-0.3, 0.3)
            child.running_var.uniform_(0.3, 2)
            nn.init.uniform_(child.weight, 0.5, 1.5)
            nn.init.uniform_(child.bias, -0.3, 0.3)
        if isinstance(child, nn.PReLU):
            nn.init.uniform_(child.weight, -0.3, 0.4)
        if isinstance(child, nn.Conv2d):
            nn.init.normal_(child.weight, 0, child.weight[0].numel() ** -0.5)
            if child.bias is not None:
                nn.init.uniform_(child.bias, -0.2, 0.2)
    return module.eval().requires_grad_(False)


def opened_equals(path, theirs, expect, image, *, before=lambda x: x, after=lambda y: y, wrap=lambda state: state):
    """Their weights, saved and opened, make their images.

    Args:
        path: of the file to make.
        theirs: the published structure.
        expect: some of the options that must be read.
        image: RGB in [0, 1].
        before: what their code does with an image before the network.
        after: likewise with what it makes.
        wrap: what is saved, of the state dict.
    """
    torch.save(wrap(theirs.state_dict()), path)
    loaded = open_model(path)
    assert {name: loaded.facts.options.get(name) for name in expect} == expect
    wanted = after(theirs(before(image)))
    assert wanted.std() > 0.01  # of any use
    torch.testing.assert_close(loaded.generator(image), wanted, atol=1e-5, rtol=0)
    assert wanted.shape[2] == image.shape[2] * loaded.facts.scale
    return loaded
