"""Pinned memory: who keeps it alive, and how much of it there is."""

import gc

import pytest
import torch

from gankit.backends.cuda.pinned import PinnedMemory


def memory(limit=1 << 20):
    sizes = []

    def allocate(size):
        sizes.append(size)
        return torch.empty(size, dtype=torch.uint8)

    return PinnedMemory(limit, allocate), sizes


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.int64, torch.bool])
def test_tensors_of_every_kind(dtype):
    pinned, sizes = memory()
    tensor = pinned.empty((2, 3, 5, 7), dtype, channels_last=True)
    assert (tensor.shape, tensor.dtype) == ((2, 3, 5, 7), dtype)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert sizes == [2 * 3 * 5 * 7 * dtype.itemsize]
    assert pinned.empty((), dtype).shape == ()
    assert pinned.empty((4, 0), dtype).shape == (4, 0)
    with torch.inference_mode():
        assert not pinned.empty((3,), dtype).is_inference()


@pytest.mark.slow
def test_memory_is_in_use_while_anything_shares_it():
    pinned, _ = memory()
    tensor = pinned.empty((1, 3, 10, 10), torch.uint8, channels_last=True)
    assert pinned.used == 512  # 300 bytes
    view = tensor[0, :1]
    array = view.numpy()[0]
    for name in ("tensor", "view"):
        assert name
        tensor = view if name == "tensor" else None
        if name == "view":
            view = None
        gc.collect()
        assert pinned.used == 512
    del array
    gc.collect()
    assert pinned.used == 0


def test_the_limit():
    pinned, sizes = memory(2048)
    kept = [pinned.empty((1000,), torch.uint8) for _ in range(3)]
    assert (len(sizes), pinned.used) == (2, 2048)
    kept.pop(0)
    kept.append(pinned.empty((1000,), torch.uint8))
    assert (len(sizes), pinned.used) == (3, 2048)


def test_a_system_that_pins_no_more():
    def refuse(size):
        raise RuntimeError("CUDA error: out of memory")

    pinned = PinnedMemory(1 << 20, refuse)
    assert pinned.empty((3, 4), torch.float32).shape == (3, 4)
    assert pinned.used == 0
