r"""Train the shipped upscalers for some minutes on a GPU: ``python -m bench.gpu_train --data DIR --validation DIR``.

Several runs go on side by side, because one alone leaves a large GPU idle between its kernels. Each lane is a list of
stages, one after the other, where a stage may continue from the weights of the one before::

    clean     edsr ×4 from the shipped weights
    photo     edsr ×4 with --degradation photo, from the shipped weights  ->  srgan (U-Net discriminator), likewise
    x2        edsr ×2  ->  the same with --degradation photo
    srresnet  srresnet from the shipped weights

Learning rates follow a cosine that ends at the last step, so the number of steps must be known beforehand: all lanes
first run for ``--probe`` seconds together, and each stage gets the steps that fit into its share of the time.

``--output FOLDER`` receives a folder for each stage as ``gankit train`` leaves it. A stage that did not come to its end
in time leaves the average of its weights as ``average.safetensors``.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.common import ROOT

AVERAGE = "average.safetensors"


@dataclass(frozen=True)
class Stage:
    """One run of ``gankit train``.

    Attributes:
        name: of its folder.
        recipe: the command.
        share: of the lane's time.
        pace: its steps per second, over those of the lane's first stage.
        options: of the command.
        init: weights to begin from: a name, or the folder of an earlier stage of the lane.
    """

    name: str
    recipe: str
    share: float
    pace: float = 1.0
    options: tuple[str, ...] = ()
    init: str = ""


PHOTO = ("--degradation", "photo")
LANES: dict[str, tuple[Stage, ...]] = {
    "clean": (Stage("edsr", "edsr", 1.0, options=("--batch", "32", "--workers", "3"), init="edsr"),),
    "photo": (
        Stage("edsr-photo", "edsr", 0.62, options=(*PHOTO, "--batch", "32", "--workers", "8"), init="edsr-photo"),
        Stage("edsr-sharp", "srgan", 0.38, 0.2, (*PHOTO, "--batch", "16", "--patch", "48"), "edsr-photo"),
    ),
    "x2": (
        Stage("edsr-x2", "edsr", 0.6, options=("--scale", "2", "--batch", "32", "--workers", "3")),
        Stage("edsr-x2-photo", "edsr", 0.4, 0.95, ("--scale", "2", *PHOTO, "--batch", "32", "--lr", "4e-4"), "edsr-x2"),
    ),
    "srresnet": (
        Stage(
            "srresnet", "srresnet", 1.0, options=("--batch", "16", "--patch", "48", "--workers", "2"), init="srresnet"
        ),
    ),
}
DEFAULT = ("clean", "photo")


class Trainer:
    """Runs stages.

    Args:
        given: the command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        here = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "export"), os.environ.get("PYTHONPATH", "")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, here))}

    def run(self, stage: Stage, folder: Path, steps: int, stop_after: float | None, *, probe: bool = False) -> None:
        """Run one stage."""
        given = self.given
        folders = given.probe_data if probe and given.probe_data else given.data
        every = max(50, steps // given.validations)
        command = [sys.executable, "-m", "gankit", "train", stage.recipe, "--output", str(folder)]
        command += ["--steps", str(steps), "--validate-every", str(every), "--checkpoint-every", str(every)]
        command += [part for path in folders for part in ("--data", str(path))]
        command += ["--validation", str(given.validation), "--workers", str(given.workers), "--device", given.device]
        command += ["--stop-after", f"{stop_after:.0f}"] if stop_after else []
        command += [*stage.options, *given.extra.split()]
        if stage.init:
            earlier = given.output / stage.init
            command += ["--init", str(weights(earlier)) if earlier.exists() else stage.init]
        began = time.monotonic()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.log").open("w") as log:
            code = subprocess.run(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False
            )
        print(
            f"{stage.name:<14} status {code.returncode}, {time.monotonic() - began:6.1f} s, {steps} steps", flush=True
        )
        last = folder / "last.pt"
        if not probe and last.exists() and not (folder / "final.safetensors").exists():
            state = torch.load(last, map_location="cpu", weights_only=True)
            save_file({name: value.contiguous() for name, value in state["average"]["state"].items()}, folder / AVERAGE)

    def lane(self, stages: Sequence[Stage], rate: float, until: float) -> None:
        """Run a lane's stages in the time that is left."""
        shares = sum(stage.share for stage in stages)
        for number, stage in enumerate(stages):
            left = until - time.monotonic()
            time_of_stage = left * stage.share / shares - self.given.start
            shares -= stage.share
            if time_of_stage <= 0 or rate <= 0:
                print(f"{stage.name:<14} not started", flush=True)
                return
            last = number == len(stages) - 1
            self.run(
                stage,
                self.given.output / stage.name,
                max(1, int(time_of_stage * rate * stage.pace * self.given.caution)),
                left if last else left * 0.95,
            )


def weights(folder: Path) -> Path:
    """The best weights of a run, else its final ones, else their average when it was stopped."""
    names = ("best.safetensors", "final.safetensors", AVERAGE)
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])


def rate(folder: Path) -> float:
    """Steps per second, as a run's log says last; 0 where it did not come so far."""
    log = folder / "log.csv"
    if not log.exists():
        return 0.0
    with log.open(newline="", encoding="utf-8") as file:
        found = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "steps_per_second"]
    return found[-1] if found else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True, help="folder of photographs; repeatable")
    parser.add_argument("--probe-data", type=Path, action="append", help="smaller folder for the probe; repeatable")
    parser.add_argument("--validation", type=Path, required=True, help="folder of validation images")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=300, help="for all (default %(default).0f)")
    parser.add_argument("--probe", type=float, default=12, help="seconds of the probe (default %(default).0f)")
    parser.add_argument("--start", type=float, default=12, help="seconds in which a run starts (default %(default).0f)")
    parser.add_argument("--caution", type=float, default=0.95, help="share of the steps that would fit")
    parser.add_argument("--workers", type=int, default=5, help="loader processes of a run (default %(default)d)")
    parser.add_argument("--validations", type=int, default=6, help="validations of a run (default %(default)d)")
    parser.add_argument("--lane", action="append", choices=sorted(LANES), help="only this lane; repeatable")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--extra", default="", help="more options for every run")
    given = parser.parse_args(arguments)
    until = time.monotonic() + given.seconds
    trainer = Trainer(given)
    lanes = {name: LANES[name] for name in given.lane or DEFAULT}
    probes = given.output / "probes"
    side_by_side(
        {
            name: lambda name=name: trainer.run(lanes[name][0], probes / name, 10**6, given.probe, probe=True)
            for name in lanes
        }
    )
    rates = {name: rate(probes / name) for name in lanes}
    print({name: round(value, 1) for name, value in rates.items()}, "steps per second side by side", flush=True)
    for name in lanes:
        shutil.rmtree(probes / name, ignore_errors=True)
    side_by_side({name: lambda name=name: trainer.lane(lanes[name], rates[name], until) for name in lanes})
    return 0


def side_by_side(jobs: dict[str, object]) -> None:
    """Run jobs at once and wait for all."""
    threads = [threading.Thread(target=job, name=name) for name, job in jobs.items()]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
