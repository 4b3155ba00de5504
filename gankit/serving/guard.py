"""What surrounds every request: its id, its log line, who may send it, how large it may be and how many run at once."""

from __future__ import annotations

import asyncio
import hmac
import re
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gankit.serving.admission import Admission
from gankit.serving.log import RequestLog
from gankit.serving.metrics import Metrics
from gankit.serving.problems import Problem
from gankit.serving.settings import ServerSettings

WORK = frozenset({"/upscale", "/translate", "/generate"})
OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz", "/favicon.ico"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAIN_SECONDS = 5.0
_CLOSED_REQUEST = 499  # nginx's status for a client that has gone; it is only logged


@dataclass
class Passage:
    """What becomes known of a request while it is answered; the log line has all of it.

    Attributes:
        id: request id.
        began: when it arrived.
        received: bytes of its body.
        sent: bytes of the response's body.
        status: of the response; 0 before it starts.
        pixels: reserved pixels of its result.
        facts: more for the log line, such as the model.
    """

    id: str
    began: float = field(default_factory=perf_counter)
    received: int = 0
    sent: int = 0
    status: int = 0
    pixels: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def passage_of(scope: Scope) -> Passage:
    """Return the passage of a request."""
    found = scope["gankit.passage"]
    assert isinstance(found, Passage)
    return found


class Guard:
    """The outermost layer of the application.

    Args:
        app: the application.
        settings: the settings.
        admission: counts the requests in flight.
        metrics: counts the answers.
        log: writes a line for each request.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, admission: Admission, metrics: Metrics, log: RequestLog
    ) -> None:
        self._app, self._settings, self._admission, self._metrics, self._log = app, settings, admission, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before its body is used."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        passage = Passage(given if _ID.fullmatch(given) else uuid.uuid4().hex)
        scope["gankit.passage"] = passage
        body = _Body(receive, passage, self._settings)

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                passage.status = message["status"]
                own = MutableHeaders(raw=message["headers"])
                message["headers"] = own.raw
                own["X-Request-Id"] = passage.id
                own["X-Content-Type-Options"] = "nosniff"
                own.setdefault("Cache-Control", "no-store")
            elif message["type"] == "http.response.body":
                passage.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._answer(scope, headers, body, observed)
        except Problem as problem:
            await body.drain()
            await problem.response()(scope, receive, observed)
        except Exception as error:
            self._log.bug(passage.id, error)
            if not passage.status:
                await bug_of(scope).response()(scope, receive, observed)
        finally:
            seconds = perf_counter() - passage.began
            self._metrics.request(scope["path"], passage.status or _CLOSED_REQUEST, seconds)
            self._log.request(scope, passage.id, _line(passage, seconds))

    async def _answer(self, scope: Scope, headers: Headers, body: _Body, send: Send) -> None:
        """Answer a request, if it may be answered.

        Raises:
            Problem: If it may not.
        """
        path, passage = scope["path"], passage_of(scope)
        self._check_sender(scope, headers)
        if path not in OPEN and path != "/openapi.json":
            self._check_token(headers)
        if path not in WORK or scope["method"] != "POST":
            await self._app(scope, body.receive, send)
            return
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._settings.max_bytes:
            raise too_many_bytes(self._settings.max_bytes)
        self._admission.enter()
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._admission.leave(passage.pixels)

    def _check_sender(self, scope: Scope, headers: Headers) -> None:
        """Refuse requests that other web sites make a browser send."""
        host = headers.get("host", "")
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        if self._settings.hosts is not None and name not in self._settings.hosts:
            raise Problem(403, f"this service does not answer to the host '{name[:100]}'; start it with --host {name}")
        origin = headers.get("origin")
        if scope["method"] == "POST" and origin is not None and origin.partition("://")[2] != host:
            raise Problem(
                403, f"requests from the web site {origin[:100]} are not answered; use the page of this service"
            )

    def _check_token(self, headers: Headers) -> None:
        """Refuse requests without the token. The time of the comparison says nothing about it."""
        if self._settings.token is None:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(token.strip().encode(), self._settings.token.encode())
        if scheme.lower() != "bearer" or not same:
            what = "is wrong" if token else "is missing"
            detail = f"the token {what}; send it as 'Authorization: Bearer TOKEN'"
            raise Problem(401, detail, {"WWW-Authenticate": "Bearer"})


def bug_of(scope: Scope) -> Problem:
    """Return the problem of an exception that no one expected."""
    id = passage_of(scope).id
    return Problem(500, f"gankit has a bug; its log has the traceback under the request id {id}")


def too_many_bytes(most: int) -> Problem:
    """Return the problem of a body that is too large."""
    return Problem(413, f"the request has more than {most / 2**20:g} MiB; send a smaller file")


class _Body:
    """The body of a request: counted, and limited in size and in time."""

    def __init__(self, receive: Receive, passage: Passage, settings: ServerSettings) -> None:
        self._receive, self._passage, self._settings = receive, passage, settings
        self._until = passage.began + settings.upload_seconds
        self._complete = False

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            Problem: If the body is too large, or does not arrive in time.
        """
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._until - perf_counter()))
        except TimeoutError:
            self._complete = True  # nothing more is read
            seconds = self._settings.upload_seconds
            raise Problem(408, f"the body did not arrive within {seconds:g} s; send a smaller file") from None
        self._passage.received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._passage.received > self._settings.max_bytes:
            raise too_many_bytes(self._settings.max_bytes)
        return message

    async def drain(self) -> None:
        """Read what is left of the body, within limits, so that the client reads the answer and not a closed pipe."""
        until = perf_counter() + _DRAIN_SECONDS
        left = self._settings.max_bytes
        while not self._complete and left > 0:
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, until - perf_counter()))
            except TimeoutError:
                return
            left -= len(message.get("body", b"")) or 1
            self._complete = not message.get("more_body", False)


def _line(passage: Passage, seconds: float) -> dict[str, Any]:
    """Return the fields of the log line."""
    status = passage.status or _CLOSED_REQUEST
    level = "error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "info"
    known = {"status": status, "seconds": round(seconds, 4), "received": passage.received, "sent": passage.sent}
    return {"level": level, **known, **passage.facts}
