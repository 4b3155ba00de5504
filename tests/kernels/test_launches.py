"""What repeated launches pass to a GPU's driver. The driver is a recorder; Triton and its compiler are real."""

import inspect

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from gankit_kernels.blend import BlendSpec  # noqa: E402
from gankit_kernels.instance_norm import NormSpec  # noqa: E402
from gankit_kernels.pixel_shuffle import ShuffleSpec  # noqa: E402
from gankit_kernels.pixels import PixelsSpec, ValuesSpec  # noqa: E402
from gankit_kernels.specs import EpilogueSpec  # noqa: E402

from tests.kernels.compiled import TYPES  # noqa: E402
from tests.kernels.driver import Call, Launcher, active, kernels  # noqa: E402
from tests.variants import others_slow  # noqa: E402

HALF, BF16, FULL = torch.float16, torch.bfloat16, torch.float32
LAYOUTS = torch.contiguous_format, torch.channels_last


@pytest.fixture
def calls(tmp_path, monkeypatch):
    found: list[Call] = []
    monkeypatch.setattr(Launcher, "calls", found)
    with active(tmp_path):
        yield found


def check_types(calls: list[Call]) -> None:
    """Every kernel was compiled for the types of the arguments that it received."""
    assert calls
    for call in calls:
        for argument, compiled in zip(call.arguments, call.types, strict=True):
            if isinstance(argument, torch.Tensor):
                assert compiled == f"*{TYPES[argument.dtype]}", f"{call.name} for {compiled} got {argument.dtype}"
            elif compiled != "constexpr":
                assert isinstance(argument, float if compiled.startswith("fp") else int)


def check_repeats(calls: list[Call], run, expected: list[str]) -> None:
    """Three runs give the same kernels, grids and arguments, except for the tensors that a run allocates."""
    for _ in range(3):
        run()
    count = len(expected)
    assert [call.name for call in calls] == 3 * expected
    check_types(calls)
    for again in (calls[count : 2 * count], calls[2 * count :]):
        for first, later in zip(calls[:count], again, strict=True):
            assert (first.grid, first.stream, first.function) == (later.grid, later.stream, later.function)
            assert first.packed == later.packed
            for one, other in zip(first.arguments, later.arguments, strict=True):
                assert type(one) is type(other)
                assert isinstance(one, torch.Tensor) or one == other
    calls.clear()


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_norms(calls, layout):
    from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig, launch

    x = torch.randn(1, 16, 40, 48).half().contiguous(memory_format=layout)
    affine = torch.randn(16), torch.randn(16)
    last = layout == torch.channels_last
    split = ["statistics", "apply"]
    everything = (*affine, x, NormSpec("leaky_relu", 0.2))
    check_repeats(calls, lambda: launch(x, *everything), split if last else ["resident"])
    bordered = (*affine, None, NormSpec("relu", pad=1))
    check_repeats(calls, lambda: launch(x, *bordered), split)
    if last:
        once = InstanceNormConfig.alone_pixels(x.shape, 2, 1)
        check_repeats(calls, lambda: launch(x, *everything, once), ["alone"])
    check_repeats(calls, lambda: launch(x, *affine, None, NormSpec("relu", pad=1, whole=True)), split)
    large = torch.empty(1, 8, 1024, 1024, dtype=HALF, memory_format=layout)
    plain = (None, None, None, NormSpec())
    check_repeats(calls, lambda: launch(large, *plain), ["statistics", "combine", "apply"] if last else split)
    many = torch.empty(64, 16, 40, 48, dtype=HALF, memory_format=layout)
    check_repeats(calls, lambda: launch(many, *bordered), split if last else ["alone"])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_shuffles(calls, layout):
    from gankit_kernels.on_cuda.pixel_shuffle import launch

    last = layout == torch.channels_last
    for r, dcr, kernel in (
        (2, False, "pixels" if last else "planes"),
        (3, False, "gather"),
        (2, True, "runs" if last else "planes"),
    ):
        x = torch.randn(2, 8 * r * r, 6, 8).half().contiguous(memory_format=layout)
        bias, slopes = torch.randn(8 * r * r), torch.rand(8)
        spec = ShuffleSpec(r, dcr=dcr)
        check_repeats(calls, lambda x=x, b=bias, s=slopes, spec=spec: launch(x, b, s, spec), [kernel])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_epilogues(calls, layout):
    from gankit_kernels.on_cuda.epilogue import launch, launch_in_place

    last = layout == torch.channels_last
    for channels, kernel in ((16, "pixels" if last else "planes"), (3, "values" if last else "planes")):
        x = torch.randn(2, channels, 6, 8).half().contiguous(memory_format=layout)
        everything = torch.randn(channels), torch.rand(channels), x, EpilogueSpec(scale=0.2)
        check_repeats(calls, lambda x=x, rest=everything: launch(x, *rest), [kernel])
        check_repeats(calls, lambda x=x, rest=everything: launch_in_place(x, *rest), [kernel])
        view = torch.randn(2, channels, 8, 10).half().contiguous(memory_format=layout)[:, :, 1:-1, 1:-1]
        inner = (None, None, view, EpilogueSpec("relu"))
        check_repeats(calls, lambda x=x, rest=inner: launch(x, *rest), ["bordered" if last else kernel])
        bordered = (None, None, None, EpilogueSpec(pads=(0, 1, 0, 1)))
        check_repeats(calls, lambda x=x, rest=bordered: launch(x, *rest), ["bordered" if last else kernel])


