"""The log of the service: one JSON object in each line."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import Scope


class RequestLog:
    """Writes lines. May be used from several threads.

    Args:
        stream: the file to write to; ``None`` writes nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def request(self, scope: Scope, id: str, fields: Mapping[str, Any]) -> None:
        """Write the line of a request. It has no query and no headers, which may be private."""
        client = scope.get("client")
        about = {"id": id, "client": client[0] if client else None, "method": scope["method"], "path": scope["path"]}
        level = fields["level"]
        self._write(level, "request", {**about, **{key: value for key, value in fields.items() if key != "level"}})

    def bug(self, id: str, error: BaseException) -> None:
        """Write the line of an exception that no one expected."""
        text = "".join(traceback.format_exception(error))
        self._write("error", "exception", {"id": id, "traceback": text})

    def note(self, text: str, level: str = "info") -> None:
        """Write a line of the pipeline or of the server, such as the choice of an engine."""
        self._write(level, "note", {"message": text})

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": time, "level": level, "event": event, **fields}, default=str)
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the reader of a pipe is gone; requests are still answered
                self._stream = None


class LogHandler(logging.Handler):
    """Writes what uvicorn reports to a :class:`RequestLog`.

    Args:
        log: the log.
    """

    def __init__(self, log: RequestLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        self._log.note(text, record.levelname.lower())
