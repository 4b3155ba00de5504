"""One step in this process: ``python -m bench.gpu.step MODULE --output FILE.json [--limit SECONDS] [--rehearse]``."""

from __future__ import annotations

import argparse
import math
import sys
import traceback
from importlib import import_module
from pathlib import Path

from bench.gpu.report import Report


def main() -> int:
    """Run the module's ``run(device, report)``; 0 where it came to its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds until somebody ends this process")
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    report = Report(given.output, given.output.stem, given.limit)
    try:
        from bench.gpu.device import Cuda, Device

        device = Device() if given.rehearse else Cuda()
        report.facts["device"] = device.gpu
        report.write()
        import_module(given.module).run(device, report)
    except Exception as error:
        traceback.print_exc()
        report.fail(error)
        return 1
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
