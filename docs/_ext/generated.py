"""What the extensions share: pages that are made at build time, and plain text in reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def replace_pages(folder: Path, texts: Mapping[str, str]) -> None:
    """Bring a folder to hold these pages and no others; pages that stay the same are not touched.

    Args:
        folder: made where it is missing.
        texts: by the file's name, relative to the folder.
    """
    wanted = {folder / name: text for name, text in texts.items()}
    for path in set(folder.rglob("*.rst")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def outside_code(line: str, signs: str) -> str:
    """A line in which some signs are no markup and ``--option`` is code; what is code already stays.

    Args:
        line: in reStructuredText.
        signs: each to be printed as it stands.
    """
    parts = re.split(r"(``.*?``|`.*?`)", line)
    for index in range(0, len(parts), 2):
        text = re.sub(f"([{re.escape(signs)}])", r"\\\1", parts[index])
        parts[index] = re.sub(r"(?<![\w-])--[a-z][a-z0-9-]*", r"``\g<0>``", text)
    return "".join(parts)
