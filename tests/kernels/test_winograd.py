"""3×3 and 5×5 convolutions by Winograd's algorithm, against torch in float64."""

import subprocess
import sys
import threading

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("llvmlite")

from gankit_kernels.on_cpu import llvm
from gankit_kernels.winograd import Winograd, suits

LANES = llvm.lanes()


def made(channels, results, seed=0, side=3):
    """Weight, bias and slopes; slopes of 0 to 1, with one that is negative."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(results, channels, side, side, generator=random)
    slopes = torch.rand(results, generator=random)
    slopes[0] = -0.5
    return weight, torch.randn(results, generator=random), slopes


def exact(x, weight, bias, slopes=None, padding=(0, 0)):
    y = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=padding)
    return y if slopes is None else torch.where(y < 0, y * slopes.double().view(1, -1, 1, 1), y)


def check(y, wanted):
    assert y.dtype == torch.float32
    assert y.shape == wanted.shape
    assert (y - wanted).abs().max() <= 3e-5 * wanted.abs().max()  # 1e-5 of random numbers in 256 channels


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (4, 4), (5, 9), (8, 8), (13, 21), (40, 6), (3, 130)])
@pytest.mark.parametrize("padding", [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_every_size_and_padding(size, padding):
    weight, bias, _ = made(2 * LANES, LANES)
    x = torch.randn(2, 2 * LANES, size[0] + 2 * (1 - padding[0]), size[1] + 2 * (1 - padding[1]))
    y = Winograd(weight, bias)(x, padding)
    check(y, exact(x, weight, bias, padding=padding))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3, 8, 32])
@pytest.mark.parametrize("results", [1, 2, 3, 4, 6, 24])
def test_numbers_of_channels(channels, results):
    """In panels of one, two and four registers, and with few and many tiles at a time."""
    weight, bias, slopes = made(channels * LANES, results * LANES)
    x = torch.randn(1, channels * LANES, 9, 30)
    check(Winograd(weight, bias, slopes)(x), exact(x, weight, bias, slopes))


@pytest.mark.parametrize("slopes", ["none", "zeros", "some"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_what_follows_the_convolution(slopes, bias, threads):
    weight, bias_values, some = made(LANES, LANES)
    given = {"none": None, "zeros": torch.zeros(LANES), "some": some}[slopes]
    convolve = Winograd(weight, bias_values if bias else None, given)
    x = torch.randn(3, LANES, 22, 17)
    wanted = exact(x, weight, bias_values if bias else None, given, (1, 1))
    check(convolve(x, (1, 1), threads=threads), wanted)
    y = torch.randn(wanted.shape).contiguous(memory_format=torch.channels_last)
    sums = y + wanted
    assert convolve(x, (1, 1), y, threads) is y
    check(y, sums)


def test_no_images():
    weight, bias, _ = made(LANES, LANES)
    assert Winograd(weight, bias)(torch.zeros(0, LANES, 8, 9), threads=2).shape == (0, LANES, 6, 7)


def test_rows_of_a_larger_image_are_read_and_written_in_place():
    weight, bias, _ = made(LANES, LANES)
    large = torch.randn(1, LANES, 30, 11).contiguous(memory_format=torch.channels_last)
    target = torch.zeros(1, LANES, 30, 11).contiguous(memory_format=torch.channels_last)
    Winograd(weight, bias)(large[:, :, 5:17], (0, 1), target[:, :, 6:16])
    check(target[:, :, 6:16], exact(large[:, :, 5:17], weight, bias, padding=(0, 1)))
    assert not target[:, :, :6].any()
    assert not target[:, :, 16:].any()


@pytest.mark.parametrize("layout", ["planes", "columns", "channels"])
def test_other_layouts_are_copied(layout):
    weight, bias, _ = made(LANES, LANES)
    last = torch.channels_last
    x = {
        "planes": torch.randn(1, LANES, 8, 8),
        "columns": torch.randn(1, LANES, 8, 20).contiguous(memory_format=last)[:, :, :, 3:11],
        "channels": torch.randn(1, 2 * LANES, 8, 8).contiguous(memory_format=last)[:, LANES:],
    }[layout]
    check(Winograd(weight, bias)(x), exact(x, weight, bias))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("slopes", [None, torch.zeros(LANES), torch.full((LANES,), 0.2)])
def test_what_is_not_finite_stays_visible(value, slopes):
    """Beside the pixels that see it, those of the same tiles may be lost; others are not."""
    weight, bias, _ = made(LANES, LANES)
    x = torch.zeros(1, LANES, 24, 24)
    x[0, 0, 12, 12] = value
    y = Winograd(weight.abs(), bias, slopes)(x, (1, 1))
    assert not y[:, :, 11:14, 11:14].isfinite().any() or slopes is not None
    assert not y[:, :, 11:14, 11:14].isfinite().all()
    assert y[:, :, :6].isfinite().all()
    assert Winograd(weight, bias)(torch.zeros(1, LANES, 24, 24)).isfinite().all()  # nothing is left over


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 9), (13, 21), (3, 70)])
@pytest.mark.parametrize("padding", [(2, 2), (0, 2), (1, 0)])
def test_five_rows_and_columns(size, padding):
    weight, bias, slopes = made(3 * LANES, LANES, side=5)
    x = torch.randn(2, 3 * LANES, size[0] + 2 * (2 - padding[0]), size[1] + 2 * (2 - padding[1]))
    check(Winograd(weight, bias, slopes)(x, padding), exact(x, weight, bias, slopes, padding))


@pytest.mark.parametrize("channels", [16, 32, 48, 256])  # some at a time
@pytest.mark.parametrize("results", [3, 12, 16, 48])
def test_registers_that_the_results_do_not_fill(channels, results):
    weight, bias, slopes = made(channels, results, side=5)
    x = torch.randn(1, channels, 14, 11)
    convolve, wanted = Winograd(weight, bias, slopes), exact(x, weight, bias, slopes, (2, 2))
    y = convolve(x, (2, 2), threads=2)
    check(y, wanted)
    assert (y - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    target = torch.ones(wanted.shape).contiguous(memory_format=torch.channels_last)
    assert convolve(x, (2, 2), target) is target
    check(target, wanted + 1)
    place = torch.ones(1, convolve.filled, 14, 11).contiguous(memory_format=torch.channels_last)
    check(convolve(x, (2, 2), out=place), wanted)
    check(place[:, :results], wanted)


def test_numbers_that_do_not_fill_registers():
    assert suits(LANES, 3 * LANES)
    assert not suits(LANES + 1, LANES)
    assert not suits(LANES, 3)
    assert suits(LANES, LANES + LANES // 2, 5)
    assert not suits(LANES, LANES + LANES // 2 - 1, 5)
    assert not suits(LANES, LANES, 7)


X = torch.zeros(1, LANES, 8, 8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("x", "rest", "error", "words"),
    [
        (torch.zeros(1, 2 * LANES, 8, 8), {}, ValueError, "x must be"),
        (torch.zeros(LANES, 8, 8), {}, ValueError, "x must be"),
        (X.double(), {}, TypeError, "x must be float32"),
        (X.to("meta"), {}, TypeError, "on the CPU, not torch.float32 on meta"),
        (X, {"padding": (2, 0)}, ValueError, "padding must be 0 to 1"),
        (X[:, :, :2], {}, ValueError, "fewer than the kernel's"),
        (X, {"add_to": torch.zeros(1, LANES, 5, 6)}, ValueError, "add_to must be"),
        (X, {"add_to": torch.zeros(1, LANES, 6, 6)}, ValueError, "add_to must be .* channels_last"),
        (X, {"add_to": torch.zeros(1, LANES, 6, 6).half()}, TypeError, "add_to must be float32"),
        (X, {"out": torch.zeros(1, LANES, 6, 6)}, ValueError, "out must be .* channels_last"),
    ],
    ids=["channels", "rank", "dtype", "device", "padding", "size", "shape", "layout", "half", "out"],
)
def test_what_would_read_or_write_other_memory_is_refused(x, rest, error, words):
    with pytest.raises(error, match=words):
        Winograd(made(LANES, LANES)[0])(x, **rest)


def test_weights_that_do_not_fit_are_refused():
    weight, bias, _ = made(LANES, LANES)
    for given, words in (
        ((weight[:, :, :2],), "weight must be"),
        ((weight[:, 1:],), "must be a multiple of"),
        ((weight, bias[1:]), "bias must be"),
        ((weight, None, bias[1:]), "slopes must be"),
    ):
        with pytest.raises(ValueError, match=words):
            Winograd(*given)
    with pytest.raises(TypeError, match="weight must be float32"):
        Winograd(weight.double())


THREADS = """
import threading, torch
from gankit_kernels.winograd import Winograd
torch.manual_seed(0)
weight, x = torch.randn(64, 64, 3, 3), torch.randn(1, 64, 12, 40)
wanted = torch.nn.functional.conv2d(x, weight)
start, results = threading.Barrier(8), []

