"""A layer's call in a traced network: which layer, with what settings, on which images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from gankit_export.norms import Float32Norm


class LayerError(ValueError):
    """A layer stands in the way of what was asked; the message is one line that names it."""


class UnknownLayerError(LayerError):
    """Something that was needed is not known of a layer."""


class WholeImageError(LayerError):
    """A layer sees the whole image, so that no part of the image can be computed alone."""


class Call:
    """One node of a traced network that calls a module, a function or a method.

    Args:
        node: of the graph.
        module: what a ``call_module`` node calls.
        constants: values of the nodes that do not depend on the image.

    Attributes:
        node: as given.
        called: the module as it is called; ``None`` for a function or method.
        module: the same without :class:`Float32Norm` around it.
        target: the function, or the name of the method; ``None`` for a module.
        images: the inputs that depend on the image, each once.
    """

    def __init__(self, node: fx.Node, module: nn.Module | None, constants: dict[fx.Node, Any]) -> None:
        self.node, self.called, self._constants = node, module, constants
        self.module: Any = module.norm if isinstance(module, Float32Norm) else module
        self.target = None if module is not None else node.target
        self.images = tuple(item for item in node.all_input_nodes if item not in constants)

    @property
    def title(self) -> str:
        """What a user calls the layer: its place in the network and its type."""
        if self.called is not None:
            return f"layer '{self.node.target}' ({type(self.module).__name__})"
        what = self.target if isinstance(self.target, str) else getattr(self.target, "__name__", str(self.target))
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", None)
        place = f"layer '{path}' ({getattr(kind, '__name__', kind)})" if path else "the network"
        return f"{what}() in {place}"

    @property
    def tensors(self) -> list[Tensor]:
        """The constants among the arguments that are tensors."""
        found = [self._constants[item] for item in self.node.all_input_nodes if item in self._constants]
        return [item for item in found if isinstance(item, Tensor)]

    def get(self, name: str, position: int, default: Any) -> Any:
        """A setting.

        Args:
            name: of the module's attribute, and of the function's argument.
            position: of the function's argument; a method's own tensor is argument 0.
            default: what the function takes without it.
        """
        if self.module is not None:
            return getattr(self.module, name, default)
        args, kwargs = self.node.args, self.node.kwargs
        given = kwargs[name] if name in kwargs else args[position] if len(args) > position else default
        return self._filled(given)

    def tensor(self, name: str, position: int) -> Tensor:
        """A constant tensor among the arguments.

        Raises:
            UnknownLayerError: it is computed from the image.
        """
        value = self.get(name, position, None)
        if not isinstance(value, Tensor):
            raise UnknownLayerError(f"{self.title} has a {name} that is computed from the image: state tileable=False")
        return value

    def apply(self, values: Sequence[Any]) -> Any:
        """Call the layer.

        Args:
            values: of :attr:`images`, in their order.
        """
        known = dict(zip(self.images, values, strict=True))

        def fill(node: fx.Node) -> Any:
            return known[node] if node in known else self._constants[node]

        return run(self.node, self.called, fill)

    def _filled(self, value: Any) -> Any:
        return fx.node.map_arg(value, lambda node: self._constants.get(node, node))


def run(node: fx.Node, module: nn.Module | None, value: Any) -> Any:
    """Run one node.

    Args:
        node: ``call_module``, ``call_function`` or ``call_method``.
        module: that a ``call_module`` node calls.
        value: from an input node to its value.
    """
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
    if module is not None:
        return module(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def calls(traced: fx.GraphModule) -> dict[fx.Node, Call]:
    """Every call of a traced network that depends on the image, in order.

    What depends on no image, such as ``self.scale.exp()``, is computed here, once.
    """
    modules = dict(traced.named_modules())
    constants: dict[fx.Node, Any] = {}
    found: dict[fx.Node, Call] = {}
    with torch.no_grad():
        for node in traced.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            if node.op == "get_attr":
                constants[node] = _attribute(traced, str(node.target))
                continue
            module = modules[str(node.target)] if node.op == "call_module" else None
            if all(item in constants for item in node.all_input_nodes):
                constants[node] = run(node, module, constants.__getitem__)
            else:
                found[node] = Call(node, module, constants)
    return found


def is_size(node: fx.Node) -> bool:
    """Whether a node's value is made of shapes and types alone."""
    if node.op == "call_method" and node.target in ("size", "dim"):
        return True
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "dtype", "device", "ndim")
    return bool(node.all_input_nodes) and all(is_size(item) for item in node.all_input_nodes)


def _attribute(root: nn.Module, name: str) -> Any:
    found: Any = root
    for part in name.split("."):
        found = getattr(found, part)
    return found
