"""Runtimes that find no memory: their own exceptions become the one that the pipeline backs off from."""

import numpy as np
import pytest
import torch

from gankit import models
from gankit.backends.base import EngineMemoryError

# As they come where the address space is limited.
ORT = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Status Message: "
    "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 150994944\n"
)
OPENVINO = (
    "Exception from src/inference/src/cpp/infer_request.cpp:224:\n[CPU] Convolution node Check 'ptr' failed at "
    "src/plugins/intel_cpu/src/cpu_memory.cpp:257:\nFailed to allocate 150994944 bytes of memory\n\n\n"
)
BATCH = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)


class Raises:
    """A session or request that fails."""

    def __init__(self, error):
        self.error = error

    def run(self, *_):
        raise self.error

    def infer(self, *_, **__):
        raise self.error


def ready(kind, **attributes):
    """An engine without a runtime."""
    engine = kind.__new__(kind)
    engine._facts = models.facts("srgan")
    vars(engine).update(attributes)
    return engine


@pytest.mark.parametrize("error", [Exception(ORT), Exception("std::bad_alloc"), MemoryError()])
def test_onnx_runtime(error):
    from gankit.backends.onnx_runtime import OnnxRuntimeEngine

    with pytest.raises(EngineMemoryError):
        ready(OnnxRuntimeEngine, _session=Raises(error), _inputs=["x"]).run(BATCH)


def test_openvino_starts_anew(monkeypatch):
    """A request that ran out of memory fails with every later batch: it must not be used again."""
    pytest.importorskip("openvino")
    from gankit.backends.open_vino import OpenVinoEngine

    class Works:
        def create_infer_request(self):
            return self

        def infer(self, inputs, **_):
            return [np.asarray(inputs[0])]

    engine = ready(OpenVinoEngine, _queues={}, _requests={np.dtype(np.uint8): Raises(RuntimeError(OPENVINO))})
    monkeypatch.setattr(engine, "_compile", lambda dtype: Works())
    with pytest.raises(EngineMemoryError):
        engine.run(BATCH)
    assert engine.run(BATCH).shape == BATCH.shape


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyboardInterrupt()])
def test_other_errors_stay(error):
    pytest.importorskip("openvino")
    from gankit.backends.onnx_runtime import OnnxRuntimeEngine
    from gankit.backends.open_vino import OpenVinoEngine

    for engine in (
        ready(OnnxRuntimeEngine, _session=Raises(error), _inputs=["x"]),
        ready(OpenVinoEngine, _queues={}, _requests={np.dtype(np.uint8): Raises(error)}),
    ):
        with pytest.raises(type(error)) as caught:
            engine.run(BATCH)
        assert caught.value is error
