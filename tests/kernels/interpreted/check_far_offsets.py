"""Images more than 2³¹ values apart, where a kernel with 32-bit offsets would read the wrong memory.

The values between are never touched, so their memory is reserved but not used.
"""

import mmap
import sys

import pytest
import torch
from gankit_kernels.instance_norm import NormSpec
from gankit_kernels.on_cuda.instance_norm import launch as norm
from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle
from gankit_kernels.pixel_shuffle import ShuffleSpec

from tests.kernels.cases import LAYOUTS, assert_rounded, exact_norm, exact_shuffle, image

APART = 2**31 + 4096
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reserves memory the way Linux does")


def far(x: torch.Tensor) -> torch.Tensor:
    """A view of the two images of ``x``, moved APART values from each other."""
    count = APART + x[0].numel() + 64
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE, which Python 3.11 has no name for
    try:
        room = mmap.mmap(-1, count * x.itemsize, flags=flags)
    except OSError:
        pytest.skip("this system does not overcommit memory")
    result = torch.frombuffer(room, dtype=x.dtype).as_strided(x.shape, (APART, *x.stride()[1:]))
    return result.copy_(x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sms", [1, 132])
def test_norm(monkeypatch, layout, sms):
    """With one multiprocessor, planes with a border run alone; with many they are split."""
    monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm.processors", lambda device: sms)
    for shape, pad in (((2, 4, 8, 12), 0), ((2, 4, 8, 12), 1), ((2, 3, 40, 56), 0)):
        near = image(shape, torch.float16, layout)
        x, residual = far(near), far(image(shape, torch.float16, layout, seed=1))
        result = norm(x, None, None, residual, NormSpec("relu", pad=pad))
        assert_rounded(result, exact_norm(near, residual=residual, activation="relu", pad=pad), x.dtype)
        result = norm(x, None, None, residual, NormSpec("relu", pad=pad, whole=True))
        assert_rounded(result, exact_norm(near, residual=residual, activation="relu", pad=pad, whole=True), x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dcr", [False, True])
def test_shuffle(layout, dcr):
    for r in (2, 3):
        near = image((2, 8 * r * r, 2, 6), torch.float16, layout)
        result = shuffle(far(near), None, None, ShuffleSpec(r, dcr=dcr))
        assert_rounded(result, exact_shuffle(near, r, dcr=dcr), near.dtype)
