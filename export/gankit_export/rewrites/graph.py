"""The rewrites on a traced module.

A rewrite takes any ``nn.Module`` in eval mode and returns a new ``torch.fx.GraphModule``; the argument is not changed
and shares no parameter with the result.
"""

from __future__ import annotations

import copy
import operator

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gankit_export.rewrites.sink_shuffle import sink, sink_pays, sinkable

_POINTWISE = (nn.PReLU, nn.LeakyReLU, nn.ReLU, nn.Identity)
# What may follow the last convolution. It stays behind the shuffle, so that slopes and statistics of every channel do
# no harm there.
_TAIL = (*_POINTWISE, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.BatchNorm2d)
_TAIL_FUNCTIONS: frozenset[object] = frozenset(
    [
        *(operator.mul, operator.add, operator.sub, operator.truediv),
        *(torch.mul, torch.add, torch.tanh, torch.sigmoid, torch.clamp),
    ]
)
_TAIL_METHODS = ("mul", "add", "sub", "div", "tanh", "sigmoid", "clamp")


def trace(module: nn.Module) -> fx.GraphModule:
    """A symbolic trace of a deep copy in eval mode; leaves are torch's own modules.

    Raises:
        ValueError: the forward pass depends on the data, so that it has no graph.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:  # whatever a forward pass does with what has no values
        raise ValueError(f"{type(module).__name__} cannot be traced: {error}") from error
    if not isinstance(module, fx.GraphModule):
        _own_shared_modules(traced)
    return traced


def for_inference(module: nn.Module) -> fx.GraphModule:
    """All exact rewrites: fold BatchNorm, shared PReLU to LeakyReLU, sink the last shuffle where it pays."""
    return sink_last_shuffle(shared_prelu_to_leaky(fold_batch_norm(module)))


def fold_batch_norm(module: nn.Module) -> fx.GraphModule:
    """BatchNorm2d on running statistics into the convolution before it (w' = w·γ/σ, b' = (b - μ)·γ/σ + β)."""
    traced = trace(module)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = _module(node, modules)
        if not isinstance(norm, nn.BatchNorm2d) or not norm.track_running_stats:
            continue
        conv_node = _input(node)
        conv = _module(conv_node, modules)
        if not isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) or len(conv_node.users) != 1:
            continue
        folded = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
        _replace(traced, str(conv_node.target), folded)
        modules[str(conv_node.target)] = folded
        node.replace_all_uses_with(conv_node)
        traced.graph.erase_node(node)
    return _finish(traced)


def shared_prelu_to_leaky(module: nn.Module) -> fx.GraphModule:
    """A PReLU with one slope for all channels is a LeakyReLU with a constant one, which engines fuse."""
    traced = trace(module)
    for name, child in list(traced.named_modules()):
        if isinstance(child, nn.PReLU) and child.num_parameters == 1:
            _replace(traced, name, nn.LeakyReLU(float(child.weight)))
    return _finish(traced)


def sink_last_shuffle(module: nn.Module, *, always: bool = False) -> fx.GraphModule:
    """Move the last PixelShuffle, and pointwise layers after it, behind the convolution that ends the network.

    Args:
        module: a network that ends in PixelShuffle, any pointwise activations with one slope, one convolution, and
            any pointwise layers behind it, such as Tanh or a BatchNorm, which stay the last. Any other network is
            returned traced and unchanged.
        always: rewrite even where counting multiplications says that it does not pay.
    """
    traced = trace(module)
    modules = dict(traced.named_modules())
    conv_node = _before_tail(_output(traced), modules)
    conv = _module(conv_node, modules)
    if not isinstance(conv, nn.Conv2d):
        return traced
    chain = []
    node = _input(conv_node)
    while isinstance(_module(node, modules), _POINTWISE) and len(node.users) == 1:
        if getattr(_module(node, modules), "num_parameters", 1) != 1:
            return traced  # a slope per channel means other channels before the shuffle
        chain.append(node)
        node = _input(node)
    shuffle = _module(node, modules)
    if not isinstance(shuffle, nn.PixelShuffle) or len(node.users) != 1 or not sinkable(shuffle, conv):
        return traced
    if not always and not sink_pays(shuffle, conv):
        return traced
    sunk, last = sink(shuffle, conv)
    _replace(traced, str(conv_node.target), sunk)
    _replace(traced, str(node.target), last)
    node.replace_all_uses_with(_input(node))
    conv_node.replace_all_uses_with(node)
    conv_node.append(node)
    node.args = (conv_node,)
    return _finish(traced)


def _module(node: object, modules: dict[str, nn.Module]) -> nn.Module | None:
    if isinstance(node, fx.Node) and node.op == "call_module":
        return modules[str(node.target)]
    return None


def _input(node: fx.Node) -> fx.Node:
    """The node that a layer's first argument comes from."""
    first = node.args[0]
    if not isinstance(first, fx.Node):
        raise ValueError(f"{node} has no input")
    return first


def _output(traced: fx.GraphModule) -> fx.Node:
    """The node that makes the result, behind nothing."""
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    result = output.args[0]
    if not isinstance(result, fx.Node):
        raise ValueError("the module must return one tensor")
    return result


def _before_tail(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """The node before the pointwise layers, of one input and numbers, that ``node`` ends."""
    while len(node.all_input_nodes) == 1:
        function = node.op == "call_function" and node.target in _TAIL_FUNCTIONS
        method = node.op == "call_method" and node.target in _TAIL_METHODS
        if not (function or method or isinstance(_module(node, modules), _TAIL)):
            break
        node = node.all_input_nodes[0]
    return node


def _replace(traced: fx.GraphModule, target: str, module: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(traced.get_submodule(parent), name, module.eval().requires_grad_(False))


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


def _finish(traced: fx.GraphModule) -> fx.GraphModule:
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def is_add(node: fx.Node) -> bool:
    """Whether a traced node is a + b and nothing more (``torch.add(a, b, alpha=2)`` is more)."""
    if len(node.args) != 2 or node.kwargs:
        return False
    return (node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add)) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
