"""Conversion of pixels to values and back, which equals the reference bit for bit."""

import pytest
import torch
from gankit_kernels.on_cuda.pixels import launch_from, launch_to
from gankit_kernels.pixels import PixelsSpec, ValuesSpec, pixels_composite, values_composite

from tests.kernels.cases import DTYPES


def to_values(x, low, high, dtype, last=False):
    """The kernel's values, and the reference's."""
    spec = ValuesSpec(low, high, dtype, last)
    return launch_from(x, spec), values_composite(x, spec)


def to_pixels(x, low, high, dtype):
    """The kernel's pixels, and the reference's, as integers that torch can compare."""
    spec = PixelsSpec(low, high, dtype)
    return launch_to(x, spec).int(), pixels_composite(x, spec).int()


RANGES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]
SHAPES = [(2, 6, 8, 3), (1, 5, 7, 3), (1, 16, 130, 3), (2, 5, 6, 4), (1, 9, 4, 1), (1, 2, 3, 20)]


def random(shape, dtype):
    return torch.randint(0, 65536 if dtype == torch.uint16 else 256, shape).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("last", [False, True])
def test_values(dtype, last):
    for low, high in RANGES:
        for shape in SHAPES:
            x = random(shape, dtype)
            for out in (torch.float32, torch.float16):
                assert torch.equal(*to_values(x, low, high, out, last))


def test_every_value_of_a_byte_in_every_place():
    x = torch.arange(256, dtype=torch.uint8).repeat(6).reshape(1, 8, 64, 3)
    for low, high in RANGES:
        assert torch.equal(*to_values(x, low, high, torch.float32))


def test_values_in_bfloat16_which_the_interpreter_truncates():
    x = random((1, 8, 8, 3), torch.uint8)
    result, wanted = to_values(x, -1.0, 1.0, torch.bfloat16)
    torch.testing.assert_close(result, wanted, rtol=2**-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels(dtype, layout):
    for low, high in RANGES:
        for samples, height, width, channels in SHAPES:
            x = low + (torch.rand(samples, channels, height, width) * 1.4 - 0.2) * (high - low)
            for source in DTYPES:
                values = x.to(source).contiguous(memory_format=layout)
                assert torch.equal(*to_pixels(values, low, high, dtype))


def test_halves_are_rounded_to_even_and_all_is_clamped():
    ties = torch.arange(-4, 520).float() / 2
    for layout in (torch.contiguous_format, torch.channels_last):
        values = ties.repeat(3).reshape(1, 3, 4, 131).contiguous(memory_format=layout)
        result = launch_to(values, PixelsSpec(0.0, 255.0, torch.uint8)).permute(0, 3, 1, 2).reshape(3, -1)[0]
        assert torch.equal(result, ties.clamp(0, 255).round().to(torch.uint8))
    huge = torch.tensor([-torch.inf, torch.inf, 1e30, -1e30]).reshape(1, 1, 2, 2)
    assert launch_to(huge, PixelsSpec(0.0, 1.0, torch.uint8)).flatten().tolist() == [0, 255, 255, 0]


def test_there_and_back():
    x = random((1, 12, 20, 3), torch.uint8)
    for low, high in RANGES:
        values = launch_from(x, ValuesSpec(low, high, torch.float32, False))
        assert torch.equal(launch_to(values, PixelsSpec(low, high, torch.uint8)), x)


def test_slices_and_empty():
    wide = random((4, 9, 10, 3), torch.uint8)
    for x in (wide[::2], wide[:, 1:], wide[:, :, 1:7], wide.flip(3)):
        assert torch.equal(*to_values(x, 0.0, 1.0, torch.float32))
    unaligned = torch.randint(0, 256, (1 + 8 * 8 * 3,)).to(torch.uint8)[1:].view(1, 8, 8, 3)
    assert torch.equal(*to_values(unaligned, 0.0, 1.0, torch.float32))
    values = torch.rand(4, 3, 8, 12)
    for x in (values[::2], values[..., 2:9], values[:, :, ::2]):
        assert torch.equal(*to_pixels(x, 0.0, 1.0, torch.uint8))
    assert launch_from(wide[:0], ValuesSpec(0.0, 1.0, torch.float16, True)).shape == (0, 3, 9, 10)
    assert launch_to(values[:0], PixelsSpec(0.0, 1.0, torch.uint8)).shape == (0, 8, 12, 3)
