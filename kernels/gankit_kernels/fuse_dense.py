"""The part of :func:`gankit_kernels.fuse` that concerns dense blocks: their concatenations disappear."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, fx, nn

from gankit_kernels.modules import FusedEpilogue
from gankit_kernels.network import Convolution, Network
from gankit_kernels.spread import spread


class DenseStart(nn.Module):
    """Makes the inputs of all later convolutions of a dense block, and writes the block's input into them.

    Args:
        grown: Number of channels that each convolution but the last adds.
        before: What makes the block's input, whose result is written into the inputs in the same pass; ``None`` if
            something else does.
    """

    def __init__(self, grown: Sequence[int], before: FusedEpilogue | None = None) -> None:
        super().__init__()
        self.grown, self.before = tuple(grown), before

    def forward(self, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the block's input (N, C, H, W), and a tensor for the input of each later convolution.

        Only the first C channels of those tensors are filled.
        """
        samples, channels, height, width = x.shape
        targets = [
            torch.empty(
                (samples, channels + more, height, width),
                dtype=x.dtype,
                device=x.device,
                memory_format=torch.channels_last,
            )
            for more in accumulate(self.grown)
        ]
        before = self.before
        alike = residual is None or (residual.shape == x.shape and residual.dtype == x.dtype)
        if before is None or not alike:
            result = x if before is None else before(x, residual)
            spread(result, targets, 0)
            return (result, *targets)
        result = x if before.in_place else torch.empty_like(x)
        spread(
            x,
            targets,
            0,
            before.bias,
            prelu=before.prelu,
            residual=residual,
            result=result,
            activation=before.activation,
            slope=before.slope,
            scale=before.scale,
            before=before.before,
        )
        return (result, *targets)


class DenseStep(nn.Module):
    """Writes the result of one convolution of a dense block into the inputs of all later ones.

    Args:
        epilogue: What follows the convolution.
        channels: Output channels of the convolution.
    """

    def __init__(self, epilogue: FusedEpilogue, channels: int) -> None:
        super().__init__()
        self.epilogue, self.channels = epilogue, channels

    def forward(self, x: Tensor, *targets: Tensor) -> tuple[Tensor, ...]:
        """Write (N, C, H, W) behind the channels of the first target that are filled; return the targets."""
        after = self.epilogue
        spread(
            x,
            targets,
            targets[0].shape[1] - self.channels,
            after.bias,
            prelu=after.prelu,
            activation=after.activation,
            slope=after.slope,
            scale=after.scale,
        )
        return targets


def join_dense(network: Network) -> None:
    """Replace the concatenations of dense blocks.

    A block is a chain of concatenations of the channels of ``x, f1``, of ``x, f1, f2`` and so on, in which each ``f``
    is a convolution's result that nothing else reads.
    """
    by_input: dict[fx.Node, list[tuple[fx.Node, list[fx.Node]]]] = {}
    for node in network.nodes():
        items = _concatenated(node)
        if len(items) > 1:
            by_input.setdefault(items[0], []).append((node, items))
    for x, cats in by_input.items():
        chain: list[tuple[fx.Node, list[fx.Node]]] = []
        for node, items in sorted(cats, key=lambda cat: len(cat[1])):
            before = chain[-1][1] if chain else [x]
            if items[:-1] == before:
                chain.append((node, items))
        parts = [items[-1] for _, items in chain]
        rest = [{node for node, _ in chain[index:]} for index in range(len(chain))]
        if len(chain) > 1 and all(_only_joined(network, part, of) for part, of in zip(parts, rest, strict=True)):
            _join(network, x, [node for node, _ in chain], parts)


def _concatenated(node: fx.Node) -> list[fx.Node]:
    """The tensors whose channels a node concatenates; none if it does anything else."""
    if node.target is not torch.cat or not node.args:
        return []
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    items = node.args[0]
    if axis not in (1, -3) or not isinstance(items, list | tuple) or not all(isinstance(i, fx.Node) for i in items):
        return []
    return list(items) if len(set(items)) == len(items) else []  # type: ignore[arg-type]


def _only_joined(network: Network, part: fx.Node, readers: set[fx.Node]) -> bool:
    """Whether a node is what follows one convolution, and these concatenations are all that reads it."""
    fused = network.module(part)
    if not isinstance(fused, FusedEpilogue) or set(part.users) != readers or len(part.args) != 1:
        return False
    source = part.args[0]
    plain = fused.channels is None and not any(fused.pads)
    return plain and isinstance(network.module(source), Convolution) and len(source.users) == 1  # type: ignore[union-attr]


def _join(network: Network, x: fx.Node, cats: list[fx.Node], parts: list[fx.Node]) -> None:
    """Replace a chain of concatenations."""
    convolutions = [network.module(part.args[0]) for part in parts]
    grown = [conv.out_channels for conv in convolutions if isinstance(conv, Convolution)]
    made = network.module(x)
    before = made if isinstance(made, FusedEpilogue) and made.channels is None and not any(made.pads) else None
    start = network.call_after(x, DenseStart(grown, before), (x,) if before is None else x.args)
    block, *targets = network.items_of(start, 1 + len(cats))
    if before is None:
        network.graph.erase_node(block)
    else:
        x.replace_all_uses_with(block)
        network.graph.erase_node(x)
    for cat, part, channels in zip(cats, parts, grown, strict=True):
        fused = network.module(part)
        assert isinstance(fused, FusedEpilogue)
        step = network.call_after(part, DenseStep(fused, channels), (part.args[0], *targets))
        whole, *targets = network.items_of(step, len(targets))
        cat.replace_all_uses_with(whole)
        network.graph.erase_node(cat)
    for part in reversed(parts):
        network.graph.erase_node(part)
