"""How the libraries of a GPU say that memory ran out, and what counts as free."""

import pytest
import torch

from gankit.backends.base import EngineMemoryError
from gankit.backends.memory import free_memory, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        EngineMemoryError("the engine is out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Unable to find an engine to execute this computation"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_every_wording(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"), ValueError("shape"), KeyError("memory")])
def test_other_errors(error):
    assert not is_out_of_memory(error)


def test_what_torch_keeps_for_later_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert free_memory("cuda:0") == 1400
