"""What a structure is: the names that gankit gives to tensors, in the order in which they come, with their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gankit import models
from gankit.checkpoints.layouts.base import Match
from gankit.checkpoints.structure.probe import Measure

Shape = tuple[int, ...]
Shapes = Sequence[Shape]
Item = tuple[str, Shape]
Finish = Callable[[dict[str, Tensor]], Match | None]

_DEEPEST = 1024  # blocks
_FIXED = ("entrance.", "exit.")  # layers at the ends of a generator, whose constants no foreign file has


@dataclass(frozen=True)
class Proposal:
    """One reading of an ordered list of shapes.

    Attributes:
        what: the network in a few words, for messages.
        items: the name of every tensor, in order; their shapes have been compared.
        finish: makes the match of the tensors under these names.
        assumed: what no shape tells, by the option that changes it, or by a word where no option does.
        scale: enlargement, where readings differ in it.
        others: other readings of the same tensors, what they assume and how they finish, between which and this one a
            measurement may decide.
        measure: by which it does; ``None`` for no measurement.
        accepts: whether the values of the tensors allow this reading, where shapes do not decide.
    """

    what: str
    items: Sequence[Item]
    finish: Finish
    assumed: Mapping[str, str] = field(default_factory=dict)
    scale: int | None = None
    others: Sequence[tuple[Mapping[str, str], Finish]] = ()
    measure: Measure | None = None
    accepts: Callable[[Mapping[str, Tensor]], bool] = lambda _: True


@dataclass(frozen=True)
class Pattern:
    """One line of the table of structures.

    Attributes:
        name: of the networks that it reads.
        read: yields a proposal for every reading of the shapes, and nothing for those of another network.
    """

    name: str
    read: Callable[[Shapes], Iterator[Proposal]]


def kernel(name: str, out: int, into: int, size: int, *, bias: bool = True) -> list[Item]:
    """The tensors of a convolution."""
    return [(f"{name}.weight", (out, into, size, size)), *([(f"{name}.bias", (out,))] if bias else [])]


def norm(name: str, width: int) -> list[Item]:
    """The tensors of a BatchNorm."""
    return [(f"{name}.{part}", (width,)) for part in ("weight", "bias", "running_mean", "running_var")]


def built(model: str, **options: Any) -> list[Item]:
    """The names and shapes of a model's weights; empty where the options are not allowed."""
    try:
        with torch.device("meta"):
            state = models.build(model, options).state_dict()
    except (ValueError, TypeError, RuntimeError):
        return []
    return [
        (name, tuple(value.shape))
        for name, value in state.items()
        if not name.endswith("num_batches_tracked") and not name.startswith(_FIXED)
    ]


def fits(shapes: Shapes, items: Sequence[Item]) -> bool:
    """Whether the shapes are those of the items, in their order."""
    return len(shapes) == len(items) and all(shape == item[1] for shape, item in zip(shapes, items, strict=True))


def depth(shapes: Shapes, make: Callable[[int], list[Item]]) -> int | None:
    """The number of blocks that a network of as many tensors has; ``None`` where no number fits."""
    return _depth(shapes, make(1), make(2), make)


def depths(
    shapes: Shapes, batch: Callable[[int], list[Item]]
) -> Iterator[tuple[str, int, list[Item], Callable[[dict[str, Tensor]], dict[str, Tensor]]]]:
    """What :func:`normed` and :func:`depth` make of a network with BatchNorms of any depth: each reading that fits."""
    for index, (one, two) in enumerate(zip(normed(batch(1)), normed(batch(2)), strict=True)):

        def make(blocks: int, index: int = index) -> list[Item]:
            return list(normed(batch(blocks)))[index][1]

        blocks = _depth(shapes, one[1], two[1], make)
        if blocks is not None:
            kind, items, edit = list(normed(batch(blocks)))[index]
            yield kind, blocks, items, edit


