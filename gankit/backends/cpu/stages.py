"""From a traced generator to the stages that stream it."""

from __future__ import annotations

import operator

import torch
from gankit_export.precision import Float32Norm
from gankit_export.rewrites.graph import is_add
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gankit.backends.cpu.fused import FusedConv, fused_activation
from gankit.backends.cpu.resampling import BilinearStage, UnshuffleStage
from gankit.backends.cpu.streaming import (
    ConvStage,
    JoinStage,
    NotStreamableError,
    PointwiseStage,
    ResidualChain,
    Sink,
    Stage,
)

_ROWWISE = (nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.Tanh, nn.Sigmoid, nn.Identity)


def build_stages(module: fx.GraphModule, strip_bytes: int) -> tuple[Stage, Sink, list[Stage]]:
    """The source, the sink and all stages, consumers connected.

    Args:
        module: traced generator.
        strip_bytes: bound of a layer's output in one strip.

    Raises:
        NotStreamableError: a layer needs the whole image, or is not known.
    """
    builder = _Builder(module, strip_bytes)
    for node in module.graph.nodes:
        builder.add(node)
    if builder.sink is None or builder.source is None:
        raise NotStreamableError("the network must have one input and one output")
    return builder.source, builder.sink, builder.stages


class _Builder:
    def __init__(self, module: fx.GraphModule, strip_bytes: int) -> None:
        self._modules = dict(module.named_modules())
        self._bytes = strip_bytes
        self._made: dict[fx.Node, Stage] = {}  # the stage whose output is the node's value
        self._skipped: set[fx.Node] = set()
        self._chain_ends: dict[fx.Node, list[tuple[fx.Node, nn.Conv2d, nn.Module, nn.Conv2d]]] = {}
        self.stages: list[Stage] = []
        self.source: Stage | None = None
        self.sink: Sink | None = None
        self._find_chains(module)

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
            convs = [(FusedConv(first, fused_activation(act)), FusedConv(second)) for _, first, act, second in blocks]
            self._made[node] = self._connect(ResidualChain(convs), [blocks[0][0]])
        elif is_add(node):
            self._made[node] = self._connect(JoinStage(2, _add), list(node.args[:2]))
        elif node.op == "call_function" and node.target is torch.cat:
            parts, dim = node.args[0], node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if dim != 1:
                raise NotStreamableError(f"concatenation along dimension {dim}")
            self._made[node] = self._connect(JoinStage(len(parts), _concatenate), list(parts))  # type: ignore[arg-type]
        elif (factor := _factor(node)) is not None:
            self._made[node] = self._connect(PointwiseStage(lambda rows: rows * factor), [node.args[0]])
        elif node.op == "call_module":
            self._module(node)
        else:
            raise NotStreamableError(f"{node.op} {node.target}")

    def _module(self, node: fx.Node) -> None:
        module = self._modules[str(node.target)]
        stage: Stage
        result = node
        if isinstance(module, nn.Conv2d):
            _check(module)
            activation, user = None, next(iter(node.users), None)
            if len(node.users) == 1 and user is not None and user.op == "call_module":
                activation = fused_activation(self._modules[str(user.target)])
                if activation is not None:
                    self._skipped.add(user)
                    result = user
            stage = ConvStage(FusedConv(module, activation), self._bytes)
        elif isinstance(module, nn.PixelShuffle):
            factor = module.upscale_factor
            stage = PointwiseStage(
                lambda rows: F.pixel_shuffle(rows, factor).contiguous(memory_format=torch.channels_last)
            )
        elif isinstance(module, nn.PixelUnshuffle):
            stage = UnshuffleStage(module.downscale_factor)
        elif isinstance(module, nn.Upsample) and module.mode == "bilinear" and not module.align_corners:
            stage = BilinearStage(module)
        elif _rowwise(module):
            stage = PointwiseStage(module)
        else:
            raise NotStreamableError(type(module).__name__)
        self._connect(stage, [node.args[0]])
        self._made[node] = self._made[result] = stage

    def _connect(self, stage: Stage, inputs: list[object]) -> Stage:
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


def _rowwise(module: nn.Module) -> bool:
    """Whether a layer's row needs no other row; a BatchNorm's does not where its statistics are fixed."""
    if isinstance(module, nn.Upsample):
        return module.mode == "nearest"
    norm = module.norm if isinstance(module, Float32Norm) else module
    fixed = isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats and not norm.training
    return fixed or isinstance(module, _ROWWISE)


def _factor(node: fx.Node) -> float | None:
    """The number of a traced node that multiplies one value by a number."""
    function = node.op == "call_function" and node.target in (operator.mul, torch.mul)
    if not (function or (node.op == "call_method" and node.target == "mul")) or len(node.args) != 2 or node.kwargs:
        return None
    value, factor = node.args
    return factor if isinstance(value, fx.Node) and isinstance(factor, (int, float)) else None


def _check(conv: nn.Conv2d) -> None:
    """Only odd, stride-1, undilated, ungrouped convolutions that keep the size."""
    same = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
    odd = all(size % 2 for size in conv.kernel_size)
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1
    if not (odd and plain and conv.padding_mode == "zeros" and conv.padding in (same, "same")):
        raise NotStreamableError(f"{conv}")


def _add(inputs: list[Tensor]) -> Tensor:
    return inputs[0] + inputs[1]


def _concatenate(inputs: list[Tensor]) -> Tensor:
    return torch.cat(inputs, dim=1).contiguous(memory_format=torch.channels_last)
