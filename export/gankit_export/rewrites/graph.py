"""The rewrites on a traced module.

A rewrite takes any ``nn.Module`` in eval mode and returns a new ``torch.fx.GraphModule``; the argument is not changed
and shares no parameter with the result.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Mapping

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gankit_export.calls import Call, calls
from gankit_export.layers import Kind, is_elementwise, is_pointwise, module_kind
from gankit_export.rewrites.sink_shuffle import sink, sink_pays, sinkable
from gankit_export.tracing import trace


def for_inference(module: nn.Module) -> fx.GraphModule:
    """All exact rewrites: fold BatchNorm and factors, shared PReLU to LeakyReLU, sink the last shuffle if it pays."""
    return sink_last_shuffle(shared_prelu_to_leaky(fold_factors(fold_batch_norm(module))))


def fold_batch_norm(module: nn.Module) -> fx.GraphModule:
    """BatchNorm2d on running statistics into the convolution before it (w' = w·γ/σ, b' = (b - μ)·γ/σ + β)."""
    traced = trace(module)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = _module(node, modules)
        if not isinstance(norm, nn.BatchNorm2d) or module_kind(norm) is not Kind.AFFINE:
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


def fold_factors(module: nn.Module) -> fx.GraphModule:
    """A number that multiplies a convolution's result into its weights, as EDSR and ESRGAN scale their residuals."""
    traced = trace(module)
    modules = dict(traced.named_modules())
    called = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or node.target not in (operator.mul, torch.mul) or len(node.args) != 2:
            continue
        conv_node, factor = node.args if isinstance(node.args[0], fx.Node) else node.args[::-1]
        conv = _module(conv_node, modules)
        if not isinstance(conv, nn.Conv2d) or type(factor) not in (int, float) or node.kwargs:
            continue
        if len(conv_node.users) != 1 or called[str(conv_node.target)] != 1:
            continue
        scaled = copy.deepcopy(conv).requires_grad_(False)
        scaled.weight.mul_(factor)
        if scaled.bias is not None:
            scaled.bias.mul_(factor)
        _replace(traced, str(conv_node.target), scaled)
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
    layers = calls(traced)
    conv_node = _before_tail(_output(traced), layers)
    conv = _module(conv_node, modules)
    if not isinstance(conv, nn.Conv2d):
        return traced
    node = _input(conv_node)
    # A slope for each channel would be one for other channels before the shuffle.
    while node in layers and is_elementwise(layers[node]) and len(node.users) == 1:
        node = node.all_input_nodes[0]
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


def _before_tail(node: fx.Node, layers: Mapping[fx.Node, Call]) -> fx.Node:
    """The node before the pointwise layers, of one image and numbers, that ``node`` ends.

    They stay behind the shuffle, so that slopes and statistics of every channel do no harm.
    """
    while node in layers and is_pointwise(layers[node]):
        node = node.all_input_nodes[0]
    return node


def _replace(traced: fx.GraphModule, target: str, module: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(traced.get_submodule(parent), name, module.eval().requires_grad_(False))


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
