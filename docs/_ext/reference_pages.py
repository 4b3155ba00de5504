"""A page of the API reference for each package, made from the packages themselves: a new module needs no file here."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from generated import replace_pages
from sphinx.application import Sphinx

FOLDER = "reference/generated"
PACKAGES = ("gankit", "gankit_export", "gankit_kernels")
# Commands have pages of their own; importing a __main__ runs it.
LEFT_OUT = ("gankit.cli", "gankit.__main__")


@dataclass(frozen=True)
class Page:
    """A package's page.

    Attributes:
        package: dotted name.
        modules: dotted names of its modules.
        below: dotted names of its packages, which have pages of their own.
    """

    package: str
    modules: tuple[str, ...]
    below: tuple[str, ...]

    def text(self) -> str:
        """In reStructuredText: the package, its modules one after the other, links to the packages below it."""
        lines = [*_title(self.package, "="), f".. automodule:: {self.package}", ""]
        if self.below:
            lines += [".. toctree::", "   :titlesonly:", "", *(f"   {name}" for name in self.below), ""]
        for name in self.modules:
            lines += [*_title(name, "-"), f".. automodule:: {name}", ""]
        return "\n".join(lines)


def _title(name: str, rule: str) -> list[str]:
    text = name.replace("_", r"\_")
    return [text, rule * len(text), ""]


def pages(package: str) -> Iterator[Page]:
    """The page of a package, and of the packages below it."""
    found = [
        (f"{package}.{each.name}", each.ispkg)
        for each in pkgutil.iter_modules(import_module(package).__path__)
        if f"{package}.{each.name}" not in LEFT_OUT
    ]
    below = tuple(name for name, is_package in found if is_package)
    yield Page(package, tuple(name for name, is_package in found if not is_package), below)
    for name in below:
        yield from pages(name)


def write(app: Sphinx) -> None:
    """Write the pages."""
    texts = {f"{page.package}.rst": page.text() for package in PACKAGES for page in pages(package)}
    replace_pages(Path(app.srcdir) / FOLDER, texts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
