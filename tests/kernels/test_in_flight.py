"""The kernels keep enough bytes in flight from memory for the benchmark's shapes, counted in their machine code."""

from functools import cache

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from bench.in_flight import Compiler, call  # noqa: E402
from bench.kernels import Shape, shapes  # noqa: E402
from tests.kernels.compiled import launches  # noqa: E402
from tests.kernels.in_flight import GPUS, Code, bytes_per_multiprocessor  # noqa: E402

LARGE = [shape for shape in shapes() if 2 * shape.values > 4 << 20]
NOT_THE_STREAM = {"channels_last.combine"}  # merges some kilobytes of statistics
# Planes with a border that are too few to run alone are gathered value by value out of the cache.
# With a border, the one launch issues its last load after it has waited for the first.
LEAST = {
    ("norm+relu+border", "planes.apply"): 8 << 10,
    ("norm+relu+border, one launch", "channels_last.alone"): 32 << 10,
}
# Its programs may be fewer than the multiprocessors: gankit measures whether they are fast enough.
FEW = {"channels_last.alone"}


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
        # no more bytes can be in flight than there are to read
        wanted = min(GPUS[target].wanted, 2 * shape.values / GPUS[target].sms)
        wanted = min(wanted, LEAST.get((shape.operation, launch.name), wanted))
        wanted *= min(1.0, launch.programs / GPUS[target].sms) if launch.name in FEW else 1.0
        where = f"{launch.name}, {shape}, sm_{target}"
        assert per >= 0.95 * wanted, f"{where}: {per / 1024:.1f} KiB in flight, of {wanted / 1024:.0f}"


@pytest.mark.slow
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
    """Two loads, of which one is waited for, and a loop that issues a load before it waits."""
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
