"""Share samples with other runs that write to the same folder at the same time. Imports no torch."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from gankit.pipeline.generated_files import FileClaims, ImageFolder

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
        folder: the folder.
        before: the states of the files that the run replaces, when it began. It replaces no other ones.
        run: name of the run.
        member: whether this process works for a run that another one has begun.
    """

    folder: ImageFolder
    before: Mapping[str, Hashable] = field(default_factory=dict)
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    member: bool = False
    _entered: FileClaims | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._entered = self.folder.claims(self.run, member=self.member)
        return self

    def __exit__(self, *exc: object) -> None:
        self._claims.close()
        self._entered = None

    @property
    def _claims(self) -> FileClaims:
        assert self._entered is not None, "claims are made in a with statement"
        return self._entered

    def of_member(self, folder: ImageFolder) -> SampleClaims:
        """Return the claims of a process that works for this run, and that knows the folder in its own way."""
        return SampleClaims(folder, self.before, self.run, member=True)

    def take(self, names: Iterable[str]) -> Turns:
        """Claim files in the order of their names, up to the first one that another run has.

        All runs claim in this order. So of two runs that make the same files in one call of an engine, one makes all of
        them, and the other one goes on to the next call.

        Raises:
            OutputError: If a link leads out of the folder.
        """
        wanted = sorted(names)
        count = 0
        while count < len(wanted) and self._claims.take(self.folder.place(wanted[count])):
            count += 1
        made = self._made(wanted)
        for name in made.intersection(wanted[:count]):
            self.release(name)
        return Turns(frozenset(wanted[:count]) - made, made, frozenset(wanted[count:]) - made)

    def release(self, name: str) -> None:
        """Give up the claim on a file."""
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
        while not self._claims.take(self.folder.place(name)):
            sleep(_POLL)
        with self.releasing(name):
            yield

    def wait(self, names: Iterable[str]) -> Turns:
        """Wait until another run has made one of some files, or has left it undone. This run makes none meanwhile.

        Args:
            names: files that another run has claimed.
        """
        waiting = frozenset(names)
        self._claims.give_up()
        while True:
            made = self._made(waiting)
            own = set[str]()
            for name in sorted(waiting - made):
                if self._claims.take(self.folder.place(name)):
                    self.release(name)
                    own.add(name)
            if made or own:
                return Turns(frozenset(own), made, waiting - made - own)
            sleep(_POLL)

    def _made(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of some files that another run has made since this one began."""
        states = self.folder.states(names)
        return frozenset(name for name, state in states.items() if state != self.before.get(name))
