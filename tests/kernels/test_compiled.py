"""Every kernel compiled for every architecture, without a GPU: no spills, wide accesses, registers within the table."""

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from tests.kernels.compiled import TARGETS, compile_for, launches, table  # noqa: E402
from tests.kernels.compiled_cases import CASES  # noqa: E402
from tests.variants import others_slow  # noqa: E402

CEILINGS = table()
MEASURED_ON = "3.7.1"  # other versions allocate a little differently
EVERYWHERE = (75, 90)  # by default; all architectures in the slow test


@pytest.fixture(scope="module", autouse=True)
def fresh_cache(tmp_path_factory):
    """A cache of its own, so that an older cache cannot hide a change in the compiler."""
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield


def check(name: str, targets: tuple[int, ...]) -> None:
    case = CASES[name]
    found = launches(case.run)
    assert [launch.name for launch in found] == [kernel for item, kernel in CEILINGS if item == name]
    for launch in found:
        for target in targets:
            if target < case.first:
                continue
            made = compile_for(launch, target)
            where = f"{launch.name} for sm_{target}"
            assert made.stack == 0, f"{where} spills: {made}"
            ceiling = CEILINGS[name, launch.name][target]
            if triton.__version__ == MEASURED_ON:
                assert made.registers <= ceiling, f"{where} takes {made.registers} registers, the table says {ceiling}"
            else:
                assert made.registers <= max(ceiling + 24, 1.5 * ceiling), f"{where} takes {made.registers} registers"
            # all warps of a program must fit a multiprocessor's 65536 registers
            assert made.registers * launch.options["num_warps"] * 32 <= 65536
    assert made.loads >= case.loads, f"{name}: loads of {made.loads} bytes"
    assert made.stores >= case.stores, f"{name}: stores of {made.stores} bytes"


@pytest.mark.parametrize("name", others_slow(CASES, kind=lambda name: name.split()[0]))
def test_no_spills_and_wide_accesses(name):
    check(name, EVERYWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("target", [target for target in TARGETS if target not in EVERYWHERE])
def test_every_kernel_for_other_architectures(target):
    """One case for each kernel of the table."""
    first = {kernel: name for name, kernel in reversed(CEILINGS)}
    for name in sorted(set(first.values())):
        check(name, (target,))


def test_the_table_has_no_other_rows():
    assert {case for case, _ in CEILINGS} == set(CASES)
