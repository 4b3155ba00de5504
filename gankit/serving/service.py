"""The operations of the service. Each reads its request, hands the work to the engine room and encodes the result."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from time import perf_counter
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import File, Query, Request, Response, UploadFile
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

from gankit.images import DecodedImage, check_target, from_array
from gankit.images.encode import encode_bytes
from gankit.pipeline.resize import OutputSize
from gankit.pipeline.sample_grid import SampleGrid
from gankit.pipeline.sampler import Sampler
from gankit.serving.admission import Admission
from gankit.serving.catalogue import Catalogue
from gankit.serving.engine_room import EngineRoom, Task
from gankit.serving.formats import MEDIA_TYPES, FormatName, chosen_format, writer
from gankit.serving.guard import Passage, passage_of
from gankit.serving.metrics import Metrics
from gankit.serving.pipelines import Generator
from gankit.serving.problems import Problem, problem_of
from gankit.serving.queries import (
    GenerateQuery,
    Health,
    ImageQuery,
    ModelInfo,
    ModelsResponse,
    OutputQuery,
    TranslateQuery,
    UpscaleQuery,
)
from gankit.serving.settings import STRENGTHS, ServerSettings
from gankit.serving.uploads import declared_size, decoded, shown_name
from gankit.version import __version__

T = TypeVar("T")
Upload = Annotated[
    UploadFile, File(description="The image, in any format that gankit reads.", json_schema_extra={"format": "binary"})
]
_CODECS = 4  # images that are decoded or encoded at a time


class Service:
    """The operations. FastAPI calls the public methods.

    Args:
        catalogue: the models.
        room: runs them.
        admission: counts the requests in flight.
        metrics: what is counted.
        settings: the limits.
        max_memory: bytes that the process may use in all.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        room: EngineRoom,
        admission: Admission,
        metrics: Metrics,
        settings: ServerSettings,
        max_memory: int | None,
    ) -> None:
        self._catalogue, self._room, self._admission, self._metrics = catalogue, room, admission, metrics
        self._settings, self._max_memory = settings, max_memory
        self._codecs = CapacityLimiter(_CODECS)

    async def upscale(self, request: Request, image: Upload, query: Annotated[UpscaleQuery, Query()]) -> Response:
        """Upscale an image."""
        served = self._catalogue.find(query.model, "upscale")
        if query.strength is not None and not served.strength:
            raise Problem(422, f"'{served.name}' has no faithful partner; omit the strength, or use srgan")
        strength = None if query.strength is None else round(query.strength * STRENGTHS) / STRENGTHS
        size = _checked(partial(OutputSize, query.scale, query.width, query.height, query.fit), "image")
        return await self._image(request, image, query, Generator(served, strength=strength), size)

    async def translate(self, request: Request, image: Upload, query: Annotated[TranslateQuery, Query()]) -> Response:
        """Translate an image. The result has its size."""
        served = self._catalogue.find(query.model, "translate")
        if query.direction is not None and not served.pair:
            raise Problem(422, f"'{served.name}' is a single generator; omit the direction")
        direction = (query.direction or "AtoB") if served.pair else None
        return await self._image(request, image, query, Generator(served, direction=direction), OutputSize())

    async def generate(self, request: Request, query: Annotated[GenerateQuery, Query()]) -> Response:
        """Generate an image from noise, or a sample grid of several."""
        passage = passage_of(request.scope)
        served = self._catalogue.find(query.model, "generate")
        format = chosen_format(query.format, request.headers.get("accept"))

        def sample(sampler: Sampler) -> DecodedImage:
            samples = sampler.sample(query.n, query.seed, query.class_, query.truncation)
            if query.n == 1:
                return from_array(samples[0])
            columns = sampler.facts.classes if query.class_ is None else 0
            grid = SampleGrid(query.n, samples.shape[1:3], samples.shape[3], columns or None)
            for index, each in enumerate(samples):
                grid.place(index, each)
            return from_array(grid.pixels)

        name = f"{served.name}-{query.seed}"
        with _problems(name):
            result = await self._run(request, Task(Generator(served), sample=sample))
            return await self._encoded(passage, result, name, query, format)

    async def models(self) -> ModelsResponse:
        """List the models and the limits."""
        with _problems("models"):
            facts = await to_thread.run_sync(
                lambda: {served.name: self._catalogue.facts(served) for served in self._catalogue.models.values()}
            )
        infos = [
            ModelInfo(
                name=served.name,
                task=served.task,
                summary=served.summary,
                limits=served.limits,
                default=served.name == self._catalogue.default(served.task),
                scale=facts[served.name].scale,
                strength=served.strength,
                own_strength=served.own_strength,
                directions=["AtoB", "BtoA"] if served.pair else [],
                input_kind=facts[served.name].input_kind,
                classes=facts[served.name].classes,
            )
            for served in self._catalogue.models.values()
        ]
        limits = self._settings
        return ModelsResponse(
            models=infos,
            max_bytes=limits.max_bytes,
            max_pixels=limits.max_pixels,
            max_result_pixels=limits.max_result_pixels,
            version=__version__,
        )

    async def health(self) -> Response:
        """Say whether the service can work: 200, or 503 while it shuts down."""
        status = "draining" if self._admission.draining else "ok" if self._room.alive else "failed"
        health = Health.model_validate(
            {"status": status, "in_flight": self._admission.requests, "waiting": self._room.waiting}
        )
        return JSONResponse(health.model_dump(), 200 if status == "ok" else 503)

    async def counters(self) -> Response:
        """Return the counters in the text format of Prometheus."""
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _image(
        self, request: Request, upload: UploadFile, query: ImageQuery, generator: Generator, size: OutputSize
    ) -> Response:
        """Run an uploaded image through a generator."""
        passage, served = passage_of(request.scope), generator.served
        format = chosen_format(query.format, request.headers.get("accept"))
        name = shown_name(upload.filename)
        with _problems(name):
            data = await upload.read()
            began = perf_counter()
            source = await self._in_thread(partial(declared_size, data, name, self._settings.max_pixels))
            facts = await to_thread.run_sync(self._catalogue.facts, served)
            self._reserve(passage, source, size, facts.scale, name)
            decode = partial(decoded, data, name, facts, query, self._settings.max_pixels, self._max_memory)
            image = await self._in_thread(decode)
            del data, decode
            passage.facts["decode_seconds"] = round(perf_counter() - began, 4)
            height, width = image.pixels.shape[:2]  # upright, which the declared size may not be
            check_target(size.of((width, height), facts.scale), Path(f"{name}.{format}"))
            result = await self._run(request, Task(generator, image=image))
            if size.given:
                result = await self._in_thread(partial(size.resized, result, facts.scale))
            return await self._encoded(passage, result, f"{PurePath(name).stem}-{served.name}", query, format)

    def _reserve(self, passage: Passage, source: tuple[int, int], size: OutputSize, scale: int, name: str) -> None:
        """Reserve the pixels of a result.

        Raises:
            Problem: If it would be too large, or too much is in flight.
        """
        pixels = max(math.prod(source) * scale**2, math.prod(size.of(source, scale)))
        most = self._settings.max_result_pixels
        if pixels > most:
            detail = f"{name}: the result would have {pixels / 1e6:.0f} MP, and {most / 1e6:g} MP are allowed"
            raise Problem(413, f"{detail}; send a smaller image, or ask for a smaller result")
        self._admission.take(pixels)
        passage.pixels = pixels

    async def _run(self, request: Request, task: Task) -> DecodedImage:
        """Wait for a task, and withdraw it if the client goes away.

        Raises:
            ClientGone: If the client has gone.
        """
        passage = passage_of(request.scope)
        passage.facts["model"] = task.generator.served.name
        self._room.submit(task)
        waits = asyncio.wrap_future(task.future)
        watch = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({waits, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not waits.done():
                # At once: ``waits.cancel()`` alone reaches the task when the event loop turns next. One that is running
                # already ends by itself, and nobody takes its result.
                task.future.cancel()
                waits.cancel()
                raise ClientGone
            result: DecodedImage = waits.result()
        finally:
            watch.cancel()
        seconds = {"waited": round(task.waited, 4), "engine_seconds": round(task.engine_seconds, 4)}
        passage.facts |= {**seconds, "batch": task.batch, "engine": task.engine}
        return result

    async def _encoded(
        self, passage: Passage, result: DecodedImage, name: str, query: OutputQuery, format: FormatName
    ) -> Response:
        """Return the response with a result."""
        began = perf_counter()
        encode = partial(encode_bytes, result, writer(format), Path(f"{name}.{format}"), quality=query.quality)
        data, notes = await self._in_thread(encode)
        height, width = result.pixels.shape[:2]
        self._metrics.result(width * height)
        facts = passage.facts
        passage.facts |= {"pixels": width * height, "encode_seconds": round(perf_counter() - began, 4)}
        seconds = {
            "decode": "decode_seconds",
            "queue": "waited",
            "engine": "engine_seconds",
            "encode": "encode_seconds",
        }
        times = {name: facts.get(key, 0.0) for name, key in seconds.items()}
        share = times["engine"] / sum(times.values()) if times["engine"] else 0.0
        facts["engine_share"] = round(share, 3)
        headers = {
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}.{format}",
            "Server-Timing": ", ".join(f"{key};dur={1000 * seconds:.1f}" for key, seconds in times.items()),
            "X-Gankit-Engine": facts["engine"],
            "X-Gankit-Engine-Share": f"{share:.3f}",
            "X-Gankit-Size": f"{width}x{height}",
        }
        if lines := [*result.notes, *notes]:
            headers["X-Gankit-Notes"] = quote("; ".join(lines)[:1000], safe=" ,;:()/+-")
        return Response(data, media_type=MEDIA_TYPES[format], headers=headers)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run what takes long beside the event loop."""
        return await to_thread.run_sync(work, limiter=self._codecs)


class ClientGone(Exception):  # noqa: N818 - nobody is left to whom it is an error
    """The client has closed the connection."""


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _problems:  # noqa: N801 - used as a function
    """Raise the errors of gankit as problems inside the block.

    Args:
        name: of the uploaded file.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and (problem := problem_of(error, self._name)) is not None:
            raise problem from error


def _checked(make: Callable[[], T], name: str) -> T:
    with _problems(name):
        return make()
