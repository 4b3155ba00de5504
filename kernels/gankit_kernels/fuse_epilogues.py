"""The parts of :func:`gankit_kernels.fuse` that concern convolutions, additions, borders and concatenations."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gankit_kernels.modules import FusedConvolution, FusedEpilogue, FusedNorm, FusedShuffle, inside
from gankit_kernels.network import Convolution, Network

_IDLE = (nn.Dropout, nn.Dropout2d, nn.Identity)  # they do nothing in eval mode
_PADS = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, nn.ConstantPad2d)


def remove_idle(network: Network) -> None:
    """Remove what does nothing in eval mode: dropout, identities, and borders of no width."""
    for node in network.calls():
        found = network.module(node)
        if isinstance(found, _IDLE) or (isinstance(found, _PADS) and not any(found.padding)):
            network.bypass(node)


def part_concatenated(network: Network) -> None:
    """Turn ``relu(cat(a, b))`` into ``cat(relu(a), relu(b))``, as a U-Net has it.

    Where ``a`` is also the input of a LeakyReLU, the ReLU reads its result, which has the same positive values. So the
    operation before can absorb the LeakyReLU.
    """
    for cat in network.nodes():
        activation = network.activation_after(cat)
        if cat.target is not torch.cat or activation.node is None or activation.name != "relu":
            continue
        tensors = cat.args[0]
        if not isinstance(tensors, list | tuple) or not all(isinstance(item, fx.Node) for item in tensors):
            continue
        replaced = []
        for item in tensors:
            assert isinstance(item, fx.Node)
            source = item
            for user in item.users:
                leaky = network.activation_of(user)
                if leaky.name == "leaky_relu" and leaky.slope >= 0 and _before(network, user, cat):
                    source = user
            with network.graph.inserting_before(cat):
                replaced.append(network.graph.call_function(torch.relu, (source,)))
        cat.args = (replaced, *cat.args[1:])
        network.bypass(activation.node)


def _before(network: Network, one: fx.Node, other: fx.Node) -> bool:
    nodes = network.nodes()
    return nodes.index(one) < nodes.index(other)


def fuse_convolutions(network: Network, *, cudnn_relu: bool) -> None:
    """Move the bias of every convolution into a :class:`FusedEpilogue` with all that follows it."""
    for node in network.calls():
        conv = network.own_convolution(node)
        if conv is None:
            # several readers, or several callers: the bias alone is worth a faster pass, but only of an own convolution
            conv = network.own_convolution(node, readers=0)
            if conv is not None and conv.bias is not None and node.users and conv.groups == 1:
                _insert_after(network, node, FusedEpilogue(_taken_bias(conv), in_place=True))
            elif conv is None and isinstance(network.module(node), Convolution) and len(node.users) == 1:
                _fuse(network, node, None)
            continue
        reader = next(iter(node.users))
        if isinstance(network.module(reader), FusedShuffle | FusedNorm) and conv.bias is None:
            continue
        if cudnn_relu and isinstance(conv, nn.Conv2d) and _relu_alone(network, node, conv):
            activation = network.activation_after(node)
            assert activation.node is not None
            network.insert(activation.node, FusedConvolution(conv), (node.all_input_nodes[0],))
            continue
        # torch's own kernels for many groups add the bias themselves
        _fuse(network, node, conv, least=1 if conv.groups == 1 else 2)


def _relu_alone(network: Network, node: fx.Node, conv: nn.Conv2d) -> bool:
    """Whether cuDNN's fused kernel can replace a convolution and all that an epilogue would take."""
    activation = network.activation_after(node)
    if activation.node is None or activation.name != "relu" or conv.padding_mode != "zeros":
        return False
    alone = network.addition_after(activation.node) is None and network.product_after(activation.node) is None
    return alone and not isinstance(conv.padding, str)


def _taken_bias(conv: Convolution) -> Tensor | None:
    bias = None if conv.bias is None else conv.bias.detach()
    conv.bias = None
    return bias


def _insert_after(network: Network, node: fx.Node, fused: nn.Module) -> None:
    """Let every reader of a node read the result of a new module instead."""
    readers = list(node.users)
    with network.graph.inserting_after(node):
        stand_in = network.graph.call_function(torch.relu, (node,))
    for reader in readers:
        reader.replace_input_with(node, stand_in)
    network.insert(stand_in, fused, (node,))


