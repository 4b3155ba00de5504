"""Optimisers for convolutional networks, and the average of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer


class MuonAdam(Optimizer):
    """Muon for the inner convolutions, Adam for the rest.

    Muon (Jordan et al. 2024) replaces each matrix's momentum by the nearest orthogonal matrix. torch's takes matrices
    only, so a convolution's (O, C, k, k) weight is given to it as its (O, C·k·k) view, which shares the memory.

    Args:
        inner: convolution weights, contiguous.
        rest: the first and last layers, biases, slopes, norms: what is no hidden matrix.
        inner_lr: Muon's learning rate.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        weight_decay: L2 penalty on what Adam trains; Muon's steps have one size whatever the gradient, and none of it.
        fused: let Adam change all its tensors in one kernel, where the device has it.
    """

    def __init__(
        self,
        inner: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        *,
        inner_lr: float = 5e-3,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        inner, rest = list(inner), list(rest)
        self._inner = inner
        self.trained: list[nn.Parameter] = [*inner, *rest]  # for who wants their gradients: the groups have the views
        self._views = [parameter.detach().view(parameter.shape[0], -1) for parameter in inner]
        self._muon = Muon(self._views, lr=inner_lr, weight_decay=0.0)
        self._adam = Adam(rest, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused or None)
        super().__init__([*inner, *rest], {})
        self.param_groups = [*self._muon.param_groups, *self._adam.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. A closure is not supported, since neither of the two needs one."""
        if closure is not None:
            raise ValueError("MuonAdam takes no closure")
        self._follow()
        for parameter, view in zip(self._inner, self._views, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.reshape(view.shape)
        self._muon.step()
        self._adam.step()
        return None

    def _follow(self) -> None:
        """See that every view is one of its parameter's memory: moving a module to a device gives it new memory."""
        for parameter, view in zip(self._inner, self._views, strict=True):
            if view.data_ptr() != parameter.data_ptr() or view.device != parameter.device:
                view.grad = None
                view.data = parameter.detach().view(view.shape)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self._inner:
            parameter.grad = None
        self._adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Both states, as :meth:`state_dict` gives them."""
        self._follow()
        self._muon.load_state_dict(state_dict["muon"])
        self._adam.load_state_dict(state_dict["adam"])
        self.param_groups = [*self._muon.param_groups, *self._adam.param_groups]


def set_learning_rate(optimiser: Optimizer, factor: float) -> None:
    """Multiply every group's first learning rate by ``factor``."""
    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor


def restore_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Take up a state, but keep the learning rates that the optimiser was made with.

    Raises:
        ValueError: the state is of other parameters.
    """
    rates = [group.get("initial_lr", group["lr"]) for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["initial_lr"] = rate


class Average:
    """Exponential moving average of a module's parameters and buffers: w̄ ← d·w̄ + (1 - d)·w.

    The decay grows as (1 + n) / (10 + n) up to ``decay``, so that the first, random weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's values of now."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, values = [], []
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                averages.append(self.state[name])
                values.append(value.to(self.state[name]))
            else:
                self.state[name].copy_(value)
        if averages:
            torch._foreach_lerp_(averages, values, weight)  # a few kernels for all tensors, not one for each
