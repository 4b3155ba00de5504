"""A page for each command, made from the command itself: a new command or recipe needs no file here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from gankit.cli import COMMANDS
from gankit.cli.group import LazyGroup

FOLDER = "commands/generated"


@dataclass(frozen=True)
class Page:
    """A command's page.

    Attributes:
        words: of the command line, such as ``("gankit", "train", "cgan")``.
        target: where the click command is, as ``module:attribute``.
        below: the names of its own commands.
    """

    words: tuple[str, ...]
    target: str
    below: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the file, without its suffix; a group's own commands lie in a folder of its name."""
        return "/".join(["-".join(self.words[:2]), *self.words[2:]])

    def text(self) -> str:
        """In reStructuredText."""
        title = " ".join(self.words)
        lines = [title, "=" * len(title), "", f".. click:: {self.target}", f"   :prog: {title}", "   :nested: none", ""]
        if self.below:
            lines += [".. rubric:: Commands", "", ".. toctree::", "   :titlesonly:", ""]
            lines += [f"   /{FOLDER}/{self.name}/{name}" for name in self.below]
        return "\n".join(lines) + "\n"


def pages(package: str = "gankit.cli", entries: Any = COMMANDS, before: tuple[str, ...] = ("gankit",)) -> Iterator[Page]:
    """The page of every command, and of the commands below it."""
    for name, entry in entries.items():
        module, _, attribute = entry.target.partition(":")
        command = getattr(import_module(f"{package}.{module}"), attribute)
        below = command.entries if isinstance(command, LazyGroup) else {}
        yield Page((*before, name), f"{package}.{module}:{attribute}", tuple(below))
        if isinstance(command, LazyGroup):
            yield from pages(command.package, below, (*before, name))


def write(app: Sphinx) -> None:
    """Write the pages that are new or have changed, and remove those of commands that are gone."""
    folder = Path(app.srcdir) / FOLDER
    wanted = {folder / f"{page.name}.rst": page.text() for page in pages()}
    for path in set(folder.rglob("*.rst")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def escape(app: Sphinx, context: Any, lines: list[str]) -> None:
    """A command's help is plain text: a star in it is no markup."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("builder-inited", write)
    for part in ("description", "epilog", "options"):
        app.connect(f"sphinx-click-process-{part}", escape)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
