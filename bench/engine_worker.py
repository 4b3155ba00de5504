"""One engine in a process of its own, driven by :mod:`bench.versions` and :mod:`bench.goals`.

The first line of standard input is a JSON object that says what to run. Each further line runs it once more, and is
answered by a line of JSON: ``cpu`` and ``wall`` seconds, and the sha256 of the result. Of gankit, this module uses only
what every version has, because :mod:`bench.versions` runs it with the source of an older one.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[], Any]  # returns a tensor or an array


def facts_of(work: dict[str, Any]) -> Any:
    """The facts of the model."""
    from gankit import models

    return models.facts(work["model"], work["options"])


def generator_of(work: dict[str, Any]) -> Any:
    """The generator, with untrained weights that depend on nothing but the model."""
    import torch

    from gankit import models

    torch.manual_seed(0)
    return models.build(work["model"], work["options"]).eval()


def inputs_of(work: dict[str, Any]) -> list[Any]:
    """A batch of pixels as the pipeline passes them, or latents and classes."""
    import torch

    torch.manual_seed(1)
    facts = facts_of(work)
    if facts.task == "generate":
        latents = torch.randn(work["batch"], facts.latent)
        return [latents, torch.arange(work["batch"]) % facts.classes] if facts.classes else [latents]
    shape = (work["batch"], work["height"], work["width"], facts.channels)
    return [torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 3, 1, 2)]


def engine(work: dict[str, Any]) -> Run:
    """An engine of gankit."""
    from gankit import backends
    from gankit.backends.base import EngineSpec

    spec = EngineSpec(generator_of(work), facts_of(work), work["precision"], threads=work["threads"])
    made, inputs = backends.get(work["backend"]).load(spec), inputs_of(work)
    return lambda: made.run(*inputs)


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work = json.loads(sys.stdin.readline())
    if "peer" in work:
        from bench.peers import PEERS

        run = PEERS[work["peer"]](work)
    else:
        run = engine(work)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        array = result.contiguous().numpy() if hasattr(result, "contiguous") else result
        answer = {"cpu": cpu, "wall": wall, "sha256": hashlib.sha256(array.tobytes()).hexdigest()[:12]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
