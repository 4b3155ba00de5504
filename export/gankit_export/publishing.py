"""Put an artefact of several files in its place: all of them, or none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gankit_export import manifest as manifests
from gankit_export.manifest import Manifest


@contextmanager
def drafts(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder on the same disk as ``folder``, which is created; it is removed at the end.

    Raises:
        OSError: It cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gankit-", dir=folder) as made:
        yield Path(made)


def publish(draft: Path, others: Sequence[Path], manifest: Manifest, path: Path) -> None:
    """Move an artefact with its further files and its manifest to its place. The artefact comes last.

    If this is interrupted, no artefact is there, or its checksum is not the one in the manifest, so that it is refused.

    Args:
        draft: the artefact in a temporary folder.
        others: the files that belong to it.
        manifest: its manifest.
        path: where it goes. The others keep their names.

    Raises:
        OSError: A file cannot be written.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    for other in others:
        other.replace(path.with_name(other.name))
    manifests.write(manifest, path)
    draft.replace(path)


def publish_folder(draft: Path, path: Path) -> None:
    """Move a folder to its place. A folder that is there is replaced.

    Raises:
        OSError: It cannot be moved.
    """
    if path.exists():
        old = draft.with_name("replaced")
        path.replace(old)
        try:
            draft.replace(path)
        except OSError:
            old.replace(path)
            raise
        shutil.rmtree(old)
        return
    draft.replace(path)
