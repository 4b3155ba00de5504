"""Claims on results in a store, by which runs that write to one folder at the same time share the work. No torch.

A run claims a result before it makes it: it creates an object below ``.gankit-claims/`` on the condition that there is
none yet, and the store decides who is first. A run that comes second leaves the result for the end, and then waits
until it is there. Each run rewrites an object of its own every few seconds. If that object is gone, or stays as it is
for longer, the run has ended, and its claims count no more.

S3 checks the condition itself; for other stores this depends on their package for fsspec. Where it does not, fsspec
asks first and writes then, so two runs may both succeed within some milliseconds. Where no claim can be written, runs
work as if they were alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, sleep
from typing import Literal

from gankit.errors import GankitError
from gankit.storage.stores import Remote, Store

FOLDER = ".gankit-claims"
_CLAIM = re.compile("[0-9a-f]{32}")
_BEAT = 5.0  # seconds between two signs of life
_SILENCE = 45.0  # seconds without one, after which a run counts as ended; uploads may keep a process busy
_READERS = 8
_LOCK = f"{FOLDER}/journal.lock"
_LOCK_SECONDS = 20.0
_RETRY = 0.1


@dataclass(frozen=True)
class Claim:
    """A claim that a run may make on one result.

    Attributes:
        root: URL of the folder of the results.
        run: name of the run.
        result: URL of the result.
    """

    root: str
    run: str
    result: str

    @property
    def name(self) -> str:
        """Name of the object of the claim."""
        return f"{FOLDER}/{hashlib.sha256(self.result.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"

    def take(self) -> Literal["new", "own", "other"]:
        """Claim the result: ``"own"`` if this run has claimed it before, and ``"other"`` if another one has."""
        store = Remote(self.root)
        try:
            store.create(self.name, self.run.encode())
        except FileExistsError:
            return "own" if self.owner() in (self.run, None) else "other"
        except OSError:  # this store takes no claims, or is away, which the result itself will show
            return "new"
        return "new"

    def owner(self) -> str | None:
        """Return the run that has claimed the result; ``None`` if none has, or it is not known."""
        return owner_of(self.root, self.name)

    def release(self) -> None:
        """Give up the claim, so that another run may make the result."""
        with suppress(OSError):
            Remote(self.root).remove([self.name])


def owner_of(root: str, name: str) -> str | None:
    """Return the run that has written the object of a claim; ``None`` if there is none, or it is not known."""
    try:
        content = Remote(root).read(name)
    except OSError:
        return None
    return None if content is None else content.decode("ascii", "replace")


@dataclass
class Watch:
    """Tells whether runs have ended, by watching their signs of life.

    Attributes:
        root: URL of the folder of the results.
    """

    root: str
    _seen: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    def is_free(self, claim: Claim) -> bool:
        """Whether nobody holds a claim any longer. The claim of a run that has ended is removed."""
        owner = claim.owner()
        if owner is None or owner == claim.run:
            return True
        if not self._has_ended(owner):
            return False
        if claim.owner() == owner:  # nobody else has noticed meanwhile
            claim.release()
        return True

    def _has_ended(self, run: str) -> bool:
        try:
            sign = Remote(self.root).read(_sign_of(run))
        except OSError:
            return False  # the store is away for a moment
        if sign is None or _is_dead_here(sign):
            return True
        last, since = self._seen.get(run, (b"", 0.0))
        if sign != last:
            self._seen[run] = sign, monotonic()
            return False
        return monotonic() - since > _SILENCE


class SignOfLife:
    """Signs that a run is alive, until it is closed.

    Args:
        root: URL of the folder of the results.
        run: name of the run.
    """

    def __init__(self, root: str, run: str) -> None:
        self._root, self._name = root, _sign_of(run)
        self._here, self._count = {"host": socket.gethostname(), "process": os.getpid()}, 0
        self._stop = threading.Event()
        self._sign()
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Remove the sign."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            Remote(self._root).remove([self._name])

    def _sign(self) -> None:
        self._count += 1
        with suppress(OSError):
            sign = json.dumps({**self._here, "count": self._count}).encode("ascii")
            Remote(self._root).write(self._name, sign)

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT):
            self._sign()


def give_up(root: str, run: str) -> None:
    """Give up all claims of a run.

    Args:
        root: URL of the folder of the results.
        run: name of the run.
    """
    with suppress(OSError, GankitError):
        there = [item.name for item in Remote(f"{root}/{FOLDER}").present()]
        names = [f"{FOLDER}/{name}" for name in there if _CLAIM.fullmatch(name)]
        with ThreadPoolExecutor(_READERS) as pool:  # other runs have made some of them
            owners = pool.map(partial(owner_of, root), names)
            Remote(root).remove([name for name, owner in zip(names, owners, strict=True) if owner == run])


@contextmanager
def claiming(root: str, results: Sequence[str]) -> Iterator[dict[str, Claim]]:
    """Let this run make claims on results.

    Args:
        root: URL of the folder of the results.
        results: their URLs.

    Yields:
        A claim for each result that is not taken yet. At the end, all of them are given up.
    """
    run = uuid.uuid4().hex
    sign = SignOfLife(root, run)
    try:
        yield {result: Claim(root, run, result) for result in results}
    finally:
        give_up(root, run)
        sign.close()


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Keep other runs from writing the journal inside the context, for up to 20 seconds.

    Args:
        store: the folder of the results. A local one is not locked, and one that takes no claims neither.
    """
    if not isinstance(store, Remote):
        yield
        return
    until, held = monotonic() + _LOCK_SECONDS, False
    while not held:
        try:
            store.create(_LOCK, b"")
            held = True
        except FileExistsError:
            held = monotonic() > until  # whoever has locked it was killed
            if not held:
                sleep(_RETRY)
        except OSError:
            break
    try:
        yield
    finally:
        if held:
            with suppress(OSError):
                store.remove([_LOCK])


def _sign_of(run: str) -> str:
    return f"{FOLDER}/{run}.run"


def _is_dead_here(sign: bytes) -> bool:
    """Whether a sign of life is that of a process of this machine that is no more."""
    try:
        content = json.loads(sign)
        if content["host"] != socket.gethostname() or os.name != "posix":
            return False
        os.kill(int(content["process"]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False
