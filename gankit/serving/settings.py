"""The settings of the service, in one frozen dataclass. Imports neither FastAPI nor torch."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 16_000_000
MAX_RESULT_PIXELS = 256_000_000
QUEUE = 64
STRENGTHS = 20
"""A strength is rounded to the nearest of so many steps, because each needs weights and an engine of its own."""


@dataclass(frozen=True)
class ServerSettings:
    """What the service allows.

    Attributes:
        token: requests must bring it as ``Authorization: Bearer TOKEN``; ``None`` asks for none. The page and
            ``/healthz`` are open.
        hosts: names in the ``Host`` header that are answered, in lower case and without the port; ``None`` answers
            any. A service on the loopback address answers its own names only, so that no web page can reach it under a
            name that it has made point there.
        max_bytes: largest body of a request.
        max_pixels: largest uploaded image in pixels.
        max_result_pixels: largest result in pixels. The results of all requests in flight may have twice as many.
        queue: largest number of requests in flight: uploading, waiting, running or being encoded.
        batch_wait: longest time in seconds to wait for images that share a call of the engine. It is only spent while
            other requests are in flight and the engine runs several images at once.
        upload_seconds: longest time in which a body must arrive.
        open_models: number of models that are kept open. The least recently used one is closed for another.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    max_result_pixels: int = MAX_RESULT_PIXELS
    queue: int = QUEUE
    batch_wait: float = 0.01
    upload_seconds: float = 120.0
    open_models: int = 4