def work():
    start.wait()
    convolve = Winograd(weight)
    for _ in range(20):
        results.append((convolve(x) - wanted).abs().max() / wanted.abs().max())

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(results) == 160 and max(results) < 3e-5
print("done")
"""


def test_eight_threads_may_compile_and_run_at_once():
    """Compiled code must not be freed while another thread runs it."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_threads_have_rooms_of_their_own():
    """A convolution with more channels enlarges the room of one thread while another computes."""
    small, large = Winograd(made(LANES, LANES)[0]), Winograd(made(8 * LANES, 8 * LANES)[0])
    x, wide = torch.randn(1, LANES, 30, 30), torch.randn(1, 8 * LANES, 30, 30)
    wanted, results = small(x), []

    def work():
        results.extend(torch.equal(small(x), wanted) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        large(wide)
    for thread in threads:
        thread.join()
    assert len(results) == 40
    assert all(results)


REGISTERS = """
import sys, torch
from torch.nn import functional as F
from gankit_kernels.on_cpu import llvm
llvm.features = lambda: frozenset(sys.argv[1].split())  # LLVM still compiles for this processor
from gankit_kernels.winograd import Winograd
torch.manual_seed(0)
convolutions = (32, 48, 3, (17, 40)), (16, 16, 3, (6, 96)), (64, 64, 3, (5, 7)), (96, 24, 5, (9, 20))
for channels, results, side, size in convolutions:
    weight, x = torch.randn(results, channels, side, side), torch.randn(1, channels, *size)
    wanted = F.conv2d(x.double(), weight.double(), padding=side // 2)
    got = Winograd(weight)(x, (side // 2, side // 2), threads=2)
    assert (got - wanted).abs().max() < 3e-5 * wanted.abs().max(), (channels, results, side)
from gankit_kernels.winograd_steps import Doubling, Halving
for channels, results in (32, 48), (16, 16):
    x = torch.randn(2, channels, 12, 30)
    weight = torch.randn(results, channels, 4, 4)
    wanted = F.conv2d(x.double(), weight.double(), stride=2, padding=1)
    assert (Halving(weight)(x, 2) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    weight = torch.randn(channels, results, 4, 4)
    wanted = F.conv_transpose2d(x.double(), weight.double(), stride=2, padding=1)
    assert (Doubling(weight)(x, 2) - wanted).abs().max() < 1e-5 * wanted.abs().max()
print(llvm.lanes(), llvm.registers())
"""


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        ("avx512f avx2 fma", "16 32"),
        pytest.param("avx2 fma", "8 16", marks=pytest.mark.slow),
        pytest.param("neon", "4 32", marks=pytest.mark.slow),
        pytest.param("sse2", "4 16", marks=pytest.mark.slow),
    ],
)
def test_registers_of_other_processors(features, wanted):
    """LLVM splits registers that are too wide for this processor, so that each width's loops run anywhere."""
    done = subprocess.run([sys.executable, "-c", REGISTERS, features], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, wanted), done.stderr
