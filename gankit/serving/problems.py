"""Errors of the service: each becomes a status and ``{"detail": one line with the way out}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from gankit.errors import GankitError, ImageError, UsageError

_MEANINGS: Mapping[int, str] = {
    400: "The request or its image is damaged.",
    401: "The token is missing or wrong.",
    403: "The request comes from another web site, or names another host.",
    404: "There is no such model for this task.",
    406: "None of the accepted media types can be written.",
    408: "The body did not arrive in time.",
    413: "The body, the image or its result is too large.",
    415: "The file is of a format that gankit does not read.",
    422: "An argument is wrong, or arguments contradict each other.",
    429: "Too many requests are in flight; try again after the time in Retry-After.",
    500: "The engine failed, or gankit has a bug.",
    503: "The service is shutting down; try again after the time in Retry-After.",
}
_LATER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}


class Detail(BaseModel):
    """The body of every error."""

    detail: str = Field(description="One line that says what is wrong and what to do.")


class Problem(HTTPException):
    """A request cannot be answered.

    Args:
        status: HTTP status.
        detail: one line that says what is wrong and what to do.
        headers: more headers of the response.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, " ".join(detail.split()), dict(headers or {}))

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse({"detail": self.detail}, self.status_code, self.headers)


def problem_of(error: Exception, name: str) -> Problem | None:
    """Return what an error of gankit means to a client; ``None`` for a bug.

    Args:
        error: what was raised while the request was answered.
        name: of the uploaded file.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, ImageError):
        return Problem(400, f"{name}: {error.reason}")
    if isinstance(error, MemoryError):
        text = str(error) if isinstance(error, GankitError) else "there is not enough memory for it"
        return Problem(413, f"{name}: {text}; send a smaller image")
    if isinstance(error, UsageError):
        return Problem(422, str(error))
    if isinstance(error, GankitError):
        return Problem(500, str(error))
    return None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe errors for OpenAPI.

    Args:
        statuses: those that an operation can answer with.
    """
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"model": Detail, "description": _MEANINGS[status]}
        if status in (429, 503):
            described[status]["headers"] = _LATER
    return described


async def answer_http(request: Request, error: Exception) -> JSONResponse:
    """Answer with a :class:`Problem`, or with an error of Starlette as one."""
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return error.response()
    path, detail = request.url.path, str(error.detail)
    if error.status_code == 404:
        detail = f"there is nothing at {path}; see /openapi.json for what there is"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
        detail = f"{path} does not take {request.method}" + (f"; use {allowed}" if allowed else "")
    return Problem(error.status_code, detail, error.headers).response()


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer to arguments that do not fit their description, in one line."""
    assert isinstance(error, RequestValidationError)
    return Problem(422, "; ".join(_sentence(found) for found in error.errors())).response()


def _sentence(found: Mapping[str, Any]) -> str:
    """Describe one finding of the validation."""
    name = ".".join(str(part) for part in found["loc"][1:]) or "the body"
    if found["type"] == "missing":
        place = "as multipart/form-data" if found["loc"][0] == "body" else "in the query"
        return f"'{name}' is missing: send it {place}"
    if found["type"] == "extra_forbidden":
        return f"there is no argument '{name}'; see /openapi.json for those that there are"
    message = str(found["msg"])
    return f"'{name}': {message[0].lower()}{message[1:]}"
