"""A page for each command, made from the command itself: a new command or recipe needs no file here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
from docutils import nodes
from generated import outside_code, replace_pages
from sphinx.application import Sphinx
from sphinx_click.ext import ClickDirective

from gankit.cli import gankit

FOLDER = "commands/generated"


@dataclass(frozen=True)
class Page:
    """A command's page.

    Attributes:
        words: of the command line after ``gankit``, such as ``("train", "cgan")``.
        below: the names of the commands of a group.
    """

    words: tuple[str, ...]
    below: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the file, without its suffix; a group's own commands lie in a folder of its name."""
        return "/".join([f"gankit-{self.words[0]}", *self.words[1:]])

    def text(self) -> str:
        """In reStructuredText."""
        lines = [f".. gankit-command:: {' '.join(self.words)}", ""]
        if self.below:
            lines += ["   .. rubric:: Commands", "", "   .. toctree::", "      :titlesonly:", ""]
            lines += [f"      /{FOLDER}/{self.name}/{name}" for name in self.below]
        return "\n".join(lines) + "\n"


def find(words: Sequence[str]) -> click.Command:
    """The command of some words of the command line.

    Raises:
        LookupError: there is none.
    """
    command: click.Command = gankit
    for word in words:
        group = command
        found = group.get_command(click.Context(group), word) if isinstance(group, click.Group) else None
        if found is None:
            raise LookupError(f"gankit has no command '{' '.join(words)}'")
        command = found
    return command


def pages(before: tuple[str, ...] = ()) -> Iterator[Page]:
    """The page of every command, and of the commands below it."""
    group = find(before)
    assert isinstance(group, click.Group)
    for name in group.list_commands(click.Context(group)):
        words = (*before, name)
        command = find(words)
        if isinstance(command, click.Group):
            yield Page(words, tuple(command.list_commands(click.Context(command))))
            yield from pages(words)
        else:
            yield Page(words, ())


class CommandDirective(ClickDirective):  # type: ignore[misc]
    """sphinx-click's directive for a command that is found by its words, not by a module's attribute."""

    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {}
    has_content = True

    def run(self) -> list[nodes.section]:
        """The command's help as one section, which ends with the directive's content."""
        self.env = self.state.document.settings.env
        words = self.arguments[0].split()
        found: list[nodes.section] = self._generate_nodes(" ".join(["gankit", *words]), find(words), None, "none")
        self.state.nested_parse(self.content, self.content_offset, found[0])
        return found


def write(app: Sphinx) -> None:
    """Write the pages."""
    replace_pages(Path(app.srcdir) / FOLDER, {f"{page.name}.rst": page.text() for page in pages()})


def plain(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Let a command's help be plain text, in which a star is no markup, unless it is sphinx-click's own."""
    for index, line in enumerate(lines):
        if not line.lstrip().startswith(".. "):
            lines[index] = outside_code(line, "*|").replace(r"\*\*Required\*\*", "**Required**")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_directive("gankit-command", CommandDirective)
    app.connect("builder-inited", write)
    for part in ("description", "epilog", "options"):
        app.connect(f"sphinx-click-process-{part}", plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
