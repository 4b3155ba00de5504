"""From a traced generator to the stages that stream it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from gankit_export.calls import Call, LayerError, calls
from gankit_export.layers import Kind, LayerBehaviour, behaviour
from gankit_export.rewrites.graph import is_add
from torch import Tensor, fx, nn
from torch.nn import functional

from gankit.backends.cpu import winograd
from gankit.backends.cpu.convolution import Convolution, ConvStage, ResidualChain
from gankit.backends.cpu.fused import FusedConv, fused_activation
from gankit.backends.cpu.pooling import MaxPoolStage
from gankit.backends.cpu.resampling import BilinearStage, UnshuffleStage
from gankit.backends.cpu.row_sums import RowSumStage, by_rows, row_convolution
from gankit.backends.cpu.stage import AddStage, JoinStage, NotStreamableError, PointwiseStage, Sink, Stage

_ROWWISE = (Kind.POINTWISE, Kind.AFFINE, Kind.ENLARGE)


Convolutions = dict[nn.Conv2d, Convolution]
Operation = Callable[..., Tensor]


@dataclass(frozen=True)
class _Shuffled:
    """PixelShuffle of channels, and what is done with its result and other images, enlarged by nearest neighbour.

    Attributes:
        factor: of the enlargement.
        sources: the node whose channels are shuffled, then those whose values are enlarged.
        operations: one for each of the latter: takes both, and ``out``.
    """

    factor: int
    sources: tuple[fx.Node, ...]
    operations: tuple[Operation, ...]

    def joined(self, operation: Operation, base: fx.Node) -> _Shuffled:
        """The same with one more enlarged image."""
        return _Shuffled(self.factor, (*self.sources, base), (*self.operations, operation))

    def join(self, inputs: Sequence[Tensor]) -> Tensor:
        """The result from rows of the sources; those of the first are changed."""
        rows, *bases = inputs
        pixels = rows.unflatten(1, (-1, self.factor**2))
        for operation, base in zip(self.operations, bases, strict=True):
            operation(pixels, base.unsqueeze(2), out=pixels)
        return functional.pixel_shuffle(rows, self.factor).contiguous(memory_format=torch.channels_last)


def _operation(node: fx.Node) -> Operation | None:
    """What joins two images pixel by pixel in a node; ``None`` for anything else."""
    if is_add(node):
        return torch.add
    bound = node.op == "call_function" and node.target in (torch.maximum, torch.minimum) and len(node.args) == 2
    return cast("Operation", node.target) if bound else None


def build_stages(
    module: fx.GraphModule, strip_bytes: int, convolutions: Convolutions | None = None, fast: bool = False
) -> tuple[Stage, Sink, list[Stage]]:
    """The source, the sink and all stages, consumers connected.

    Args:
        module: traced generator.
        strip_bytes: bound of a layer's output in one strip.
        convolutions: those that an earlier call for the same module made, to share their weights; new ones are added.
        fast: whether convolutions run by Winograd's algorithm where they can.

    Raises:
        NotStreamableError: a layer needs the whole image, or is not known.
    """
    builder = _Builder(module, strip_bytes, {} if convolutions is None else convolutions, fast)
    for node in module.graph.nodes:
        builder.add(node)
    if builder.sink is None or builder.source is None:
        raise NotStreamableError("the network must have one input and one output")
    return builder.source, builder.sink, builder.stages


class _Builder:
    def __init__(self, module: fx.GraphModule, strip_bytes: int, convolutions: Convolutions, fast: bool) -> None:
        self._convolutions, self._fast = convolutions, fast
        self._modules = dict(module.named_modules())
        self._calls = calls(module)
        self._bytes = strip_bytes + strip_bytes // 4 if fast else strip_bytes  # strips of whole tiles may be taller
        self._made: dict[fx.Node, Stage] = {}  # the stage whose output is the node's value
        self._skipped: set[fx.Node] = set()
        self._chain_ends: dict[fx.Node, list[tuple[fx.Node, nn.Conv2d, nn.Module, nn.Conv2d]]] = {}
        self.stages: list[Stage] = []
        self.source: Stage | None = None
        self.sink: Sink | None = None
        self._bases: dict[fx.Node, _Shuffled] = {}
        self._behind: dict[fx.Node, fx.Node] = {}  # activations computed before a shuffle, by the shuffle
        self._find_chains(module)
        self._find_bases(module)

    def add(self, node: fx.Node) -> None:
        if node in self._skipped:
            return
        if node.op == "placeholder":
            if self.source is not None:
                raise NotStreamableError("more than one input")
            self.source = self._made[node] = Stage()
        elif node.op == "output":
            self.sink = Sink()
            self._connect(self.sink, [node.args[0]])
        elif node in self._chain_ends:
            blocks = self._chain_ends[node]
            convs = [(self._fused(first, act), self._fused(second)) for _, first, act, second in blocks]
            self._made[node] = self._connect(ResidualChain(convs), [blocks[0][0]])
        elif node in self._bases:
            found = self._bases[node]
            self._made[node] = self._connect(JoinStage(len(found.sources), found.join), found.sources)
        elif is_add(node) and all(item in self._made for item in node.args):
            self._made[node] = self._connect(AddStage(), node.args)
        elif node in self._calls:
            try:
                self._layer(node, self._calls[node])
            except LayerError as error:  # its settings are computed from the image
                raise NotStreamableError(str(error)) from error

    def _layer(self, node: fx.Node, call: Call) -> None:
        row = behaviour(call)
        if row.reads(call, 0) is None or row.reads(call, 1) is None:
            raise NotStreamableError(f"{call.title} needs the whole image")
        if row.kind is Kind.SPLIT:
            return  # its pieces take their channels themselves
        split = self._calls.get(call.images[0])
        if row.kind is Kind.CONVOLUTION and call.module is not None:
            self._convolution(node, call.module)
        elif split is not None and behaviour(split).kind is Kind.SPLIT:
            piece = PointwiseStage(lambda rows: _laid_out(call, [split.apply([rows])]))
            self._made[node] = self._connect(piece, split.images)
        elif len(call.images) == 1:
            self._made[node] = self._connect(_stage(row, call), call.images)
            if node in self._behind:
                self._made[self._behind[node]] = self._made[node]
        elif row.kind is Kind.POINTWISE:
            join = JoinStage(len(call.images), lambda rows: _laid_out(call, rows))
            self._made[node] = self._connect(join, call.images)
        else:
            raise NotStreamableError(f"{call.title} does not run in strips")

    def _convolution(self, node: fx.Node, conv: nn.Conv2d) -> None:
        _check(conv)
        if by_rows(conv) and not self._suits(conv):
            if conv not in self._convolutions:
                self._convolutions[conv] = row_convolution(conv)
            wide = self._convolutions[conv]
            assert isinstance(wide, FusedConv)
            self._made[node] = self._connect(RowSumStage(conv, wide), node.args[:1])
            return
        activation, result, user = None, node, _only_module(node)
        if user is not None:
            follower, behind = self._modules[str(user.target)], _only_module(user)
            if self._fuses(conv, follower):
                self._skipped.add(user)
                activation, result = follower, user
            elif isinstance(follower, nn.PixelShuffle) and behind is not None:
                after = self._modules[str(behind.target)]
                if _same_for_all_channels(after) and self._fuses(conv, after):
                    self._skipped.add(behind)
                    self._behind[user], activation = behind, after
        stage = self._connect(ConvStage(self._fused(conv, activation), self._bytes), node.args[:1])
        self._made[node] = self._made[result] = stage

    def _fuses(self, conv: nn.Conv2d, activation: nn.Module) -> bool:
        return fused_activation(activation) is not None or (self._suits(conv) and winograd.can_fuse(activation))

    def _suits(self, conv: nn.Conv2d) -> bool:
        """Whether a convolution runs by Winograd's algorithm."""
        return self._fast and winograd.suits(conv)

    def _fused(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> Convolution:
        """The convolution with the activation behind it; tracing gave every call a module of its own."""
        if conv not in self._convolutions:
            if self._suits(conv):
                made: Convolution = winograd.WinogradConv(conv, activation)
            else:
                made = FusedConv(conv, None if activation is None else fused_activation(activation))
            self._convolutions[conv] = made
        return self._convolutions[conv]

    def _connect(self, stage: Stage, inputs: Sequence[object]) -> Stage:
        self.stages.append(stage)
        for port, item in enumerate(inputs):
            if not isinstance(item, fx.Node) or item not in self._made:
                raise NotStreamableError(f"an input that is no layer's output: {item}")
            self._made[item].consumers.append((stage, port))
        return stage

    def _find_chains(self, module: fx.GraphModule) -> None:
        """Consecutive residual blocks become one stage, made when its last addition is reached."""
        for node in module.graph.nodes:
            block = self._residual_block(node)
            if block is None:
                continue
            start, inner, parts = block
            before = self._chain_ends.pop(start, None) if len(start.users) == 2 else None
            if before is not None:
                self._skipped.add(start)
            self._chain_ends[node] = [*(before or []), (start, *parts)]
            self._skipped |= inner

    def _find_bases(self, module: fx.GraphModule) -> None:
        """Enlarged images that are joined to shuffled channels are joined before the shuffle, at the small size."""
        for node in module.graph.nodes:
            operation = _operation(node)
            if operation is None:
                continue
            for one, other in (node.args, node.args[::-1]):
                enlarge, base = self._leaf(other if isinstance(other, fx.Node) else None, nn.Upsample)
                if one is other or base is None or not isinstance(one, fx.Node):
                    continue
                before = self._shuffled(one)
                assert isinstance(enlarge, nn.Upsample)
                nearest = enlarge.mode == "nearest" and enlarge.size is None
                if before is not None and nearest and enlarge.scale_factor == before.factor:
                    self._bases.pop(one, None)
                    self._bases[node] = before.joined(operation, base)
                    self._skipped |= {one, other}
                    break

    def _shuffled(self, node: fx.Node) -> _Shuffled | None:
        """What a node shuffles, where nothing else reads its result or what it is made of."""
        if node in self._bases:
            return self._bases[node] if len(node.users) == 1 else None
        shuffle, source = self._leaf(node, nn.PixelShuffle)
        conv, _ = self._leaf(source, nn.Conv2d)  # whose result nothing else reads, so that it may be changed
        if not isinstance(shuffle, nn.PixelShuffle) or not isinstance(conv, nn.Conv2d) or source is None:
            return None
        return _Shuffled(shuffle.upscale_factor, (source,), ()) if source not in self._bases else None

    def _residual_block(
        self, node: fx.Node
    ) -> tuple[fx.Node, set[fx.Node], tuple[nn.Conv2d, nn.Module, nn.Conv2d]] | None:
        """Whether a node is x + conv2(act(conv1(x))), with nothing inside used elsewhere."""
        if not is_add(node):
            return None
        for start, end in (node.args, node.args[::-1]):
            if not (isinstance(start, fx.Node) and isinstance(end, fx.Node)):
                continue
            second, act_node = self._leaf(end, nn.Conv2d)
            act, first_node = self._leaf(act_node, nn.Module)
            first, before = self._leaf(first_node, nn.Conv2d)
            if before is not start or act is None or fused_activation(act) is None:
                continue
            assert isinstance(first, nn.Conv2d)
            assert isinstance(second, nn.Conv2d)
            assert act_node is not None
            assert first_node is not None
            _check(first)
            _check(second)
            return start, {end, act_node, first_node}, (first, act, second)
        return None

    def _leaf(self, node: fx.Node | None, kind: type[nn.Module]) -> tuple[nn.Module | None, fx.Node | None]:
        """The module of a node with one user, and the node before it."""
        if node is None or node.op != "call_module" or len(node.users) != 1:
            return None, None
        module, before = self._modules[str(node.target)], node.args[0]
        if not isinstance(module, kind) or not isinstance(before, fx.Node):
            return None, None
        return module, before


def _only_module(node: fx.Node) -> fx.Node | None:
    """The layer that alone reads a node's result."""
    user = next(iter(node.users), None)
    return user if len(node.users) == 1 and user is not None and user.op == "call_module" else None


def _stage(row: LayerBehaviour, call: Call) -> Stage:
    """The stage of a layer with one input."""
    if row.kind in _ROWWISE:
        module = call.called
        if module is not None and row.kind is not Kind.ENLARGE:
            return PointwiseStage(module)
        return PointwiseStage(lambda rows: _laid_out(call, [rows]))
    if row.kind is Kind.UNSHUFFLE:
        return UnshuffleStage(int(call.get("downscale_factor", 1, None)))
    if isinstance(call.module, nn.MaxPool2d):
        return MaxPoolStage(call.module)
    window = row.reads(call, 0)
    if row.kind is Kind.BILINEAR and window is not None and window.rate.denominator == 1:
        return BilinearStage(lambda rows: _laid_out(call, [rows]), int(window.rate))
    raise NotStreamableError(f"{call.title} does not run in strips")


def _laid_out(call: Call, rows: Sequence[Tensor]) -> Tensor:
    """A layer's result as the next convolution wants it."""
    result: Tensor = call.apply(rows)
    return result.contiguous(memory_format=torch.channels_last)


def _check(conv: nn.Conv2d) -> None:
    """Only odd, stride-1, undilated, ungrouped convolutions that keep the size."""
    same = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
    odd = all(size % 2 for size in conv.kernel_size)
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1
    if not (odd and plain and conv.padding_mode == "zeros" and conv.padding in (same, "same")):
        raise NotStreamableError(f"{conv} does not run in strips")


def _same_for_all_channels(activation: nn.Module) -> bool:
    """Whether it makes no difference if channels are shuffled before or after an activation."""
    return isinstance(activation, nn.ReLU | nn.LeakyReLU) or (
        isinstance(activation, nn.PReLU) and activation.num_parameters == 1
    )
