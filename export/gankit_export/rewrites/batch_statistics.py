"""BatchNorm on the statistics of the image itself, as pix2pix runs it at test time, as affine InstanceNorm.

BatchNorm in training mode normalises with the mean and variance over batch, height and width. For a batch of one that
is InstanceNorm with the same weight, bias and epsilon. Written so, it gives the same image whatever else is in the
batch, runs in eval mode, and can be exported.
"""

from __future__ import annotations

import copy

from torch import nn


def batch_norm_to_instance_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d by an InstanceNorm2d with its weight, bias and epsilon.

    Args:
        module: any; it is not changed.

    Returns:
        A deep copy, in the mode (training or eval) of ``module``. Its eval mode gives, for a batch of one, what
        ``module`` gives in training mode with dropout off; the running statistics are not used.
    """
    result = copy.deepcopy(module)
    if isinstance(result, nn.BatchNorm2d):
        return _instance_norm(result)
    for parent in list(result.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _instance_norm(child))
    return result


def _instance_norm(norm: nn.BatchNorm2d) -> nn.InstanceNorm2d:
    result = nn.InstanceNorm2d(norm.num_features, norm.eps, affine=norm.affine)
    if norm.affine:
        result.weight, result.bias = norm.weight, norm.bias
    return result.train(norm.training)
