"""Docstrings as they are meant: bars are those of a formula, --options are code, and public names are links."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from docutils import nodes
from generated import outside_code
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def defined_as(dotted: str) -> str | None:
    """Where an object is defined that has a name in a package: ``gankit.Upscaler`` -> its class's full name.

    Returns:
        The full name, or ``None`` where nothing has that name, or it has no other.
    """
    parts = dotted.split(".")
    # A package first: what it passes on may have the name of the module that defines it.
    for end in range(1, len(parts) + 1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        if module and name:
            full = f"{module}.{name}"
            return full if full != dotted else None
    return None


def keep_signs(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let |x| be an absolute value, where reStructuredText sees a substitution, and --option an option's name."""
    lines[:] = [outside_code(line, "|") for line in lines]


def skip_namesake(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a function of a package that has the name of one of its modules: a page has one target of a name."""
    full = f"{getattr(obj, '__module__', '')}.{name}"
    return True if what == "module" and full in sys.modules else None


def list_public_names(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Add to a package's own text the names in its ``__all__`` that other files define."""
    if what != "module" or not hasattr(obj, "__path__"):
        return
    found = [(public, defined_as(f"{name}.{public}")) for public in getattr(obj, "__all__", ())]
    links = [f":py:obj:`{public} <{full}>`" for public, full in found if full]
    if links:
        lines += ["", f"Public names: {', '.join(links)}.", ""]


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Lead a reference by a public name to where the object is documented."""
    if node.get("refdomain") != "py":
        return None
    full = defined_as(node["reftarget"])
    if full is None:
        return None
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", keep_signs)
    app.connect("autodoc-process-docstring", list_public_names)
    app.connect("autodoc-skip-member", skip_namesake)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
