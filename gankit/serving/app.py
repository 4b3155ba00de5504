"""The application: its operations, their description for OpenAPI, and what surrounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from gankit.options import EngineOptions
from gankit.serving.admission import Admission
from gankit.serving.catalogue import Catalogue
from gankit.serving.engine_room import EngineRoom
from gankit.serving.formats import IMAGE_RESPONSE
from gankit.serving.guard import Guard, bug_of
from gankit.serving.log import RequestLog
from gankit.serving.metrics import Metrics
from gankit.serving.page import routes
from gankit.serving.pipelines import Pipelines
from gankit.serving.problems import answer_http, answer_invalid, responses
from gankit.serving.queries import Health, ModelsResponse
from gankit.serving.service import ClientGone, Service
from gankit.serving.settings import ServerSettings
from gankit.version import __version__

_ABOUT = 'Upscales, translates and generates images with trained GAN generators. Errors are `{"detail": …}`.'
_WITH_IMAGE = (400, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503)
_WITHOUT_IMAGE = (403, 404, 406, 408, 413, 422, 429, 500, 503)


@dataclass(frozen=True)
class Application:
    """The application and what runs in it.

    Attributes:
        app: what a server calls.
        admission: counts the requests in flight; setting ``draining`` refuses new ones.
        log: the log.
    """

    app: ASGIApp
    admission: Admission
    log: RequestLog


def application(
    catalogue: Catalogue, engine: EngineOptions, settings: ServerSettings, stream: TextIO | None = None
) -> Application:
    """Return the application.

    Args:
        catalogue: the models.
        engine: the engine options of all.
        settings: the limits.
        stream: where the log is written; ``None`` writes none.
    """
    log = RequestLog(stream)
    room = EngineRoom(Pipelines(engine, settings.open_models, log.note), settings.batch_wait)
    admission = Admission(settings.queue, 2 * settings.max_result_pixels, room.delay)
    room.metrics = metrics = Metrics(lambda: admission.requests, lambda: room.waiting)
    room.expected = lambda: admission.requests
    service = Service(catalogue, room, admission, metrics, settings, engine.max_memory)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        room.start()
        yield
        admission.draining = True
        await to_thread.run_sync(room.close)

    app = FastAPI(
        title="gankit", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(ClientGone, _closed)
    app.add_exception_handler(Exception, _bug)  # Starlette raises it again, and the guard logs it
    _add_operations(app, service, protected=settings.token is not None)
    app.router.routes.extend(routes())
    return Application(Guard(app, settings, admission, metrics, log), admission, log)


def _add_operations(app: FastAPI, service: Service, protected: bool) -> None:
    """Add the operations with their errors, and with the token if there is one."""
    token: tuple[int, ...] = (401,) if protected else ()
    security: dict[str, Any] = {"security": [{"token": []}]} if protected else {}

    def add(path: str, work: Callable[..., Any], method: str, statuses: tuple[int, ...], **more: Any) -> None:
        described = {**responses(*statuses), **more.pop("responses", {})}
        app.add_api_route(path, work, methods=[method], responses=described, **more)

    image = {"responses": {200: IMAGE_RESPONSE}, "response_class": Response, "openapi_extra": security}
    add("/upscale", service.upscale, "POST", (*_WITH_IMAGE, *token), **image)
    add("/translate", service.translate, "POST", (*_WITH_IMAGE, *token), **image)
    add("/generate", service.generate, "POST", (*_WITHOUT_IMAGE, *token), **image)
    listed = {"response_model": ModelsResponse, "openapi_extra": security}
    add("/models", service.models, "GET", (403, 500, *token), **listed)
    state = {200: {"model": Health, "description": "The service can work."}}
    ending = {503: {"model": Health, "description": "The service is shutting down, or its engine thread has ended."}}
    add("/healthz", service.health, "GET", (403,), responses={**state, **ending})
    text = {"description": "The counters.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    add(
        "/metrics",
        service.counters,
        "GET",
        (403, *token),
        responses={200: text},
        response_class=Response,
        openapi_extra=security,
    )
    if protected:
        _describe_token(app)


def _describe_token(app: FastAPI) -> None:
    """Describe the token in the OpenAPI document."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        scheme = {"type": "http", "scheme": "bearer", "description": "The token of --token or GANKIT_TOKEN."}
        document.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _closed(request: Request, error: Exception) -> Response:
    """Answer a client that has gone, for the log only."""
    return Response(status_code=499)


async def _bug(request: Request, error: Exception) -> Response:
    """Answer to an exception that no one expected."""
    return bug_of(request.scope).response()
