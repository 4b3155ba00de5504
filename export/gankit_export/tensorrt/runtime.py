"""Runs a TensorRT engine on torch tensors, by their addresses, and as a CUDA graph for shapes that come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gankit_export.gpu import Gpu
from gankit_export.tensorrt.inspector import half_layers, int8_layers
from gankit_export.tensorrt.library import TensorRTError, collecting_logger, library
from gankit_export.tensorrt.profiles import Profile, Range, Shape

_MOST_CONTEXTS = 4
_CALLS_BEFORE_GRAPH = 2  # TensorRT sets a shape up in its first call, which a graph must not contain


@dataclass
class _Prepared:
    """An execution context for one set of shapes, with its own memory.

    A CUDA graph holds the addresses of that memory, and nothing else may change the context from which it was recorded.
    """

    context: Any
    inputs: tuple[Tensor, ...]
    output: Tensor
    scratch: Tensor | None
    calls: int = 0
    replay: Callable[[], None] | None = None


class Session:
    """A loaded engine with one output.

    Its scratch memory is torch's, and only as large as the shapes of a call need: memory that runs out raises
    ``torch.OutOfMemoryError``, and is free for others between calls of other shapes.

    Args:
        plan: the serialized engine.
        gpu: where it runs.
        graphs: whether to record CUDA graphs.

    Attributes:
        inputs: dtype of each input, by its name, in the order of the file.
        output: name of the output.
        profiles: shapes that it takes.

    Raises:
        TensorRTError: If TensorRT cannot load the plan, or the engine has not exactly one output.
    """

    def __init__(self, plan: bytes, gpu: Gpu, *, graphs: bool = True) -> None:
        self._trt = trt = library()
        self._gpu, self._graphs = gpu, graphs
        self._logger = collecting_logger(trt)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise TensorRTError(f"TensorRT cannot load the engine: {self._logger.reason('it gives no reason')}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        if len(outputs) != 1:
            raise TensorRTError(f"the engine has {len(outputs)} outputs, and a generator has one")
        self.output = outputs[0]
        self.inputs = {name: self._dtype(name) for name in names if name != self.output}
        self.profiles = tuple(map(self._profile, range(self._engine.num_optimization_profiles)))
        self._prepared: OrderedDict[tuple[Shape, ...], _Prepared] = OrderedDict()

    @property
    def largest_batch(self) -> int:
        """The largest batch of all profiles."""
        return max(shapes.most[0] for profile in self.profiles for shapes in profile.inputs.values())

    def profile_for(self, *shapes: Sequence[int]) -> int | None:
        """Return the number of the first profile that admits inputs of these shapes; ``None`` if there is none."""
        given = dict(zip(self.inputs, shapes, strict=True))
        return next((index for index, profile in enumerate(self.profiles) if profile.admits(given)), None)

    def run(self, *tensors: Tensor) -> Tensor:
        """Queue the engine on the stream of the GPU; call it inside of :meth:`Gpu.scope`.

        Args:
            tensors: the inputs in their order, on the GPU, contiguous, in the dtypes of :attr:`inputs`.

        Returns:
            The output on the GPU, which nothing overwrites.

        Raises:
            ValueError: If the number, a dtype, the layout or the device is wrong. The addresses are used as they are.
            TensorRTError: If no profile admits the shapes, or TensorRT fails.
            torch.OutOfMemoryError: If the memory of the GPU does not suffice.
        """
        self._check(tensors)
        shapes = tuple(tuple(item.shape) for item in tensors)
        profile = self.profile_for(*shapes)
        if profile is None:
            wanted = " or ".join(map(str, self.profiles))
            given = ", ".join("x".join(map(str, shape)) for shape in shapes)
            raise TensorRTError(f"the engine takes {wanted}, not {given}")
        prepared = self._ready(profile, shapes)
        for held, item in zip(prepared.inputs, tensors, strict=True):
            held.copy_(item)
        prepared.calls += 1
        if prepared.replay is None and self._graphs and prepared.calls > _CALLS_BEFORE_GRAPH:
            self._record(prepared)
        if prepared.replay is not None:
            prepared.replay()
        else:
            self._queue(prepared)
        return prepared.output.clone()

    def half_layers(self) -> tuple[int, int]:
        """Count the half-precision layers and all that compute in floating point; see :mod:`.inspector`."""
        return half_layers(self._described())

    def int8_layers(self) -> tuple[int, int]:
        """Count the layers that read int8, and all; see :mod:`.inspector`."""
        return int8_layers(self._described())

    def _described(self) -> str:
        """Return what the inspector says of the layers, in JSON."""
        inspector = self._engine.create_engine_inspector()
        best = {name: shapes.best for name, shapes in self.profiles[0].inputs.items()}
        context = self._context(0, [best[name] for name in self.inputs])
        inspector.execution_context = context  # without it, layers with dynamic shapes have no data types
        text: str = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        return text

    def close(self) -> None:
        """Release the contexts, the graphs and the engine."""
        self._gpu.synchronize()
        self._prepared.clear()
        self._engine = self._runtime = None

    def _check(self, tensors: Sequence[Tensor]) -> None:
        if len(tensors) != len(self.inputs):
            raise ValueError(f"the engine takes {len(self.inputs)} tensors, not {len(tensors)}")
        for (name, dtype), item in zip(self.inputs.items(), tensors, strict=True):
            if item.dtype != dtype:
                raise ValueError(f"'{name}' must be {dtype}, not {item.dtype}")
            if not item.is_contiguous() or item.device != self._gpu.device:
                raise ValueError(f"'{name}' must be contiguous on {self._gpu.device}")

    def _ready(self, profile: int, shapes: tuple[Shape, ...]) -> _Prepared:
        if shapes in self._prepared:
            self._prepared.move_to_end(shapes)
            return self._prepared[shapes]
        if len(self._prepared) >= _MOST_CONTEXTS:
            self._gpu.synchronize()  # its graph may still run
            self._prepared.popitem(last=False)
        context = self._context(profile, shapes)
        made = tuple(int(side) for side in context.get_tensor_shape(self.output))
        size = context.update_device_memory_size_for_shapes()
        scratch = self._gpu.empty((size,), torch.uint8) if size else None
        if scratch is not None:
            context.set_device_memory(scratch.data_ptr(), size)
        prepared = _Prepared(
            context,
            tuple(self._gpu.empty(shape, dtype) for shape, dtype in zip(shapes, self.inputs.values(), strict=True)),
            self._gpu.empty(made, self._dtype(self.output)),
            scratch,
        )
        held = zip((*self.inputs, self.output), (*prepared.inputs, prepared.output), strict=True)
        for name, tensor in held:
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise TensorRTError(f"TensorRT refuses the address of '{name}': {self._logger.reason('no reason')}")
        self._prepared[shapes] = prepared
        return prepared

    def _context(self, profile: int, shapes: Sequence[Sequence[int]]) -> Any:
        """Return a new execution context with its profile and its shapes set, without memory."""
        context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise TensorRTError(f"TensorRT cannot run the engine: {self._logger.reason('it gives no reason')}")
        if not context.set_optimization_profile_async(profile, self._gpu.handle):
            raise TensorRTError(f"TensorRT refuses profile {profile}: {self._logger.reason('it gives no reason')}")
        for name, shape in zip(self.inputs, shapes, strict=True):
            if not context.set_input_shape(name, tuple(shape)):
                raise TensorRTError(f"TensorRT refuses {tuple(shape)} for '{name}': {self._logger.reason('no reason')}")
        if unknown := context.infer_shapes():
            raise TensorRTError(f"TensorRT does not know the shape of {', '.join(unknown)}")
        return context

    def _queue(self, prepared: _Prepared) -> None:
        if not prepared.context.execute_async_v3(self._gpu.handle):
            raise TensorRTError(f"TensorRT failed: {self._logger.reason('it gives no reason')}")

    def _record(self, prepared: _Prepared) -> None:
        try:
            prepared.replay = self._gpu.capture(lambda: self._queue(prepared))
        except RuntimeError:  # some layers synchronize; they run without a graph
            self._graphs = False

    def _profile(self, index: int) -> Profile:
        ranges: Mapping[str, Range] = {
            name: Range(*(tuple(map(int, item)) for item in self._engine.get_tensor_profile_shape(name, index)))
            for name in self.inputs
        }
        return Profile(ranges)

    def _dtype(self, name: str) -> torch.dtype:
        trt = self._trt
        known = {
            trt.DataType.FLOAT: torch.float32,
            trt.DataType.HALF: torch.float16,
            trt.DataType.BF16: torch.bfloat16,
            trt.DataType.INT32: torch.int32,
            trt.DataType.INT64: torch.int64,
            trt.DataType.UINT8: torch.uint8,
        }
        kind = self._engine.get_tensor_dtype(name)
        if kind not in known:
            raise TensorRTError(f"'{name}' of the engine has the type {kind}, which torch has not")
        return known[kind]
