"""The rewrite that puts the kernels into a network: norms and shuffles are fused with what surrounds them."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from gankit_kernels.activations import Activation
from gankit_kernels.modules import FusedNorm, FusedShuffle, inside
from gankit_kernels.pixel_shuffle import to_dcr

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_ADDITIONS = frozenset([operator.add, torch.add])  # none in place: another node may read the operand


def fuse(module: nn.Module, unwrap: Callable[[nn.Module], nn.Module] = lambda module: module) -> fx.GraphModule:
    """Return a copy of a network with fused norms and shuffles.

    * InstanceNorm2d without running statistics, and GroupNorm with one group, absorb the ReLU, LeakyReLU or Tanh after
      them and the addition after that. They also absorb a ReflectionPad2d if every other reader of the result is such
      an addition, which then reads the result inside its border.
    * A convolution before an InstanceNorm loses its bias, which the mean would cancel.
    * PixelShuffle absorbs the bias of the convolution before it and the activation after it. The output channels of
      that convolution are reordered to (sub-row, sub-column, channel), in which the shuffle copies long runs.

    The results equal those of the network up to float32's rounding. In fp16 and bf16 the intermediate values inside a
    fused operation are not rounded, unlike in the network.

    Args:
        module: The network in eval mode, which stays unchanged. It is traced unless it is an ``fx.GraphModule``.
        unwrap: Returns the normalisation inside a module that casts around it, and any other module itself. The casts
            are dropped because the kernels always compute in float32.

    Returns:
        The rewritten network, for any input size.

    Raises:
        ValueError: The network cannot be traced, for example because its control flow depends on the data.
    """
    network = _Network(_graph_of(module, unwrap), unwrap)
    network.remove_dropout()
    norms = [network.fuse_norm(node) for node in network.calls() if network.norm(node) is not None]
    for fused in norms:
        network.take_border(fused)
    for node in network.calls():
        if isinstance(network.module(node), nn.PixelShuffle):
            network.fuse_shuffle(node)
    return network.finished()


def _graph_of(module: nn.Module, unwrap: Callable[[nn.Module], nn.Module]) -> fx.GraphModule:
    module = copy.deepcopy(module).eval().requires_grad_(False)
    if isinstance(module, fx.GraphModule):
        return module

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return unwrap(m) is not m or super().is_leaf_module(m, module_qualified_name)

    tracer = Tracer()
    try:
        return fx.GraphModule(module, tracer.trace(module))
    except Exception as error:  # a forward pass may do anything with a proxy
        raise ValueError(f"{type(module).__name__} cannot be traced: {error}") from error


@dataclass(frozen=True)
class _Activation:
    """An activation and the node that applies it, or ``None`` for no node."""

    node: fx.Node | None = None
    name: Activation = "none"
    slope: float = 0.01
    prelu: torch.Tensor | None = None


class _Network:
    """A network's graph while it is rewritten."""

    def __init__(self, traced: fx.GraphModule, unwrap: Callable[[nn.Module], nn.Module]) -> None:
        self._traced, self._unwrap = traced, unwrap
        self._count = 0

    def calls(self) -> list[fx.Node]:
        """The calls of modules, in order."""
        return [node for node in self._traced.graph.nodes if node.op == "call_module"]

    def module(self, node: object) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if isinstance(node, fx.Node) and node.op == "call_module":
            return self._traced.get_submodule(str(node.target))
        return None

    def norm(self, node: fx.Node) -> nn.InstanceNorm2d | nn.GroupNorm | None:
        """The normalisation that a node calls, if the kernels support it."""
        found = self.module(node)
        found = None if found is None else self._unwrap(found)
        if isinstance(found, nn.InstanceNorm2d) and not found.track_running_stats:
            return found
        return found if isinstance(found, nn.GroupNorm) and found.num_groups == 1 else None

    def remove_dropout(self) -> None:
        """Remove dropout and identities, which do nothing in eval mode."""
        for node in self.calls():
            if isinstance(self.module(node), (nn.Dropout, nn.Dropout2d, nn.Identity)):
                node.replace_all_uses_with(node.all_input_nodes[0])
                self._traced.graph.erase_node(node)

    def fuse_norm(self, node: fx.Node) -> fx.Node:
        """Replace a norm, its activation and its addition by a :class:`FusedNorm`."""
        norm = self.norm(node)
        assert norm is not None
        source = node.all_input_nodes[0]
        activation = self._activation_after(node)
        if activation.prelu is not None:
            activation = _Activation()
        last = activation.node or node
        added = self._addition_after(last)
        residual = None
        if added is not None:
            residual = next(item for item in added.all_input_nodes if item is not last)
            last = added
        whole = isinstance(norm, nn.GroupNorm)
        fused = FusedNorm(
            norm.weight, norm.bias, whole=whole, activation=activation.name, slope=activation.slope, eps=norm.eps
        )
        if not whole:
            self._drop_bias(source)
        return self._insert(last, fused, (source,) if residual is None else (source, residual))

    def take_border(self, node: fx.Node) -> None:
        """Let a fused norm write the reflected border that follows it."""
        pads = [user for user in node.users if isinstance(self.module(user), nn.ReflectionPad2d)]
        borders = {self._border(pad) for pad in pads}
        pad = borders.pop() if len(borders) == 1 else 0
        readers = [user for user in node.users if user not in pads]
        as_residual = all(isinstance(self.module(user), FusedNorm) and user.args[0] is not node for user in readers)
        fused = self.module(node)
        if not pad or not as_residual or not isinstance(fused, FusedNorm):
            return
        fused.pad = pad
        for item in pads:
            item.replace_all_uses_with(node)
            self._traced.graph.erase_node(item)
        if readers:
            with self._traced.graph.inserting_after(node):
                view = self._traced.graph.call_function(inside, (node, pad))
            for reader in readers:
                reader.replace_input_with(node, view)

    def fuse_shuffle(self, node: fx.Node) -> None:
        """Replace a shuffle and its activation by a :class:`FusedShuffle`."""
        shuffle = self.module(node)
        assert isinstance(shuffle, nn.PixelShuffle)
        r, source = shuffle.upscale_factor, node.all_input_nodes[0]
        activation = self._activation_after(node)
        bias, dcr = None, False
        conv = self._own_convolution(source)
        if isinstance(conv, nn.Conv2d) and conv.groups == 1:
            dcr = True
            layout = torch.channels_last if conv.weight.stride(1) == 1 else torch.contiguous_format
            reordered = to_dcr(conv.weight.detach(), r).contiguous(memory_format=layout)
            conv.weight = nn.Parameter(reordered, requires_grad=False)
            bias = None if conv.bias is None else to_dcr(conv.bias.detach(), r)
            conv.bias = None
        fused = FusedShuffle(
            r,
            bias,
            order="dcr" if dcr else "crd",
            activation=activation.name,
            slope=activation.slope,
            prelu=activation.prelu,
        )
        self._insert(activation.node or node, fused, (source,))

    def finished(self) -> fx.GraphModule:
        """Check the graph, compile it and return the network."""
        self._traced.graph.eliminate_dead_code()
        self._traced.graph.lint()
        self._traced.delete_all_unused_submodules()
        self._traced.recompile()
        return self._traced

    def _insert(self, last: fx.Node, fused: nn.Module, arguments: tuple[Any, ...]) -> fx.Node:
        """Call a new module in place of ``last``."""
        name = f"fused_{self._count}"
        while hasattr(self._traced, name):
            self._count += 1
            name = f"fused_{self._count}"
        self._traced.add_submodule(name, fused.eval())
        with self._traced.graph.inserting_before(last):
            node = self._traced.graph.call_module(name, arguments)
        last.replace_all_uses_with(node)
        # erase the nodes that nothing reads any more, and then their inputs
        waiting = [last]
        while waiting:
            old = waiting.pop()
            if not old.users and old not in arguments and old.op in ("call_module", "call_function", "call_method"):
                inputs = list(old.all_input_nodes)
                self._traced.graph.erase_node(old)
                waiting += inputs
        return node

    def _only_user(self, node: fx.Node) -> fx.Node | None:
        return next(iter(node.users)) if len(node.users) == 1 else None

    def _activation_after(self, node: fx.Node) -> _Activation:
        """The activation that is the only reader of a node."""
        user = self._only_user(node)
        if user is None or user.all_input_nodes != [node]:
            return _Activation()
        found = self.module(user)
        if isinstance(found, nn.ReLU) or user.target in (F.relu, torch.relu):
            return _Activation(user, "relu")
        if isinstance(found, nn.LeakyReLU):
            return _Activation(user, "leaky_relu", found.negative_slope)
        if isinstance(found, nn.Tanh) or user.target is torch.tanh:
            return _Activation(user, "tanh")
        if isinstance(found, nn.PReLU):
            return _Activation(user, prelu=found.weight)
        return _Activation()

    def _addition_after(self, node: fx.Node) -> fx.Node | None:
        """The addition of another tensor that is the only reader of a node."""
        user = self._only_user(node)
        if user is None or user.op != "call_function" or user.target not in _ADDITIONS:
            return None
        plain = len(user.args) == 2 and not user.kwargs and len(user.all_input_nodes) == 2
        return user if plain else None

    def _border(self, node: fx.Node) -> int:
        """The width of a reflected border if it is the same on all sides, otherwise 0."""
        found = self.module(node)
        assert isinstance(found, nn.ReflectionPad2d)
        sides = set(found.padding)
        return sides.pop() if len(sides) == 1 else 0

    def _own_convolution(self, node: fx.Node) -> nn.Module | None:
        """The convolution that a node calls, if it has no other caller and its result no other reader."""
        found = self.module(node)
        if not isinstance(found, _CONVOLUTIONS) or len(node.users) != 1:
            return None
        calls = [item for item in self.calls() if self.module(item) is found]
        tied = [item for item in self._traced.modules() if item is not found and _shares(item, found)]
        return found if len(calls) == 1 and not tied else None

    def _drop_bias(self, node: fx.Node) -> None:
        conv = self._own_convolution(node)
        if conv is not None:
            conv.bias = None  # type: ignore[assignment]


def _shares(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules share a parameter."""
    mine = {id(item) for item in other.parameters(recurse=False)}
    return any(id(item) in mine for item in one.parameters(recurse=False))
