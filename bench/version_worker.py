"""One version of gankit in a process of its own: ``python -m bench.version_worker``, driven by :mod:`bench.versions`.

The first line of standard input is a JSON object that says what to run. Each further line runs it once more, and is
answered by a line of JSON: ``cpu`` and ``wall`` seconds. This module uses only what every version of gankit has.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any


def engine_of(work: dict[str, Any]) -> Any:
    """The engine of a backend, with untrained weights that depend on nothing but the model."""
    import torch

    from gankit import backends, models
    from gankit.backends.base import EngineSpec

    torch.manual_seed(0)
    facts = models.facts(work["model"], work["options"])
    generator = models.build(work["model"], work["options"]).eval()
    spec = EngineSpec(generator, facts, work["precision"], threads=work["threads"])
    return backends.get(work["backend"]).load(spec)


def inputs_of(work: dict[str, Any]) -> list[Any]:
    """A batch of pixels as the pipeline passes them, or latents and classes."""
    import torch

    from gankit import models

    torch.manual_seed(1)
    facts = models.facts(work["model"], work["options"])
    if facts.task == "generate":
        latents = torch.randn(work["batch"], facts.latent)
        return [latents, torch.arange(work["batch"]) % facts.classes] if facts.classes else [latents]
    shape = (work["batch"], work["height"], work["width"], facts.channels)
    return [torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 3, 1, 2)]


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work = json.loads(sys.stdin.readline())
    engine, inputs = engine_of(work), inputs_of(work)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = engine.run(*inputs)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        digest = hashlib.sha256(result.contiguous().numpy().tobytes()).hexdigest()[:12]
        print(json.dumps({"cpu": cpu, "wall": wall, "sha256": digest}), file=answers, flush=True)


if __name__ == "__main__":
    main()