def test_spreads(calls):
    from gankit_kernels.on_cuda.spread import launch
    from gankit_kernels.specs import SpreadSpec

    def tensor(channels: int) -> torch.Tensor:
        return torch.randn(2, channels, 6, 8).half().contiguous(memory_format=torch.channels_last)

    x, targets = tensor(16), [tensor(32 + 16 * index) for index in range(5)]
    spec = SpreadSpec("leaky_relu", 0.2, first=16)
    for count, names in ((1, ["spread"]), (4, ["spread"]), (5, ["spread", "spread"])):
        check_repeats(calls, lambda n=count: launch(x, torch.randn(16), None, x, x, targets[:n], spec), names)
    launch(x, None, None, None, None, targets[:2], spec)
    tensors = [item for item in calls[-1].arguments if isinstance(item, torch.Tensor)]
    assert len(tensors) == 9
    assert [id(item) for item in tensors[5:7]] == [id(item) for item in targets[:2]]


def test_an_epilogue_in_place_has_one_tensor(calls):
    """Source and result are the same memory; nothing is allocated or copied."""
    from gankit_kernels.on_cuda.epilogue import launch_in_place

    x = torch.randn(2, 16, 6, 8).half().contiguous(memory_format=torch.channels_last)
    launch_in_place(x, torch.randn(16), None, None, EpilogueSpec("relu"))
    tensors = [item for item in calls[-1].arguments if isinstance(item, torch.Tensor)]
    assert tensors[0] is x
    assert tensors[-1] is x


# Of the source, its weights and its residual: two dtypes of one size after each other, then other companions.
DTYPES = (HALF, FULL, HALF), (BF16, FULL, BF16), (BF16, HALF, FULL)


@pytest.mark.parametrize("layout", others_slow(LAYOUTS, 1), ids=str)
@pytest.mark.parametrize("whole", [False, True])
def test_norms_of_one_shape_in_every_dtype(calls, layout, whole):
    from gankit_kernels.on_cuda.instance_norm import launch

    for dtype, weights, added in DTYPES * 2:
        x = torch.ones((2, 8, 16, 16), dtype=dtype).contiguous(memory_format=layout)
        weight, bias = torch.ones(8, dtype=weights), torch.ones(8, dtype=FULL)
        launch(x, weight, bias, torch.ones_like(x, dtype=added), NormSpec(whole=whole))
    check_types(calls)


@pytest.mark.parametrize("layout", others_slow(LAYOUTS, 1), ids=str)
def test_shuffles_of_one_shape_in_every_dtype(calls, layout):
    from gankit_kernels.on_cuda.pixel_shuffle import launch

    for dtype, bias, slopes in DTYPES * 2:
        x = torch.ones((1, 32, 6, 8), dtype=dtype).contiguous(memory_format=layout)
        launch(x, torch.ones(32, dtype=bias), torch.ones(8, dtype=slopes), ShuffleSpec(2, dcr=True))
    check_types(calls)


