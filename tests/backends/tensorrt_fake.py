"""TensorRT without a GPU: NVIDIA's own Python binding, and behind it a simulation that computes on the CPU.

The binding needs nine symbols of three libraries, which :func:`import_binding` compiles as stubs. Its enums, loggers
and monitors are the real ones. Every other call is held against the signature in the binding's docstring before the
simulation answers it, so that a wrong name, number or type of arguments is refused as the binding would refuse it. The
simulation runs the ONNX file on the addresses that it was given, and insists on the order of calls that TensorRT asks
for. It proves nothing of TensorRT's results or speed.
"""

import ctypes
import importlib
import inspect
import json
import shutil
import subprocess
import sys
import types
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from gankit_export.gpu import Gpu
from gankit_export.parity import open_file

from tests.backends.pybind_signatures import bind, fits

STUB = """
/* The names alone, for the dynamic loader. */
void *createInferBuilder_INTERNAL(void *l, int v) { return 0; }
void *createInferRefitter_INTERNAL(void *e, void *l, int v) { return 0; }
void *createInferRuntime_INTERNAL(void *l, int v) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *r, void *l, int v) { return 0; }
void *createNvOnnxParser_INTERNAL(void *n, void *l, int v) { return 0; }
void *getBuilderPluginRegistry(int c) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
_Bool initLibNvInferPlugins(void *l, const char *n) { return 0; }
"""
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
STREAM = 0x5EAF


def import_binding(package: Path, work: Path) -> types.ModuleType:
    """Import a copy of the folder ``tensorrt_bindings`` of a wheel, with stub libraries beside it."""
    copy = work / "tensorrt_bindings"
    shutil.copytree(package, copy)
    source = work / "stub.c"
    source.write_text(STUB)
    major = next(
        line.split('"')[1].split(".")[0]
        for line in (copy / "__init__.py").read_text().splitlines()
        if line.startswith("__version__")
    )
    for name in LIBRARIES:
        file = f"lib{name}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{file}", "-o", str(copy / file), str(source)], check=True
        )
    sys.path.insert(0, str(work))
    return importlib.import_module("tensorrt_bindings")


class Contract:
    """What the fake knows of one binding.

    Attributes:
        trt: the binding.
        calls: names of the calls and settings that the binding's signatures accepted.
        fail: a simulated failure: ``"parse"``, ``"build"``, ``"load"``, ``"run"``, ``"fp32"`` (an engine that is not
            typed), ``"far"`` (images that are far off), or nothing.
    """

    def __init__(self, trt: types.ModuleType) -> None:
        self.trt = trt
        self.calls: list[str] = []
        self.fail = ""
        self.built = 0

    @property
    def major(self) -> int:
        return int(self.trt.__version__.split(".")[0])

    def module(self) -> types.ModuleType:
        """The module ``tensorrt``: the binding, with the classes that need TensorRT's libraries replaced."""
        module = types.ModuleType("tensorrt")
        module.__spec__ = ModuleSpec("tensorrt", None)  # torch looks for it
        module.__dict__.update({name: getattr(self.trt, name) for name in dir(self.trt) if not name.startswith("__")})
        module.__version__ = self.trt.__version__
        for kind, simulation in (("Builder", Builder), ("OnnxParser", OnnxParser), ("Runtime", Runtime)):
            setattr(module, kind, self._constructor(kind, simulation))
        return module

    def _constructor(self, kind: str, simulation: type) -> Any:
        def make(*args: Any, **kwargs: Any) -> "Checked":
            made = Checked(self, kind, None)
            bind(kind, getattr(self.trt, kind).__init__.__doc__, self.is_a, made, *args, **kwargs)
            self.calls.append(kind)
            object.__setattr__(made, "_simulation", simulation(self, *args, **kwargs))
            return made

        return make

    def wrap(self, value: Any) -> Any:
        """Give the objects of the simulation out as objects of the binding."""
        if isinstance(value, Simulation):
            return Checked(self, value.kind, value)
        return [self.wrap(item) for item in value] if isinstance(value, list) else value

    def is_a(self, value: Any, kind: str) -> bool:
        if isinstance(value, Checked):
            return value._kind == kind or (kind == "IParserError" and value._kind == "ParserError")
        found = getattr(self.trt, kind, None)
        return inspect.isclass(found) and isinstance(value, found)


