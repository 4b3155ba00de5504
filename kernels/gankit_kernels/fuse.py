"""The rewrite that puts the kernels into a network: norms, shuffles and convolutions take in what surrounds them."""

from __future__ import annotations

import torch
from torch import fx, nn

from gankit_kernels import fuse_epilogues
from gankit_kernels.fuse_dense import join_dense
from gankit_kernels.modules import FusedNorm, FusedShuffle
from gankit_kernels.network import ActivationNode, Network, Unwrap, graph_of
from gankit_kernels.pixel_shuffle import to_dcr


def fuse(
    module: nn.Module,
    unwrap: Unwrap = lambda module: module,
    *,
    pad_outputs: int = 1,
    pad_inputs: int = 1,
    cudnn_relu: bool = False,
    dense: bool = False,
) -> fx.GraphModule:
    """Return a copy of a network with fused norms, shuffles and convolutions.

    * InstanceNorm2d without running statistics, and GroupNorm with one group, absorb the ReLU, LeakyReLU or Tanh after
      them and the addition after that. They also absorb a ReflectionPad2d if every other reader of the result is such
      an addition, which then reads the result inside its border.
    * A convolution before an InstanceNorm loses its bias, which the mean would cancel.
    * PixelShuffle absorbs the bias of the convolution before it and the activation after it. The output channels of
      that convolution are reordered to (sub-row, sub-column, channel), in which the shuffle copies long runs.
    * The bias of every other convolution moves into one operation with the ReLU, LeakyReLU, PReLU or Tanh, the factor
      and the addition after it, which overwrites the convolution's result. It absorbs a ReflectionPad2d too, whose
      sides may differ.
    * A ReLU of concatenated tensors becomes one of each tensor, which the operation before it can absorb.
    * Borders of no width disappear.
    * With ``dense``, the convolutions of a dense block write into the inputs of the later ones, so that nothing is
      concatenated; see :mod:`gankit_kernels.spread`. A block then holds all these inputs at the same time.

    The results equal those of the network up to float32's rounding. In fp16 and bf16 the intermediate values inside a
    fused operation are not rounded, unlike in the network.

    Args:
        module: The network in eval mode, which stays unchanged. It is traced unless it is an ``fx.GraphModule``.
        unwrap: Returns the normalisation inside a module that casts around it, and any other module itself. The casts
            are dropped because the kernels always compute in float32.
        pad_outputs: Round the output channels of fp16 and bf16 convolutions up to a multiple of this number, by weights
            of 0, where the next operation can ignore the added channels. Tensor cores compute 8 or 16 at a time.
        pad_inputs: The same for the input channels of convolutions with fewer input channels than this number.
        cudnn_relu: Let cuDNN add the bias and apply the ReLU inside the convolution, in fp16 and bf16.
        dense: Remove the concatenations of dense blocks. The network then writes into its own tensors, which suits
            eager execution; a compiler removes them by itself.

    Returns:
        The rewritten network, for any input size.

    Raises:
        ValueError: The network cannot be traced, for example because its control flow depends on the data.
    """
    network = Network(graph_of(module, unwrap), unwrap)
    fuse_epilogues.remove_idle(network)
    fuse_epilogues.part_concatenated(network)
    for node in network.calls():
        if network.norm(node) is not None:
            _fuse_norm(network, node)
    for node in network.calls():
        if isinstance(network.module(node), nn.PixelShuffle):
            _fuse_shuffle(network, node)
    fuse_epilogues.fuse_convolutions(network, cudnn_relu=cudnn_relu)
    fuse_epilogues.fuse_sums(network)
    fuse_epilogues.take_borders(network)
    fuse_epilogues.pad_channels(network, pad_inputs, pad_outputs)
    if dense:
        join_dense(network)
    return network.finished()


def _fuse_norm(network: Network, node: fx.Node) -> None:
    """Replace a norm, its activation and its addition by a :class:`FusedNorm`."""
    norm = network.norm(node)
    assert norm is not None
    source = node.all_input_nodes[0]
    activation = network.activation_after(node)
    if activation.prelu is not None:
        activation = ActivationNode()
    last = activation.node or node
    addition = network.addition_after(last)
    arguments: tuple[fx.Node, ...] = (source,)
    if addition is not None:
        last, residual = addition
        arguments = source, residual
    whole = isinstance(norm, nn.GroupNorm)
    fused = FusedNorm(
        norm.weight, norm.bias, whole=whole, activation=activation.name, slope=activation.slope, eps=norm.eps
    )
    conv = None if whole else network.own_convolution(source)
    if conv is not None:
        conv.bias = None
    network.insert(last, fused, arguments)


def _fuse_shuffle(network: Network, node: fx.Node) -> None:
    """Replace a shuffle and its activation by a :class:`FusedShuffle`."""
    shuffle = network.module(node)
    assert isinstance(shuffle, nn.PixelShuffle)
    r, source = shuffle.upscale_factor, node.all_input_nodes[0]
    activation = network.activation_after(node)
    bias, dcr = None, False
    conv = network.own_convolution(source)
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
    network.insert(activation.node or node, fused, (source,))
