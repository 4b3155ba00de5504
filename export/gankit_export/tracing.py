"""Tracing, one network at a time: ``torch.fx`` replaces ``nn.Module.__call__`` for the whole process meanwhile."""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from gankit_export.layers import is_leaf
from gankit_export.messages import first_line

ONE_AT_A_TIME = threading.RLock()
"""Held while a module is traced or exported: torch.fx and torch.export are not safe in several threads."""
_IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
# What may give back the memory that it was given, and what always does in eval mode.
_VIEW_FUNCTIONS = (operator.getitem,)
_VIEW_METHODS = ("chunk", "contiguous", "detach", "float", "permute", "reshape", "split", "to", "transpose", "view")
_SAME_MODULES = (nn.Identity, nn.modules.dropout._DropoutNd)


def trace(module: nn.Module) -> fx.GraphModule:
    """A symbolic trace of a deep copy in eval mode; leaves are torch's own modules and those in the table of layers.

    Several threads may trace at once, and others may run modules meanwhile.

    Raises:
        ValueError: the forward pass depends on the data, so that it has no graph.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    traced = module if isinstance(module, fx.GraphModule) else _traced(module)
    _own_shared_modules(traced)
    _read_what_was_changed(traced)
    return traced


def _traced(module: nn.Module) -> fx.GraphModule:
    try:
        with ONE_AT_A_TIME:
            with _restored(module):
                graph = _Tracer().trace(module)
                own = vars(module)
                constants = {name: value for name, value in own.items() if name.startswith("_tensor_constant")}
            own.update(constants)  # which the graph refers to
            return fx.GraphModule(module, graph, type(module).__name__)
    except Exception as error:  # whatever a forward pass does with what has no values
        raise ValueError(f"{type(module).__name__} cannot be traced: {first_line(error)}") from error


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Undo what a forward pass stores in the module, such as a buffer in another dtype: in a trace it has no values."""
    kept = [(entries, dict(entries)) for part in module.modules() for entries in _entries(part)]
    try:
        yield
    finally:
        for now, before in kept:
            _restore(now, before)


def _entries(part: nn.Module) -> list[dict[str, Any]]:
    return [vars(part), part._buffers, part._parameters]


def _restore(now: dict[str, Any], before: dict[str, Any]) -> None:
    """Give a dict the entries that it had. Those that are unchanged stay in place: another thread may use them."""
    for key in now.keys() - before.keys():
        del now[key]
    for key, value in before.items():
        if now.get(key, _restore) is not value:
            now[key] = value


class _Tracer(fx.Tracer):
    """Records the calls of the thread that traces and lets every other thread's pass."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class _Proxy(fx.Proxy):
    """A value that notices ``x += y``, which ``torch.fx`` takes for ``x = x + y`` although it changes x."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


def _own_shared_modules(traced: fx.GraphModule) -> None:
    """Give every call its own copy of a module that is called more than once, so that each can be rewritten alone."""
    seen: set[str] = set()
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        if node.target in seen:
            target = f"{str(node.target).replace('.', '_')}_{len(seen)}"
            traced.add_submodule(target, copy.deepcopy(traced.get_submodule(str(node.target))))
            node.target = target
        seen.add(str(node.target))
    traced.recompile()


def _read_what_was_changed(traced: fx.GraphModule) -> None:
    """Let what reads a value after it was changed in place read the changed value by its own name.

    ``ReLU(inplace=True)`` at the start of a block changes the input that the skip reads too. The graph alone does not
    say so, and whoever runs it in another order (strip by strip, layer by layer) would read the unchanged value.

    Raises:
        ValueError: a part of a value is changed, and the value is read afterwards.
    """
    modules = dict(traced.named_modules())
    place = {node: index for index, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        source: Any = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not _changes_its_input(node, modules):
            continue
        later = {item for item in place if place[item] > place[node]}
        _read_instead(source, node, later)
        while _is_itself(source, modules):
            source = source.args[0]
            _read_instead(source, node, later)
        while _is_view(source):
            source = source.args[0]
            if later & set(source.users):
                raise ValueError(f"{type(traced).__name__} changes a tensor by another of its names and reads it later")
        if node.target in _IN_PLACE:  # nobody reads the old value any more
            node.target = _IN_PLACE[node.target]
    traced.recompile()


def _changes_its_input(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        return node.target in _IN_PLACE or bool(node.kwargs.get("inplace")) or (name[-1:] == "_" and name[:1] != "_")
    return node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).startswith("_")


def _read_instead(old: fx.Node, new: fx.Node, readers: Collection[fx.Node]) -> None:
    for reader in [item for item in old.users if item in readers]:
        reader.replace_input_with(old, new)


def _is_itself(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node gives back the very tensor that it was given."""
    return node.op == "call_module" and isinstance(modules[str(node.target)], _SAME_MODULES)


def _is_view(node: fx.Node) -> bool:
    """Whether a node's value may be a part of the one that it was given."""
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    return (node.op == "call_function" and node.target in _VIEW_FUNCTIONS) or (
        node.op == "call_method" and node.target in _VIEW_METHODS
    )
