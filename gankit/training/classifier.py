"""Trains the classifier behind the figures of generated images; a few minutes on one CPU core."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit.errors import GankitError, UsageError
from gankit.evaluation.classifier import SIDE, Classifier

_SHIFT = 1


@dataclass(frozen=True)
class ClassifierPlan:
    """How to train.

    Attributes:
        epochs: passes over the images.
        batch: images in a step.
        lr: AdamW's highest learning rate; the one-cycle schedule (Smith & Topin 2017, arXiv:1708.07120) rises to it
            over the first fifth and falls to 0.
        weight_decay: AdamW's.
        seed: of the weights, the order, the shifts and flips.
    """

    epochs: int = 10
    batch: int = 250
    lr: float = 4e-3
    weight_decay: float = 0.02
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """What a step did: its number from 1, of how many, the cross entropy, and seconds since the start."""

    step: int
    steps: int
    loss: float
    seconds: float


def train_classifier(
    images: Tensor, labels: Tensor, plan: ClassifierPlan, notify: Callable[[Step], None] | None = None
) -> Classifier:
    """Train from fresh weights: cross entropy, mirrored half of the time, shifted by up to one pixel.

    Args:
        images: (N, 1, 28, 28) uint8.
        labels: (N,) int64 from 0.
        plan: how.
        notify: called after every step.

    Returns:
        The network, in eval mode.

    Raises:
        UsageError: images of another shape, fewer than a batch, or not as many labels.
        GankitError: the loss is not finite.
    """
    if images.shape[1:] != (1, SIDE, SIDE) or len(images) != len(labels) or len(images) < plan.batch:
        raise UsageError(
            f"a classifier needs at least {plan.batch} images of 1×{SIDE}×{SIDE} and a label for each, "
            f"not {tuple(images.shape)} and {len(labels)}"
        )
    torch.manual_seed(plan.seed)
    net = Classifier(classes=int(labels.max()) + 1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = plan.epochs * (len(images) // plan.batch)
    optimiser = torch.optim.AdamW(net.parameters(), plan.lr, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.lr, steps, pct_start=0.2)
    narrow = bool(torch.cpu._is_avx512_bf16_supported())  # emulated, it is slower than fp32
    began, step = perf_counter(), 0
    for _ in range(plan.epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - plan.batch + 1, plan.batch):
            chosen = order[start : start + plan.batch]
            x = _moved(images[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                logits = net(x)
            loss = F.cross_entropy(logits.float(), labels[chosen])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            value = float(loss.detach())
            if not math.isfinite(value):
                raise GankitError(f"the loss is {value} at step {step}: lower --lr")
            if notify is not None:
                notify(Step(step, steps, value, perf_counter() - began))
    result: Classifier = net.eval().requires_grad_(False)
    return result


def _moved(x: Tensor) -> Tensor:
    """Each image of (N, 1, H, W) shifted by up to one pixel each way, black coming in, and half of them mirrored."""
    count, _, height, width = x.shape
    windows = F.pad(x, (_SHIFT,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(0, 2 * _SHIFT + 1, (2, count))
    moved = windows[torch.arange(count), :, down, right]
    flipped = torch.rand(count, 1, 1, 1) < 0.5
    return torch.where(flipped, moved.flip(3), moved)
