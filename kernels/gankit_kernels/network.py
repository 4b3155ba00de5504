"""A network's graph while :func:`gankit_kernels.fuse` rewrites it: questions about nodes, and insertions."""

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

Convolution = nn.Conv2d | nn.ConvTranspose2d
_ADDITIONS = frozenset([operator.add, torch.add])  # none in place: another node may read the operand
_PRODUCTS = frozenset([operator.mul, torch.mul])
Unwrap = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class ActivationNode:
    """An activation and the node that applies it, or ``None`` for no node."""

    node: fx.Node | None = None
    name: Activation = "none"
    slope: float = 0.01
    prelu: torch.Tensor | None = None


def graph_of(module: nn.Module, unwrap: Unwrap) -> fx.GraphModule:
    """Trace a copy of a network in eval mode.

    Raises:
        ValueError: The network cannot be traced.
    """
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


class Network:
    """A network's graph.

    Args:
        traced: The network, which is changed.
        unwrap: Returns the normalisation inside a module that casts around it, and any other module itself.
    """

    def __init__(self, traced: fx.GraphModule, unwrap: Unwrap) -> None:
        self.traced, self._unwrap = traced, unwrap
        self._count = 0

    @property
    def graph(self) -> fx.Graph:
        """The graph."""
        return self.traced.graph

    def nodes(self) -> list[fx.Node]:
        """All nodes, in order."""
        return list(self.graph.nodes)

    def calls(self) -> list[fx.Node]:
        """The calls of modules, in order."""
        return [node for node in self.graph.nodes if node.op == "call_module"]

    def module(self, node: object) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if isinstance(node, fx.Node) and node.op == "call_module":
            return self.traced.get_submodule(str(node.target))
        return None

    def norm(self, node: fx.Node) -> nn.InstanceNorm2d | nn.GroupNorm | None:
        """The normalisation that a node calls, if the kernels support it."""
        found = self.module(node)
        found = None if found is None else self._unwrap(found)
        if isinstance(found, nn.InstanceNorm2d) and not found.track_running_stats:
            return found
        return found if isinstance(found, nn.GroupNorm) and found.num_groups == 1 else None

    def bypass(self, node: fx.Node) -> None:
        """Remove a node that returns its input unchanged."""
        node.replace_all_uses_with(node.all_input_nodes[0])
        self.graph.erase_node(node)

    def insert(self, last: fx.Node, fused: nn.Module, arguments: tuple[Any, ...]) -> fx.Node:
        """Call a new module in place of ``last``."""
        with self.graph.inserting_before(last):
            node = self.graph.call_module(self._added(fused), arguments)
        last.replace_all_uses_with(node)
        # erase the nodes that nothing reads any more, and then their inputs
        waiting = [last]
        while waiting:
            old = waiting.pop()
            if not old.users and old not in arguments and old.op in ("call_module", "call_function", "call_method"):
                inputs = list(old.all_input_nodes)
                self.graph.erase_node(old)
                waiting += inputs
        return node

    def call_after(self, node: fx.Node, module: nn.Module, arguments: tuple[Any, ...]) -> fx.Node:
        """Call a new module after a node."""
        with self.graph.inserting_after(node):
            return self.graph.call_module(self._added(module), arguments)

    def items_of(self, node: fx.Node, count: int) -> list[fx.Node]:
        """The first items of a node's tuple."""
        items: list[fx.Node] = []
        for index in range(count):
            with self.graph.inserting_after(items[-1] if items else node):
                items.append(self.graph.call_function(operator.getitem, (node, index)))
        return items

    def _added(self, module: nn.Module) -> str:
        """Add a module under a name of its own."""
        name = f"fused_{self._count}"
        while hasattr(self.traced, name):
            self._count += 1
            name = f"fused_{self._count}"
        self.traced.add_submodule(name, module.eval())
        return name

    def finished(self) -> fx.GraphModule:
        """Check the graph, compile it and return the network."""
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()
        return self.traced

    def activation_of(self, node: fx.Node) -> ActivationNode:
        """The activation that a node applies, with no node where it is none."""
        found = self.module(node)
        if isinstance(found, nn.ReLU) or node.target in (F.relu, torch.relu):
            return ActivationNode(node, "relu")
        if isinstance(found, nn.LeakyReLU):
            return ActivationNode(node, "leaky_relu", found.negative_slope)
        if isinstance(found, nn.Tanh) or node.target is torch.tanh:
            return ActivationNode(node, "tanh")
        if isinstance(found, nn.PReLU):
            return ActivationNode(node, prelu=found.weight)
        return ActivationNode()

    def activation_after(self, node: fx.Node) -> ActivationNode:
        """The activation that is the only reader of a node."""
        user = _only_user(node)
        return ActivationNode() if user is None or user.all_input_nodes != [node] else self.activation_of(user)

    def addition_after(self, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
        """The addition of another tensor that is the only reader of a node, and the other tensor."""
        user = _only_user(node)
        if user is None or user.op != "call_function" or user.target not in _ADDITIONS:
            return None
        if len(user.args) != 2 or user.kwargs or len(user.all_input_nodes) != 2:
            return None
        return user, next(item for item in user.all_input_nodes if item is not node)

    def product_after(self, node: fx.Node) -> tuple[fx.Node, float] | None:
        """The multiplication by a number that is the only reader of a node, and the number."""
        user = _only_user(node)
        if user is None or user.op != "call_function" or user.target not in _PRODUCTS or user.kwargs:
            return None
        numbers = [item for item in user.args if type(item) in (int, float)]
        return (user, float(numbers[0])) if len(user.args) == 2 and len(numbers) == 1 else None  # type: ignore[arg-type]

    def own_convolution(self, node: fx.Node, readers: int = 1) -> Convolution | None:
        """The convolution that a node calls, if it has no other caller and its result so many readers (0 for any)."""
        found = self.module(node)
        if not isinstance(found, nn.Conv2d | nn.ConvTranspose2d) or (readers and len(node.users) != readers):
            return None
        calls = [item for item in self.calls() if self.module(item) is found]
        tied = [item for item in self.traced.modules() if item is not found and _shares(item, found)]
        return found if len(calls) == 1 and not tied else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _shares(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules share a parameter."""
    mine = {id(item) for item in other.parameters(recurse=False)}
    return any(id(item) in mine for item in one.parameters(recurse=False))
