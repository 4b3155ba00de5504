"""The kernels keep enough bytes on their way from memory for the shapes of the benchmark, counted in machine code.

``python -m tests.kernels.test_in_flight [80|90|100]`` prints the table.
"""

import sys
from functools import cache

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' on Linux brings it")

from bench.kernels import Shape, shapes  # noqa: E402
from tests.kernels.compiled import Compiled, Launch, compile_for, launches  # noqa: E402
from tests.kernels.in_flight import GPUS, Code, bytes_per_multiprocessor, read  # noqa: E402

LARGE = [shape for shape in shapes() if 2 * shape.values > 4 << 20]
NOT_THE_STREAM = {"channels_last.combine"}  # merges some kilobytes of statistics
# Planes with a border that are too few to run alone are gathered value by value from what the cache has just seen.
LEAST = {("norm+relu+border", "planes.apply"): 10 << 10}


def call(shape: Shape) -> None:
    """Launch what the shape's operation launches, on tensors that nobody fills."""
    from gankit_kernels.on_cuda.instance_norm import launch as norm
    from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle
    from gankit_kernels.on_cuda.pixels import launch_from, launch_to

    half, last = torch.float16, shape.layout == "channels_last"
    layout = torch.channels_last if last else torch.contiguous_format
    size = (shape.samples, shape.channels, shape.height, shape.width)
    if shape.operation == "from_uint8":
        launch_from(torch.empty((size[0], *size[2:], size[1]), dtype=torch.uint8), -1.0, 1.0, half, last)
        return
    x = torch.empty(size, dtype=half, memory_format=layout)
    channel = torch.empty(shape.channels)
    if shape.operation == "to_uint8":
        launch_to(x, -1.0, 1.0, torch.uint8)
    elif shape.operation.startswith("shuffle"):
        shuffle(x, 2, channel.half(), channel[:1].half(), "none", 0.0, shape.operation.endswith("dcr"))
    else:
        other = torch.empty_like(x) if "residual" in shape.operation else None
        norm(x, channel, channel, other, "relu", 0.0, 1 if "border" in shape.operation else 0, 1e-5, False)


def alike(launch: Launch, target: int) -> tuple[object, ...]:
    """What one compilation depends on."""
    facts: list[object] = [launch.name, target, *sorted(launch.options.items())]
    for name, value in launch.arguments.items():
        if isinstance(value, torch.Tensor):
            facts.append((value.dtype, value.data_ptr() % 16))
        elif name.isupper() or value == 1:
            facts.append(value)
        else:
            facts.append(type(value) if isinstance(value, float) else (value % 16 == 0, value < 2**31))
    return tuple(facts)


class Compiler:
    """Compiles every launch once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[Compiled, Code]] = {}

    def __call__(self, launch: Launch, target: int) -> tuple[Compiled, Code]:
        key = alike(launch, target)
        if key not in self._known:
            made = compile_for(launch, target)
            self._known[key] = made, read(made.cubin)
        return self._known[key]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield Compiler()


@pytest.fixture
def multiprocessors(monkeypatch):
    def choose(target):
        monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm.processors", cache(lambda _: GPUS[target].sms))

    return choose


def check(compiled, shape: Shape, target: int) -> None:
    found = launches(lambda: call(shape))
    assert found
    for launch in found:
        if launch.name in NOT_THE_STREAM:
            continue
        made, code = compiled(launch, target)
        per = bytes_per_multiprocessor(GPUS[target], made, code, launch)
        # a GPU cannot have more under way than there is to read
        wanted = min(GPUS[target].wanted, 2 * shape.values / GPUS[target].sms)
        wanted = min(wanted, LEAST.get((shape.operation, launch.name), wanted))
        where = f"{launch.name}, {shape}, sm_{target}"
        assert per >= 0.95 * wanted, f"{where}: {per / 1024:.1f} KiB in flight, of {wanted / 1024:.0f}"


@pytest.mark.parametrize("shape", [item for item in LARGE if item.samples == 8 or item.height > 1000], ids=str)
def test_enough_bytes_in_flight_on_an_h200(compiled, multiprocessors, shape):
    multiprocessors(90)
    check(compiled, shape, 90)


@pytest.mark.slow
def test_enough_bytes_in_flight_for_every_shape(compiled, multiprocessors):
    multiprocessors(90)
    for shape in LARGE:
        check(compiled, shape, 90)


def test_counting():
    """Two loads, one of them waited for, and a loop that asks before it waits."""
    from tests.kernels.in_flight import parse, walk

    straight = """
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0010*/                   LDG.E R8, desc[UR4][R2.64+0x10] ;
        /*0020*/                   FADD R9, R7, R7 ;
        /*0030*/              @!P0 LDG.E.U16 R10, desc[UR4][R2.64] ;
        /*0040*/                   STG.E.128 desc[UR4][R2.64], R8 ;
        /*0050*/                   EXIT ;"""
    assert walk(parse(straight)) == Code(20, ())
    loop = """
        /*0000*/                   LDG.E.64 R4, desc[UR4][R2.64] ;
        /*0010*/                   LDG.E.64 R6, desc[UR4][R2.64+0x8] ;
        /*0020*/                   FADD R9, R5, R5 ;
        /*0030*/                   STG.E.U8 desc[UR4][R2.64], R9 ;
        /*0040*/               @P1 BRA 0x10 ;
        /*0050*/                   BRA 0x50 ;"""
    assert walk(parse(loop)) == Code(16, ((4, 8, 1),))


if __name__ == "__main__":
    target = int(sys.argv[1]) if sys.argv[1:] else 90
    import gankit_kernels.on_cuda.instance_norm as norms

    norms.processors = cache(lambda _: GPUS[target].sms)
    compiler = Compiler()
    for shape in shapes():
        for launch in launches(lambda item=shape: call(item)):
            made, code = compiler(launch, target)
            per = bytes_per_multiprocessor(GPUS[target], made, code, launch) / 1024
            print(
                f"{shape!s:58} {launch.name:25} {launch.programs:6} programs of {launch.options['num_warps']:2} warps,"
                f" {made.registers} registers, {per:6.1f} KiB in flight, loops {code.loops}",
                flush=True,
            )
