"""Repeated launches give a GPU's driver what the first gave it. The driver is a recorder; Triton itself is real."""

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' on Linux brings it")


from tests.kernels.driver import Launcher, active  # noqa: E402


@pytest.fixture
def calls(tmp_path, monkeypatch):
    found: list[tuple[object, ...]] = []
    monkeypatch.setattr(Launcher, "calls", found)
    with active(tmp_path):
        yield found


def layouts():
    return torch.contiguous_format, torch.channels_last


def check(calls, run, kernels: list[str]) -> None:
    """``run`` thrice: every time the same kernels, grids and arguments, but for tensors made inside."""
    for _ in range(3):
        run()
    count = len(kernels)
    assert [call[0] for call in calls] == 3 * kernels
    for again in (calls[count : 2 * count], calls[2 * count :]):
        for first, later in zip(calls[:count], again, strict=True):
            assert first[1:5] == later[1:5], "grid, stream, function or options differ"
            assert len(first[5]) == len(later[5])
            for one, other in zip(first[5], later[5], strict=True):
                assert type(one) is type(other)
                assert isinstance(one, torch.Tensor) or one == other
    calls.clear()


@pytest.mark.parametrize("layout", layouts(), ids=str)
def test_norms(calls, layout):
    from gankit_kernels.on_cuda.instance_norm import launch

    x = torch.randn(1, 16, 40, 48).half().contiguous(memory_format=layout)
    affine = torch.randn(16), torch.randn(16)
    last = layout == torch.channels_last
    split = ["statistics", "apply"]
    everything = (*affine, x, "leaky_relu", 0.2, 0, 1e-5, False)
    check(calls, lambda: launch(x, *everything), split if last else ["resident"])
    bordered = (*affine, None, "relu", 0.0, 1, 1e-5, False)
    check(calls, lambda: launch(x, *bordered), split)
    check(calls, lambda: launch(x, *affine, None, "relu", 0.0, 1, 1e-5, True), split)
    large = torch.empty(1, 8, 1024, 1024, dtype=torch.float16, memory_format=layout)
    plain = (None, None, None, "none", 0.0, 0, 1e-5, False)
    check(calls, lambda: launch(large, *plain), ["statistics", "combine", "apply"] if last else split)
    many = torch.empty(64, 16, 40, 48, dtype=torch.float16, memory_format=layout)
    check(calls, lambda: launch(many, *bordered), split if last else ["alone"])


@pytest.mark.parametrize("layout", layouts(), ids=str)
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
        check(calls, lambda x=x, r=r, b=bias, s=slopes, d=dcr: launch(x, r, b, s, "none", 0.0, d), [kernel])


def test_another_alignment_is_another_kernel(calls):
    from gankit_kernels.on_cuda.instance_norm import launch

    room = torch.randn(3 * 8 * 8 + 1).half()
    rest = (None, None, None, "none", 0.0, 0, 1e-5, False)
    for start in (0, 1, 0, 1):
        launch(room[start : start + 192].view(1, 3, 8, 8), *rest)
    functions = [call[3] for call in calls]
    assert functions[0] == functions[2] != functions[1] == functions[3]


def test_scalars_are_those_of_the_call(calls):
    from gankit_kernels.on_cuda.instance_norm import launch

    x = torch.randn(1, 3, 8, 8)
    for slope, eps in ((0.2, 1e-5), (0.1, 1e-3)):
        launch(x, None, None, None, "leaky_relu", slope, 0, eps, False)
        assert {slope, eps} <= {item for item in calls[-1][5] if isinstance(item, float)}
    assert calls[0][3] == calls[1][3]
