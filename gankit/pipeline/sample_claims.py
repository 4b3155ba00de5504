"""Share samples with other runs that write to the same local folder at the same time. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Self

from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.journal import State

if TYPE_CHECKING:
    from gankit.pipeline.generated_files import ImageFolder

_POLL = 0.2  # seconds between two looks at what other runs have claimed


@dataclass(frozen=True)
class Turns:
    """Which of some files a run is to make.

    Attributes:
        own: those that it has claimed.
        made: those that another run has made since this one began.
        others: those that another run has claimed, or may be about to claim.
    """

    own: frozenset[str]
    made: frozenset[str]
    others: frozenset[str]


@dataclass
class SampleClaims:
    """The claims of one process on files in a folder.

    Attributes:
        folder: the folder. In one that has no claims, a run works as if it were alone.
        before: the states of the files that the run replaces, when it began. It replaces no other ones.
    """

    folder: ImageFolder
    before: Mapping[str, State] = field(default_factory=dict)
    _claims: FolderClaims | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._claims = self.folder.claims()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._claims is not None:
            self._claims.close()
            self._claims = None

    def take(self, names: Iterable[str]) -> Turns:
        """Claim files in the order of their names, up to the first one that another run has.

        All runs claim in this order. So of two runs that make the same files in one call of an engine, one makes all of
        them, and the other one goes on to the next call.

        Raises:
            OutputError: If a link leads out of the folder.
        """
        own, made, rest = set[str](), set[str](), sorted(names)
        while rest:
            if self._claims is not None:
                if not self._claims.take(self.folder.place(rest[0])):
                    made.update(name for name in rest if self._is_made(name))
                    break
                if self._is_made(rest[0]):
                    self.release(rest[0])
                    made.add(rest.pop(0))
                    continue
            own.add(rest.pop(0))
        return Turns(frozenset(own), frozenset(made), frozenset(rest) - made)

    def release(self, name: str) -> None:
        """Give up the claim on a file."""
        if self._claims is not None:
            self._claims.release(self.folder.place(name))

    @contextmanager
    def releasing(self, name: str) -> Iterator[None]:
        """Give up the claim on a file when the block has written it, or has failed to."""
        try:
            yield
        finally:
            self.release(name)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Keep other runs from being in the same block."""
        while self._claims is not None and not self._claims.take(self.folder.place(name)):
            sleep(_POLL)
        with self.releasing(name):
            yield

    def wait(self, names: Iterable[str]) -> Turns:
        """Wait until another run has made one of some files, or has left it undone. None is claimed then.

        Args:
            names: files that another run has claimed.
        """
        waiting = frozenset(names)
        while True:
            made = frozenset(name for name in waiting if self._is_made(name))
            own = set[str]()
            for name in waiting - made:
                if self._claims is None or self._claims.take(self.folder.place(name)):
                    self.release(name)
                    own.add(name)
            if made or own:
                return Turns(frozenset(own), made, waiting - made - own)
            sleep(_POLL)

    def _is_made(self, name: str) -> bool:
        now = self.folder.state(name)
        return now is not None and now != self.before.get(name)
