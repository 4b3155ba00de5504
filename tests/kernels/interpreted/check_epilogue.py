"""The epilogue's kernels with every activation, layout, dtype and optional part, against float64."""

import itertools

import pytest
import torch
from gankit_kernels.on_cuda.epilogue import EpilogueCall, launch, launch_in_place, plan
from gankit_kernels.specs import EpilogueSpec

from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded, exact_epilogue, image, same_layout

SHAPES = (2, 16, 5, 7), (1, 3, 6, 9), (1, 12, 4, 8), (1, 300, 3, 4)


def run(x, bias=None, prelu=None, residual=None, **fields):
    result = launch(x, bias, prelu, residual, EpilogueSpec(**fields))
    assert same_layout(result, x)
    return result


def check(x, bias=None, prelu=None, residual=None, **fields):
    exact = exact_epilogue(x, bias, prelu, residual, **fields)
    assert_rounded(run(x, bias, prelu, residual, **fields), exact, x.dtype)
    if not any(fields.get("pads", ())):
        copy = x.clone(memory_format=torch.preserve_format)
        launch_in_place(copy, bias, prelu, residual, EpilogueSpec(**fields))
        assert_rounded(copy, exact, x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu", "tanh", "shared", "channel"])
def test_every_activation_and_part(layout, dtype, activation):
    for shape in SHAPES[:2]:
        channels = shape[1]
        x, residual = image(shape, dtype, layout), image(shape, dtype, layout, seed=1)
        slopes = {"shared": torch.tensor([0.25]), "channel": torch.rand(channels)}.get(activation)
        name = "none" if slopes is not None else activation
        for biased, added, before in itertools.product((False, True), repeat=3):
            if (before and not added) or (dtype != torch.float16 and not (biased and added)):
                continue
            fields = {"activation": name, "slope": 0.2, "scale": 0.2 if biased else 1.0, "before": before}
            check(x, torch.randn(channels) if biased else None, slopes, residual if added else None, **fields)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_companions_of_other_dtypes_and_layouts(layout):
    other = "planes" if layout == "channels_last" else "channels_last"
    x, residual = image((2, 16, 5, 6), torch.float16, layout), image((2, 16, 5, 6), torch.float32, other, seed=1)
    check(x, torch.randn(16).bfloat16(), torch.rand(16).half(), residual)


@pytest.mark.parametrize("shape", SHAPES)
def test_borders(shape):
    """Of several widths; in planes torch adds them."""
    for layout, pads in itertools.product(LAYOUTS, ((1, 1, 1, 1), (0, 1, 0, 1), (3, 0, 2, 1))):
        x, residual = image(shape, torch.float16, layout), image(shape, torch.float16, layout, seed=1)
        check(x, torch.randn(shape[1]), None, residual, activation="relu", pads=pads)
        check(x, pads=pads)


def test_views_of_channels_last_are_read_in_place():
    wide = image((2, 16, 9, 10), torch.float16, "channels_last", seed=1)
    x, view = image((2, 16, 7, 8), torch.float16, "channels_last"), wide[:, :, 1:-1, 1:-1]
    check(x, torch.randn(16), None, view, activation="relu")
    check(x, torch.randn(16), None, view, pads=(1, 2, 0, 1))
    check(wide[:, :3], torch.randn(3), activation="tanh")
    check(wide[:, :12], torch.randn(12))
    check(wide[1:, :, 2:], torch.randn(16))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_blocks_along_every_axis(layout):
    for channels, height, width in ((8, 70, 130), (320, 9, 13), (3, 50, 61)):
        x = image((2, channels, height, width), torch.float16, layout)
        check(x, torch.randn(channels), torch.rand(channels), image(x.shape, x.dtype, layout, seed=1))


def test_nan_is_not_hidden():
    x = image((1, 16, 4, 4))
    x[0, 3, 1, 1] = torch.nan
    for layout in LAYOUTS.values():
        for activation in ("relu", "leaky_relu", "tanh"):
            result = run(x.contiguous(memory_format=layout), torch.zeros(16), activation=activation)
            assert int(result.isnan().sum()) == 1


def test_slices_and_empty():
    wide = image((4, 16, 6, 8), torch.float16)
    for x in (wide[::2], wide[:, 4:8], wide[..., 1:6]):
        check(x, torch.randn(x.shape[1]))
        copy = wide.clone()
        view = copy.as_strided(x.shape, x.stride(), x.storage_offset())
        launch_in_place(view, None, None, None, EpilogueSpec("relu"))
        assert torch.equal(view, x.relu())
    assert run(torch.empty(0, 16, 4, 4)).shape == (0, 16, 4, 4)
    launch_in_place(torch.empty(2, 16, 0, 4), None, None, None, EpilogueSpec())


def test_the_default_kernels():
    def kernel(channels, *, last=True, strides=None, dtype=torch.float16):
        call = EpilogueCall((1, channels, 8, 8), dtype, last, True, 0, False, "relu", False, (0, 0, 0, 0), strides)
        return plan(call)._kernel.fn.__name__

    assert kernel(64) == "pixels"
    assert kernel(4, dtype=torch.float32) == "pixels"
    assert kernel(12) == kernel(3) == "values"
    assert kernel(64, last=False) == "planes"
    assert kernel(64, strides=((4096, 1, 512, 64), (0, 1, 0, 0))) == "bordered"
