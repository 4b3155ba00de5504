"""The option of clusters, and the choice of who does a run: this process, with or without URLs, or a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.storage.urls import any_url

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline
    from gankit.pipeline.report import Report
    from gankit.pipeline.resume import Decision

cluster_option = click.option(
    "--cluster",
    is_flag=False,
    flag_value="auto",
    default=None,
    metavar="ADDRESS",
    help="Run on a Ray cluster: HOST:PORT, ray://HOST:PORT, local to start one here, or auto for the one of "
    "RAY_ADDRESS, else a local one. Without an address, write it last; it is then auto. Local folders must be shared "
    "by all machines.",
)


def runs_of(
    cluster: str | None, places: Iterable[str | None], worker: Callable[..., FilePipeline]
) -> tuple[Callable[..., Report], Callable[..., list[Decision]]]:
    """Return the functions that run files and that list what a run would do.

    Args:
        cluster: address of a cluster; ``None`` runs in this process.
        places: the inputs and the output.
        worker: makes the pipeline of a worker.
    """
    if cluster is None and not any_url(places):
        from gankit.video import plan_files, run_files

        return run_files, plan_files
    from gankit.storage.run import plan_remote, run_remote

    def run(*args: Any, **options: Any) -> Report:
        if cluster is None:
            return run_remote(*args, **options)
        from gankit.cluster import run_on_cluster

        with only_our_lines():
            return run_on_cluster(*args, address=cluster, worker=worker, **options)

    return run, plan_remote


@contextmanager
def only_our_lines() -> Iterator[None]:
    """Hide what Ray prints: its C++ part on the descriptor of stderr, its threads on stdout.

    gankit prints nothing on stdout during a run, and its lines on stderr get there through a copy of the descriptor.
    """
    with ExitStack() as stack:
        nothing = stack.enter_context(Path(os.devnull).open("w"))
        stack.enter_context(redirect_stdout(nothing))
        try:
            real = sys.stderr.fileno() == 2
        except (OSError, ValueError, AttributeError):  # it is captured, or closed
            real = False
        if real:
            copy = os.dup(2)
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, 2)
            own = open(os.dup(copy), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, buffering=1)  # noqa: PTH123, SIM115 - a descriptor
            stack.callback(own.close)
            stack.enter_context(redirect_stderr(own))
            os.dup2(nothing.fileno(), 2)
        yield