class Checked:
    """An object of the binding: every access is held against its class before the simulation sees it."""

    def __init__(self, contract: Contract, kind: str, simulation: Any) -> None:
        for name, value in (("_contract", contract), ("_kind", kind), ("_simulation", simulation)):
            object.__setattr__(self, name, value)

    def _member(self, name: str) -> Any:
        return inspect.getattr_static(getattr(self._contract.trt, self._kind), name)  # AttributeError: not here

    def __getattr__(self, name: str) -> Any:
        contract = self._contract
        member = self._member(name)
        if isinstance(member, property):
            return contract.wrap(getattr(self._simulation, name))
        doc = getattr(getattr(contract.trt, self._kind), name).__doc__

        def call(*args: Any, **kwargs: Any) -> Any:
            what = f"{self._kind}.{name}"
            signature = bind(what, doc, contract.is_a, self, *args, **kwargs)
            contract.calls.append(what)
            result = contract.wrap(getattr(self._simulation, name)(*args, **kwargs))
            wanted = signature.return_annotation
            assert result is None or fits(result, wanted, contract.is_a), f"the simulation of {what} is wrong"
            return result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        member = self._member(name)
        if not isinstance(member, property) or member.fset is None:
            raise AttributeError(f"{self._kind}.{name} cannot be set")
        bind(f"{self._kind}.{name}", member.fset.__doc__, self._contract.is_a, self, value)
        self._contract.calls.append(f"{self._kind}.{name}=")
        setattr(self._simulation, name, value)

    def __bytes__(self) -> bytes:
        assert self._kind == "IHostMemory"
        return bytes(self._simulation.content)


class Simulation:
    """An object behind the binding."""

    kind = ""

    def __init__(self, contract: Contract, **given: Any) -> None:
        self.contract = contract
        self.__dict__.update(given)


def inside(value: Checked) -> Any:
    return value._simulation


class HostMemory(Simulation):
    kind = "IHostMemory"


class Network(Simulation):
    kind = "INetworkDefinition"


class TimingCache(Simulation):
    kind = "ITimingCache"

    def serialize(self) -> HostMemory:
        return HostMemory(self.contract, content=self.content)


class OptimizationProfile(Simulation):
    kind = "IOptimizationProfile"

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, shapes={})

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = [list(min), list(opt), list(max)]