def _depth(shapes: Shapes, one: list[Item], two: list[Item], make: Callable[[int], list[Item]]) -> int | None:
    each, more = len(two) - len(one), len(shapes) - len(one)
    if not one or each < 1 or more < 0 or more % each or more // each >= _DEEPEST:
        return None
    count = 1 + more // each
    return count if fits(shapes, make(count)) else None


def kernels(shapes: Shapes) -> list[Shape]:
    """The shapes of the convolutions, in order."""
    return [shape for shape in shapes if len(shape) == 4]


def normed(batch: Sequence[Item]) -> Iterator[tuple[str, list[Item], Callable[[dict[str, Tensor]], dict[str, Tensor]]]]:
    """The tensors of a network with BatchNorms, and of those that have other norms and biases in their places.

    Args:
        batch: of the network with BatchNorms and no bias before them.

    Yields:
        The norm in words, the items, and a function that makes the weights of a network that gankit has: a bias before
        a BatchNorm joins its mean, and before an InstanceNorm it changes nothing.
    """
    owners = {name.rpartition(".")[0] for name, _ in batch if name.endswith(".running_mean")}
    pairs: dict[str, str] = {}  # the convolution before each norm
    widths: dict[str, int] = {}  # the width of the bias of each convolution that has none
    names = {name for name, _ in batch}
    last = ""
    for name, shape in batch:
        owner = name.rpartition(".")[0]
        if owner in owners:
            pairs.setdefault(owner, last)
            widths[last] = shape[0]
        elif len(shape) == 4 and name.endswith(".weight"):
            last = owner
            if f"{owner}.bias" not in names:
                widths[owner] = shape[0]
    parts = {
        "BatchNorm": ("weight", "bias", "running_mean", "running_var"),
        "InstanceNorm": (),
        "InstanceNorm with weights": ("weight", "bias"),
        "InstanceNorm with unused statistics": ("running_mean", "running_var"),
    }
    for kind, kept in parts.items():
        for biased in (False, True):
            if biased and kept[:1] == ("weight",) and len(widths) > len(pairs):
                continue  # gankit's network has no place for a bias that no norm follows
            items: list[Item] = []
            for name, shape in batch:
                owner, _, part = name.rpartition(".")
                if owner not in owners or part in kept:
                    items.append((name, shape))
                if biased and owner in widths and part == "weight":
                    items.append((f"{owner}.bias", (widths[owner],)))

            def finish(state: dict[str, Tensor], kind: str = kind, biased: bool = biased) -> dict[str, Tensor]:
                return _with_norms(state, kind, pairs, {} if biased else widths)

            yield kind, items, finish


def plausible(kind: str) -> Callable[[Mapping[str, Tensor]], bool]:
    """Whether the two vectors of an InstanceNorm are weights, or a mean and a variance, which alone is positive."""
    if kind == "InstanceNorm with unused statistics":
        return lambda state: all(bool((v > 0).all()) for name, v in state.items() if name.endswith(".running_var"))
    if kind == "InstanceNorm with weights":
        return lambda state: not all(bool((state[name] > 0).all()) for name in _shifts(state))
    return lambda _: True


def _shifts(state: Mapping[str, Tensor]) -> list[str]:
    """The names of the biases of norms."""
    return [name for name in state if name.endswith(".bias") and state[f"{name[:-4]}weight"].ndim == 1]


def _with_norms(
    state: dict[str, Tensor], kind: str, pairs: Mapping[str, str], missing: Mapping[str, int]
) -> dict[str, Tensor]:
    """The weights as gankit has them.

    Args:
        state: under gankit's names.
        kind: of the norm.
        pairs: the convolution before each norm.
        missing: the convolutions without a bias, and its width.
    """
    state = dict(state)
    if kind not in ("BatchNorm", "InstanceNorm with weights"):
        return state | {f"{conv}.bias": torch.zeros(width) for conv, width in missing.items()}
    for owner, conv in pairs.items():
        bias = state.pop(f"{conv}.bias", None)
        if bias is not None and kind == "BatchNorm":
            mean = state[f"{owner}.running_mean"]
            state[f"{owner}.running_mean"] = (mean.double() - bias.double()).float()
    return state
