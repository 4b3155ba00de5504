"""What the service counts, for Prometheus. Each application has its own registry."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
PATHS = ("/upscale", "/translate", "/generate", "/models", "/healthz", "/metrics", "/openapi.json", "/")


class Metrics:
    """The counters of one application.

    Args:
        in_flight: returns the number of admitted requests.
        waiting: returns the number of requests that wait for the engine.
    """

    def __init__(self, in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("gankit_requests", "Requests answered.", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "gankit_request_seconds", "Time of a request.", ["path"], buckets=_SECONDS, registry=registry
        )
        self._queued = Histogram(
            "gankit_queue_seconds", "Time that a request waits for the engine.", buckets=_SECONDS, registry=registry
        )
        self._engine = Histogram(
            "gankit_engine_seconds", "Time of an engine run.", ["model"], buckets=_SECONDS, registry=registry
        )
        self._batch = Histogram(
            "gankit_batch_requests", "Requests that share an engine run.", buckets=_BATCHES, registry=registry
        )
        self._pixels = Counter("gankit_result_pixels", "Pixels of all results.", registry=registry)
        Gauge("gankit_requests_in_flight", "Requests admitted.", registry=registry).set_function(in_flight)
        Gauge("gankit_requests_waiting", "Requests that wait for the engine.", registry=registry).set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request. Paths that do not exist share a label, so that clients cannot make more of them."""
        label = path if path in PATHS else "other"
        self._requests.labels(label, str(status)).inc()
        self._seconds.labels(label).observe(seconds)

    def engine(self, model: str, batch: int, seconds: float, waited: list[float]) -> None:
        """Count a run of the engine, with the seconds that each of its requests has waited."""
        self._engine.labels(model).observe(seconds)
        self._batch.observe(batch)
        for each in waited:
            self._queued.observe(each)

    def result(self, pixels: int) -> None:
        """Count the pixels of a result."""
        self._pixels.inc(pixels)

    def text(self) -> bytes:
        """Return all in the text format of Prometheus."""
        return generate_latest(self._registry)
