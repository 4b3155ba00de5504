"""A package's page lists the names that it passes on from its modules, and references by those names are links."""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def defined_as(dotted: str) -> str | None:
    """Where an object is defined that has a name in a package: ``gankit.Upscaler`` -> its class's full name.

    Returns:
        The full name, or ``None`` where nothing has that name, or it has no other.
    """
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        full = f"{module}.{name}"
        return full if module and name and full != dotted else None
    return None


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
    app.connect("autodoc-process-docstring", list_public_names)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
