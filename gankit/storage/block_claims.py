"""Claims on samples in a folder of a store, by which runs that write to it at the same time share the work. No torch.

A sample is so small that a request for each would take as long as to write it. A run therefore claims 64 numbers at a
time, as in :mod:`gankit.storage.claims`, and keeps such a block until it has nothing more to make.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from time import monotonic

from gankit.storage.claims import Claim, SignOfLife, Watch, give_up

_BLOCK = 64  # as many samples as a call of an engine makes, unless the user chooses
_NUMBER = re.compile(r"(\d{6,})(\.\w+)")
_AGAIN = 0.5  # seconds for which another run is taken to hold what it held


class BlockClaims:
    """The claims of one run, or of a process that works for it. May be used from several threads.

    Args:
        root: URL of the folder.
        run: name of the run.
        member: whether another process signs that the run is alive, and gives up its claims in the end.
    """

    def __init__(self, root: str, run: str, *, member: bool = False) -> None:
        self._root, self._run = root, run
        self._sign = None if member else SignOfLife(root, run)
        self._watch = Watch(root)
        self._held: set[str] = set()
        self._refused: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, target: Path) -> bool:
        """Claim a file, and with it the samples of its block. Return whether this run has the claim now."""
        with self._lock:
            claim = self._claim(target)
            if claim.result in self._held:
                return True
            if monotonic() - self._refused.get(claim.result, -_AGAIN) < _AGAIN:
                return False
            if claim.take() == "other" and not (self._watch.is_free(claim) and claim.take() != "other"):
                self._refused[claim.result] = monotonic()
                return False
            self._held.add(claim.result)
            return True

    def release(self, target: Path) -> None:
        """Give up the claim on a file that is no sample. A block is kept."""
        if _NUMBER.fullmatch(target.name):
            return
        with self._lock:
            claim = self._claim(target)
            if claim.result in self._held:
                self._held.remove(claim.result)
                claim.release()

    def give_up(self) -> None:
        """Give up all claims of the run, because whatever it has claimed is made or has failed."""
        with self._lock:
            self._held.clear()
            give_up(self._root, self._run)

    def close(self) -> None:
        """End the run. What works for it leaves its claims alone."""
        if self._sign is not None:
            self.give_up()
            self._sign.close()

    def _claim(self, target: Path) -> Claim:
        name = target.name
        if found := _NUMBER.fullmatch(name):
            name = f"{int(found[1]) // _BLOCK * _BLOCK:06d}{found[2]}"
        return Claim(self._root, self._run, f"{self._root}/{name}")