class Config(Simulation):
    kind = "IBuilderConfig"

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, profiles=[], flags={"TF32"}, cache=None)

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        assert pool_size > 0

    def add_optimization_profile(self, profile: Checked) -> int:
        self.profiles.append(inside(profile).shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
        return TimingCache(self.contract, content=bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: Checked, ignore_mismatch: bool) -> bool:
        ok = inside(cache).content in (b"", b"timings")
        self.cache = inside(cache) if ok else self.cache
        return ok

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class ParserError(Simulation):
    kind = "ParserError"

    def desc(self) -> str:
        return "no importer\nfor this"

    def node_name(self) -> str:
        return "/body/7/Conv"

    def node_operator(self) -> str:
        return "Conv"


class OnnxParser(Simulation):
    kind = "OnnxParser"

    def __init__(self, contract: Contract, network: Checked, logger: Any) -> None:
        super().__init__(contract, network=inside(network), num_errors=0)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        self.network.model = bytes(model)
        self.num_errors = int(self.contract.fail == "parse")
        return not self.num_errors

    def get_error(self, index: int) -> ParserError:
        assert index < self.num_errors
        return ParserError(self.contract)


class Builder(Simulation):
    kind = "Builder"

    def __init__(self, contract: Contract, logger: Any) -> None:
        super().__init__(contract, logger=logger)

    def create_network(self, flags: int = 0) -> Network:
        strong = 1 << int(self.contract.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        assert flags == strong, "the network is not strongly typed"
        return Network(self.contract, model=b"")

    def create_builder_config(self) -> Config:
        return Config(self.contract)

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile(self.contract)

    def build_serialized_network(self, network: Checked, config: Checked) -> HostMemory | None:
        settings, monitor = inside(config), inside(config).progress_monitor
        assert settings.profiling_verbosity == self.contract.trt.ProfilingVerbosity.DETAILED
        if self.contract.fail == "build":
            self.logger.log(self.contract.trt.ILogger.Severity.WARNING, "slow")
            self.logger.log(self.contract.trt.ILogger.Severity.ERROR, "Error Code 10:\n no implementation of /body/7")
            return None
        monitor.phase_start("Building", None, 4)
        for step in range(4):
            monitor.phase_start("Tactics", "Building", 2)
            for inner in range(2):
                if not monitor.step_complete("Tactics", inner):
                    return None
            monitor.phase_finish("Tactics")
            if not monitor.step_complete("Building", step):
                return None
        monitor.phase_finish("Building")
        settings.cache.content = b"timings"
        self.contract.built += 1
        head = json.dumps({"profiles": settings.profiles, "tf32": "TF32" in settings.flags}).encode()
        return HostMemory(self.contract, content=head + b"\n" + inside(network).model)


class Runtime(Simulation):
    kind = "Runtime"

    def __init__(self, contract: Contract, logger: Any) -> None:
        super().__init__(contract, logger=logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "CudaEngine | None":
        if self.contract.fail == "load":
            self.logger.log(self.contract.trt.ILogger.Severity.ERROR, "version tag does not match")
            return None
        head, _, model = bytes(serialized_engine).partition(b"\n")
        return CudaEngine(self.contract, profiles=json.loads(head)["profiles"], model=onnx.load_from_string(model))


class CudaEngine(Simulation):
    kind = "ICudaEngine"

    def __init__(self, contract: Contract, profiles: list[Any], model: Any) -> None:
        super().__init__(contract, profiles=profiles, num_optimization_profiles=len(profiles))
        self.tensors = {item.name: item.type.tensor_type for item in (*model.graph.input, *model.graph.output)}
        self.names = [*self.tensors]
        self.outputs = {item.name for item in model.graph.output}
        self.num_io_tensors = len(self.names)
        self.int8 = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        path = Path(importlib.import_module("tempfile").mkdtemp()) / "model.onnx"
        onnx.save(model, path)
        types = {item.data_type for item in model.graph.initializer}
        self.half = bool(types & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
        self.compute = open_file(path, "openvino" if onnx.TensorProto.BFLOAT16 in types else "onnxruntime", threads=1)

    def dtype(self, name: str) -> type:
        """Of the values in the memory of a tensor."""
        kind = self.tensors[name].elem_type
        return {onnx.TensorProto.INT64: np.int64, onnx.TensorProto.UINT8: np.uint8}.get(kind, np.float32)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self.contract.trt.TensorIOMode
        return mode.OUTPUT if name in self.outputs else mode.INPUT

    def get_tensor_dtype(self, name: str) -> Any:
        kinds = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.INT64: "INT64", onnx.TensorProto.UINT8: "UINT8"}
        return getattr(self.contract.trt.DataType, kinds[self.tensors[name].elem_type])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.profiles[profile_index][name]]

    def create_execution_context(self, strategy: Any) -> "ExecutionContext":
        assert strategy == self.contract.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return ExecutionContext(self.contract, self)

    def create_engine_inspector(self) -> "Inspector":
        return Inspector(self.contract, engine=self, execution_context=None)


class Inspector(Simulation):
    kind = "EngineInspector"

    def get_engine_information(self, format: Any) -> str:
        assert format == self.contract.trt.LayerInformationFormat.JSON
        word = "Half" if self.engine.half and self.contract.fail != "fp32" else "Float"
        if self.execution_context is None:
            word = "N/A due to dynamic shapes"
        if self.engine.int8:
            word = "Int8"
        new = self.contract.major >= 11
        tensor = {"Format": "Row major linear", "DataType": word} if new else {"Format/Datatype": f"{word} format"}
        edge = {"Format": "N", "Datatype": "Float"} if new else {"Format/Datatype": "Row major linear FP32 format"}
        layers = [
            {"Name": "cast", "Inputs": [edge], "Outputs": [tensor]},
            {"Name": "conv", "Inputs": [tensor], "Outputs": [tensor]},
            {"Name": "shape", "Inputs": [], "Outputs": []},
        ]
        return json.dumps({"Layers": layers, ("I/O Tensors" if new else "Bindings"): []})


class ExecutionContext(Simulation):
    kind = "IExecutionContext"
    scratch = 4096

    def __init__(self, contract: Contract, engine: CudaEngine) -> None:
        super().__init__(contract, engine=engine, profile=None, shapes={}, addresses={}, memory=0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        self.profile = self.engine.profiles[profile_index]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.profile[name]
        inside_profile = len(shape) == len(least) and all(
            a <= b <= c for a, b, c in zip(least, shape, most, strict=True)
        )
        if inside_profile:
            self.shapes[name] = shape
        return inside_profile

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.names if name not in self.shapes and name not in self.engine.outputs]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name not in self.engine.outputs:
            return self.shapes[name]
        zeros = [
            np.zeros(self.shapes[item], self.engine.dtype(item))
            for item in self.engine.names
            if item not in self.engine.outputs
        ]
        return tuple(self.engine.compute(*zeros).shape)

    def update_device_memory_size_for_shapes(self) -> int:
        return self.scratch

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory
        assert size == self.scratch
        self.memory = memory

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return name in self.engine.names

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM, "another stream"
        assert self.memory, "no scratch memory"
        if self.contract.fail == "run":
            return False
        given = []
        for name in self.engine.names:
            if name not in self.engine.outputs:
                memory = self._memory(name, self.engine.dtype(name))
                given.append(np.ctypeslib.as_array(memory, self.shapes[name]).copy())
        (output,) = self.engine.outputs
        result = np.ascontiguousarray(self.engine.compute(*given), dtype=self.engine.dtype(output))
        if self.contract.fail == "far":
            result = result + result.dtype.type(26 if result.dtype == np.uint8 else 0.1)
        ctypes.memmove(self.addresses[output], result.ctypes.data, result.nbytes)
        return True

    def _memory(self, name: str, kind: type) -> Any:
        pointer = ctypes.POINTER(np.ctypeslib.as_ctypes_type(kind))
        return ctypes.cast(self.addresses[name], pointer)


class FakeGpu(Gpu):
    """The CPU in the place of a GPU, with graphs that run what was recorded.

    Attributes:
        captured: number of graphs that were recorded.
    """

    captured = 0

    def __init__(self, device: Any) -> None:
        self.device = torch.device("cpu")

    @property
    def handle(self) -> int:
        return STREAM

    @contextmanager
    def scope(self) -> Any:
        yield

    def synchronize(self) -> None:
        pass

    def capture(self, queue: Any) -> Any:
        type(self).captured += 1
        return queue