def _fuse(network: Network, node: fx.Node, conv: Convolution | None, least: int = 1) -> None:
    """Replace the activation, the factor and the addition after a node by a :class:`FusedEpilogue`.

    Args:
        network: The network.
        node: The source.
        conv: The convolution that the node calls alone, whose bias the epilogue takes.
        least: Least number of operations, the bias among them, for which it is worth it.
    """
    activation, scale, last = network.activation_after(node), 1.0, node
    count = int(conv is not None and conv.bias is not None)
    if activation.node is not None:
        last = activation.node
        count += 1
    product = network.product_after(last)
    if product is not None:
        last, scale = product
        count += 1
    addition, before = network.addition_after(last), False
    arguments: tuple[fx.Node, ...] = (node,)
    if addition is not None:
        last, residual = addition
        arguments = node, residual
        count += 1
        if activation.node is None:
            activation = network.activation_after(last)
            before = activation.node is not None
            last = activation.node or last
            count += before
    if count < least:
        return
    fused = FusedEpilogue(
        None if conv is None else _taken_bias(conv),
        activation=activation.name,
        slope=activation.slope,
        prelu=activation.prelu,
        scale=scale,
        before=before,
        in_place=isinstance(network.module(node), Convolution),
    )
    if last is node:
        _insert_after(network, node, fused)
    else:
        network.insert(last, fused, arguments)


def fuse_sums(network: Network) -> None:
    """Fuse a factor and the addition after it where no convolution precedes them."""
    for node in network.nodes():
        if node.op != "output" and network.product_after(node) is not None:
            source = node
            if network.module(source) is None or not isinstance(network.module(source), Convolution):
                _fuse(network, source, None, least=2)


def take_borders(network: Network) -> None:
    """Let fused norms and epilogues write the reflected border that follows them, and the epilogue's kernel the rest.

    Every other reader of the result must be a fused addition, which then reads the result inside its border.
    """
    for node in network.calls():
        if isinstance(network.module(node), FusedNorm | FusedEpilogue):
            _take_border(network, node)
    for node in network.calls():
        found = network.module(node)
        if isinstance(found, nn.ReflectionPad2d):
            network.insert(node, FusedEpilogue(pads=found.padding), (node.all_input_nodes[0],))


def _take_border(network: Network, node: fx.Node) -> None:
    fused = network.module(node)
    padding = {
        user: found.padding for user in node.users if isinstance(found := network.module(user), nn.ReflectionPad2d)
    }
    if len(set(padding.values())) != 1:
        return
    pads = next(iter(padding.values()))
    readers = [user for user in node.users if user not in padding]
    as_residual = all(
        isinstance(network.module(user), FusedNorm | FusedEpilogue) and user.args[0] is not node for user in readers
    )
    if not as_residual or (isinstance(fused, FusedNorm) and len(set(pads)) != 1):
        return
    if isinstance(fused, FusedNorm):
        fused.pad = pads[0]
    elif isinstance(fused, FusedEpilogue):
        fused.pads = tuple(pads)
    for item in padding:
        network.bypass(item)
    if readers:
        with network.graph.inserting_after(node):
            view = network.graph.call_function(inside, (node, *pads))
        for reader in readers:
            reader.replace_input_with(node, view)


def pad_channels(network: Network, inputs: int, outputs: int) -> None:
    """Widen the half-precision convolutions whose channels are no multiples of what tensor cores compute at a time."""
    for node in network.calls():
        conv = network.own_convolution(node)
        if conv is None or conv.groups != 1 or conv.weight.dtype.itemsize != 2:
            continue
        user = next(iter(node.users))
        reader, extra = network.module(user), -conv.out_channels % outputs
        first = isinstance(reader, FusedShuffle | FusedEpilogue) and user.args[0] is node and reader.channels is None
        if extra and first and conv.bias is None:
            assert isinstance(reader, FusedShuffle | FusedEpilogue)
            reader.channels = conv.out_channels
            _widen(conv, 1 if isinstance(conv, nn.ConvTranspose2d) else 0, extra)
            conv.out_channels += extra
        extra = inputs - conv.in_channels
        if extra > 0:
            with network.graph.inserting_before(node):
                wide = network.graph.call_function(F.pad, (node.args[0], (0, 0, 0, 0, 0, extra)))
            node.args = (wide, *node.args[1:])
            _widen(conv, 0 if isinstance(conv, nn.ConvTranspose2d) else 1, extra)
            conv.in_channels += extra


def _widen(conv: Convolution, axis: int, extra: int) -> None:
    """Append weights of 0 along an axis."""
    weight = conv.weight.detach()
    layout = torch.channels_last if weight.stride(1) == 1 and weight.shape[1] > 1 else torch.contiguous_format
    shape = [extra if index == axis else size for index, size in enumerate(weight.shape)]
    wide = torch.cat([weight, weight.new_zeros(shape)], axis).contiguous(memory_format=layout)
    conv.weight = nn.Parameter(wide, requires_grad=False)