@pytest.mark.parametrize("layout", others_slow(LAYOUTS, 1), ids=str)
def test_epilogues_of_one_shape_in_every_dtype(calls, layout):
    from gankit_kernels.on_cuda.epilogue import launch, launch_in_place

    for dtype, bias, added in DTYPES * 2:
        for channels in (3, 16):
            x = torch.ones((1, channels, 6, 8), dtype=dtype).contiguous(memory_format=layout)
            rest = torch.ones(channels, dtype=bias), torch.ones(1, dtype=FULL), torch.ones_like(x, dtype=added)
            launch(x, *rest, EpilogueSpec())
            launch(x, *rest, EpilogueSpec(pads=(1, 1, 1, 1)))
            launch_in_place(x, *rest, EpilogueSpec())
    check_types(calls)


def test_pixels_and_tiles_of_one_shape_in_every_dtype(calls):
    from gankit_kernels.on_cuda.blend import launch as blend
    from gankit_kernels.on_cuda.pixels import launch_from, launch_to

    for dtype, integer in ((HALF, torch.uint8), (BF16, torch.uint8), (BF16, torch.uint16)) * 2:
        launch_from(torch.ones((1, 4, 8, 3), dtype=integer), ValuesSpec(0, 1, dtype, True))
        launch_to(torch.ones((1, 3, 4, 8), dtype=dtype), PixelsSpec(0, 1, integer))
        blend(torch.ones((2, 3, 8, 8), dtype=dtype), BlendSpec((0,), (0, 4), 8, 12, 2))
    check_types(calls)


def test_another_alignment_is_another_kernel(calls):
    from gankit_kernels.on_cuda.instance_norm import launch

    room = torch.randn(3 * 8 * 8 + 1).half()
    for start in (0, 1, 0, 1):
        launch(room[start : start + 192].view(1, 3, 8, 8), None, None, None, NormSpec())
    functions = [call.function for call in calls]
    assert functions[0] == functions[2] != functions[1] == functions[3]


def test_scalars_are_those_of_the_call(calls):
    """Whole numbers too, which Triton would compile in as integers."""
    from gankit_kernels.on_cuda.instance_norm import launch

    x = torch.randn(1, 3, 8, 8)
    for slope, eps in ((1, 1), (0.2, 1e-5), (0.1, 1e-3)):
        launch(x, None, None, None, NormSpec("leaky_relu", slope, eps=eps))
        assert {slope, eps} <= {item for item in calls[-1].arguments if isinstance(item, float)}
    check_types(calls)
    assert len({call.function for call in calls}) == 1


def test_a_step_checks_the_names_of_its_arguments():
    from gankit_kernels.on_cuda.planes import statistics
    from gankit_kernels.on_cuda.steps import Step

    integers = {"channels": 1, "size_v": 1, "batch_v": 1, "parts": 1}
    with pytest.raises(TypeError, match="chunk_blocks"):
        Step(statistics, 1, (0, 1, 2), integers, {"VEC": 1, "BLOCK": 64})


def test_no_kernel_is_compiled_for_the_value_of_an_integer():
    """Every argument is a tensor, a floating-point scalar, a constant, or an integer that is not specialised."""
    from gankit_kernels.on_cuda.common import INTEGERS

    tensors = {"x", "y", "weight", "bias", "residual", "prelu", "means", "squares", "mean", "square", "tiles"}
    tensors |= {f"{axis}_{kind}" for axis in ("row", "column") for kind in ("tiles", "inside", "weights")}
    tensors |= {f"target{index}" for index in range(4)}
    scalars = {"eps", "slope", "low", "scale", "full"}
    known = {"planes", "channels", "size_v"}
    assert known <= set(INTEGERS)
    used = set()
    for kernel in kernels():
        for parameter in kernel.params:
            if parameter.is_constexpr or parameter.name in scalars:
                continue
            if parameter.name == "column_stride":  # of blend: compiled in where it is 1, and only there
                assert parameter.do_not_specialize_on_alignment
                continue
            assert (parameter.name in tensors) != parameter.do_not_specialize, f"{parameter.name} of {kernel}"
            used.add(parameter.name)
        assert inspect.signature(kernel.fn).parameters.keys() == {item.name for item in kernel.params}
    assert set(INTEGERS) == used - tensors, "the list has names that no kernel takes"
