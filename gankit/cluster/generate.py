"""Samples on a Ray cluster: ranges of their numbers go to the workers, which write the images. Imports no Ray."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gankit.cluster.ray_data import (
    RESULT,
    TASK,
    check,
    connected,
    divided,
    in_working_folder,
    is_restarted,
    plain_error,
    pool_of,
    rows,
)
from gankit.pipeline.generated_files import (
    Destination,
    FailureCallback,
    LocalFolder,
    Outcome,
    ProgressCallback,
)
from gankit.pipeline.generation import MadePart, Part, SampleRequest, make_part, write_part, write_samples
from gankit.pipeline.sample_claims import SampleClaims
from gankit.pipeline.sampler import Sampler

_MOST = 16  # calls of the engine in a block


@dataclass(frozen=True)
class SampleWork:
    """What a worker needs to make parts.

    Attributes:
        make: makes its sampler.
        request: the samples.
        claims: the claims of the run, as a worker makes them.
        extension: extension of the files.
        working: working folder of the run, to which relative paths of weights refer.
    """

    make: Callable[[], Sampler]
    request: SampleRequest
    claims: SampleClaims
    extension: str
    working: str


class SampleWorker:
    """Makes parts. Ray Data makes one for each actor of its pool.

    Files that appeared since the run began are left alone. In an actor that Ray has restarted, they count as written,
    because its lost process may have made them, and elsewhere as written by another run.

    Args:
        work: what to do.
    """

    def __init__(self, work: SampleWork) -> None:
        in_working_folder(work.working)
        self._work = work
        self._sampler: Sampler | None = None
        self._retries = is_restarted()

    def __call__(self, block: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Make the parts of a block.

        Args:
            block: column ``"task"`` with pickled parts.

        Returns:
            Column ``"result"`` with as many pickled results, or one exception that ends the whole run.
        """
        work = self._work
        try:
            if self._sampler is None:
                self._sampler = work.make()
            parts = map(pickle.loads, block[TASK])
            with work.claims as claims:
                write = partial(write_part, claims)
                made = [make_part(self._sampler, work.request, claims, work.extension, part, write) for part in parts]
        except Exception as error:
            return {RESULT: [pickle.dumps(plain_error(error))]}
        if self._retries:
            made = [replace(each, elsewhere=frozenset[int]()) for each in made]
        return {RESULT: [pickle.dumps(each) for each in made]}


def write_samples_on_cluster(
    sampler: Sampler,
    request: SampleRequest,
    destination: Destination,
    progress: ProgressCallback,
    failed: FailureCallback,
    *,
    address: str,
    worker: Callable[..., Sampler],
) -> Outcome:
    """Write the samples that :func:`gankit.pipeline.generation.write_samples` writes, on a Ray cluster.

    A worker gets as many samples at a time as a call of the engine takes, and the same ones as a call of a run in one
    process. On machines of one type, with the same number of threads, the images are therefore equal bit for bit.

    Args:
        sampler: the sampler of this process, which runs no engine.
        request: the samples to write.
        destination: where to write them. Every machine must be able to write the folder if it is local.
        progress: called with the state of the run after each image.
        failed: called with the error of each image that cannot be written.
        address: see :func:`gankit.cluster.run_on_cluster`.
        worker: makes the sampler of a worker from ``engine``. It is pickled.

    Returns:
        The number of images that were written, skipped and failed, and the engine of the first worker that was done.

    Raises:
        UsageError: If Ray is missing, the address is wrong, or an argument is wrong.
        BackendError: If the cluster cannot be reached, or ends before the run does.
        OutputError, CheckpointError, ParityError: As for a run in this process.
    """
    check(address)
    with ExitStack() as stack:
        execute = partial(_execute, sampler, request, stack, address, worker)
        return write_samples(sampler, request, destination, progress, failed, execute=execute)


def _execute(
    sampler: Sampler,
    request: SampleRequest,
    stack: ExitStack,
    address: str,
    make: Callable[..., Sampler],
    parts: Sequence[Part],
    claims: SampleClaims,
    extension: str,
) -> Iterator[MadePart]:
    folder = claims.folder
    if isinstance(folder, LocalFolder):
        folder = LocalFolder(folder.path.absolute())
    engine = sampler.engine
    ray = stack.enter_context(connected(address))  # to the end of the run, which may come back for more
    pool = pool_of(ray.nodes(), engine.threads, engine.device)
    if pool.gpus == 0:
        engine = replace(engine, threads=pool.cpus)
    work = SampleWork(partial(make, engine=engine), request, claims.of_member(folder), extension, str(Path.cwd()))
    for row in rows(ray, pool, SampleWorker, (work,), divided(parts, pool.workers, lambda part: 1 / _MOST)):
        found = pickle.loads(row)
        if isinstance(found, Exception):
            raise found
        yield found
