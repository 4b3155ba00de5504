"""The spreading epilogue's kernel against float64: every part, number of targets, dtype and odd number of channels."""

import itertools

import pytest
import torch
from gankit_kernels.on_cuda.spread import launch
from gankit_kernels.specs import SpreadSpec

from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded, exact_epilogue, image


def check(x, widths, first, *, bias=None, prelu=None, residual=None, own="", layout="channels_last", **fields):
    exact = exact_epilogue(x, bias, prelu, residual, **fields)
    samples, channels, height, width = x.shape
    targets = [image((samples, wide, height, width), x.dtype, layout, seed=3) for wide in widths]
    before = [target.clone() for target in targets]
    source = x.clone(memory_format=torch.preserve_format)
    result = {"": None, "in place": source, "apart": torch.empty_like(x)}[own]
    launch(source, bias, prelu, residual, result, targets, SpreadSpec(first=first, **fields))
    for item in [*(target[:, first : first + channels] for target in targets), *([] if result is None else [result])]:
        assert_rounded(item, exact, x.dtype)
    for target, old in zip(targets, before, strict=True):
        assert torch.equal(target[:, :first], old[:, :first])
        assert torch.equal(target[:, first + channels :], old[:, first + channels :])
    if own != "in place":
        assert torch.equal(source, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_part(dtype):
    shape = (2, 16, 5, 7)
    x, other = image(shape, dtype, "channels_last"), image(shape, dtype, "channels_last", seed=1)
    for biased, added, own in itertools.product((False, True), (False, True), ("", "in place", "apart")):
        fields = {"activation": "leaky_relu", "slope": 0.2, "scale": 0.2 if added else 1.0}
        bias = torch.randn(16) if biased else None
        check(x, (32, 48, 64, 80), 16, bias=bias, residual=other if added else None, own=own, **fields)
    check(x, (24, 32), 8, prelu=torch.rand(16))
    check(x, (24, 32), 8, prelu=torch.tensor([0.25]), residual=other, before=True)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_any_number_of_targets(count):
    x = image((1, 8, 6, 9), torch.float16, "channels_last")
    check(x, [16 + 8 * index for index in range(count)], 8, bias=torch.randn(8), own="in place", activation="relu")


@pytest.mark.parametrize(("channels", "first", "widths"), [(3, 1, (5, 9)), (12, 4, (16, 30)), (300, 0, (300, 333))])
def test_channels_of_any_number(channels, first, widths):
    check(image((1, channels, 3, 4), torch.float16, "channels_last"), widths, first, own="apart")


@pytest.mark.parametrize(("of_x", "of_targets"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_other_layouts(of_x, of_targets):
    x = image((2, 8, 5, 6), torch.float16, of_x)
    check(x, (16,), 8, bias=torch.randn(8), own="in place", layout=of_targets, residual=image(x.shape, seed=2))


def test_nothing():
    launch(torch.empty(0, 8, 4, 4), None, None, None, None, [torch.empty(0, 16, 4, 4)], SpreadSpec())
