"""Rewrite ``registers.csv`` after an intended change of a kernel.

Run ``python -m tests.kernels.measure_registers [75 90 …]`` with the Triton of constraints.txt. Without architectures
it measures all of them.
"""

import csv
import sys

from tests.kernels.compiled import TABLE, TARGETS, compile_for, launches, table
from tests.kernels.compiled_cases import CASES


def main(targets: tuple[int, ...]) -> None:
    """Measure these architectures and keep the table's figures of the others."""
    known = table() if TABLE.exists() else {}
    rows = []
    for name, case in CASES.items():
        for launch in launches(case.run):
            made = {target: compile_for(launch, target) for target in targets if target >= case.first}
            registers = known.get((name, launch.name), {}) | {key: result.registers for key, result in made.items()}
            rows.append(
                {"case": name, "kernel": launch.name} | {f"sm_{key}": registers.get(key, "") for key in TARGETS}
            )
            spilled = [target for target, result in made.items() if result.stack]
            print(
                f"{name}: {launch.name}, {launch.options['num_warps']} warps, {registers}, spills {spilled}", flush=True
            )
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "kernel", *(f"sm_{key}" for key in TARGETS)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:]) or TARGETS)
