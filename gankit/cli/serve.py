"""``gankit serve``: the HTTP service and its page."""

from __future__ import annotations

import importlib.util
import sys

import click

from gankit.cli.engine_options import engine_options
from gankit.cli.param_types import Pixels, Size
from gankit.errors import UsageError
from gankit.options import EngineOptions
from gankit.serving.settings import MAX_BYTES, MAX_PIXELS, MAX_RESULT_PIXELS, QUEUE, ServerSettings

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="NAME|FILE",
    help="Model to serve: a name (see `gankit models`), or a weights file, which is served under its name without the "
    "suffix. Can be repeated.  [default: all weights that ship with gankit]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to bind. 0.0.0.0 serves the whole network: set a token then.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to bind. 0 takes a free one.",
)
@click.option(
    "--token",
    envvar="GANKIT_TOKEN",
    metavar="TEXT",
    help="Answer only requests with `Authorization: Bearer TEXT`. Other users of the machine can read the command "
    "line; the environment variable GANKIT_TOKEN is safer.",
)
@click.option(
    "--max-bytes",
    type=Size(),
    default=f"{MAX_BYTES // 2**20}MiB",
    show_default=True,
    help="Largest upload.",
)
@click.option(
    "--max-pixels",
    type=Pixels(),
    default=f"{MAX_PIXELS / 1e6:g}MP",
    show_default=True,
    help="Largest uploaded image.",
)
@click.option(
    "--max-result-pixels",
    type=Pixels(),
    default=f"{MAX_RESULT_PIXELS / 1e6:g}MP",
    show_default=True,
    help="Largest result. The results of all requests in flight may have twice as many pixels.",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 100_000),
    default=QUEUE,
    show_default=True,
    help="Largest number of requests that upload, wait or run. Others get the status 429.",
)
@click.option(
    "--batch-wait",
    type=click.FloatRange(0, 10_000),
    default=10.0,
    show_default=True,
    metavar="MS",
    help="Longest time to wait for more images of a batch, in milliseconds, while other requests are in flight.",
)
@click.option(
    "--open-models",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Number of models that stay open. The least recently used one is closed for another.",
)
@engine_options(tiles=True, batch="tiles, or of images of equal size,")
@click.option("-q", "--quiet", is_flag=True, help="Write no log.")
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    max_bytes: int,
    max_pixels: int,
    max_result_pixels: int,
    queue: int,
    batch_wait: float,
    open_models: int,
    engine: EngineOptions,
    quiet: bool,
) -> int:
    """Serve upscaling, translation and generation over HTTP, with a page for the browser.

    The URL of the page is printed. The service answers on this machine only, unless you set --host. Each request is
    written to standard error as one line of JSON.

    SIGTERM and Ctrl-C finish the requests in flight and refuse new ones; a second one ends at once.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"serve needs packages that are missing ({', '.join(missing)}): pip install 'gankit[serve]'")
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise UsageError("--token: use printable ASCII characters, without spaces at the ends")
    from gankit.serving.server import allowed_hosts
    from gankit.serving.server import serve as run

    settings = ServerSettings(
        token=token,
        hosts=allowed_hosts(host),
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_result_pixels=max_result_pixels,
        queue=queue,
        batch_wait=batch_wait / 1000,
        open_models=open_models,
    )

    def ready(url: str) -> None:
        if settings.hosts is None and token is None:
            click.echo(f"warning: everybody who reaches {host} can use this service; set GANKIT_TOKEN", err=True)
        click.echo(f"gankit serves at {url} (Ctrl-C stops it)")
        sys.stdout.flush()

    run(models, engine, settings, host, port, ready, None if quiet else sys.stderr)
    if not quiet:
        click.echo("stopped; all requests that were accepted are answered")
    return 0
