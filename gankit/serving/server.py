"""The server: a socket, uvicorn, and an orderly end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from types import FrameType
from typing import TextIO

import uvicorn

from gankit.errors import UsageError
from gankit.options import EngineOptions
from gankit.serving.app import Application, application
from gankit.serving.catalogue import Catalogue
from gankit.serving.log import LogHandler, RequestLog
from gankit.serving.settings import ServerSettings

_BACKLOG = 2048


class Server(uvicorn.Server):
    """Ends at SIGTERM and Ctrl-C after the requests in flight; a second signal ends it at once.

    Args:
        made: the application.
    """

    def __init__(self, made: Application) -> None:
        config = uvicorn.Config(
            made.app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            ws="none",
            timeout_keep_alive=15,
        )
        super().__init__(config)
        self._made = made

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests and end after those in flight."""
        # uvicorn would raise the signal again at the end, and the command would report an interruption.
        self.force_exit = self.should_exit
        self.should_exit = True
        self._made.admission.draining = True


def is_loopback(host: str) -> bool:
    """Whether a name or an address is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def allowed_hosts(host: str) -> frozenset[str] | None:
    """Return the hosts that a service on an address answers; ``None`` for any."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) if is_loopback(host) else None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: address or name.
        port: port; 0 takes a free one.

    Raises:
        UsageError: If the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such address; use 127.0.0.1, or 0.0.0.0 for all") from error
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror}; use another --port") from error
    return made


def url_of(host: str, listening: socket.socket) -> str:
    """Return the address of the page."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"


def serve(
    models: Sequence[str],
    engine: EngineOptions,
    settings: ServerSettings,
    host: str,
    port: int,
    ready: Callable[[str], None],
    log: TextIO | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        models: what :class:`~gankit.serving.catalogue.Catalogue` takes.
        engine: the engine options of all models.
        settings: the limits.
        host: address to bind.
        port: port; 0 takes a free one.
        ready: called with the URL as soon as connections are accepted.
        log: where the log is written; ``None`` writes none.

    Raises:
        UsageError: If the address or a model is wrong.
        CheckpointError: If a weights file cannot be read.
    """
    catalogue = Catalogue(models, engine.max_memory)
    with listen(host, port) as listening:
        made = application(catalogue, engine, settings, log)
        with _logged(made.log):
            ready(url_of(host, listening))
            Server(made).run(sockets=[listening])


@contextmanager
def _logged(log: RequestLog) -> Iterator[None]:
    """Write what uvicorn reports to the log."""
    logger, handler = logging.getLogger("uvicorn"), LogHandler(log)
    with ExitStack() as restore:
        restore.callback(setattr, logger, "propagate", logger.propagate)
        restore.callback(logger.removeHandler, handler)
        logger.addHandler(handler)
        logger.propagate = False
        yield
