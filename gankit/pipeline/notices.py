"""The lines that a run reports to the user before it begins. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gankit.pipeline.inputs import Inputs, unread_message
from gankit.pipeline.paths import is_folder
from gankit.pipeline.resume import Decision


def notices(found: Inputs, decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield what the user should know about the inputs and the existing results, a line each."""
    if found.places:
        yield f"writing to {_listed(found.places)}"
    if found.results:
        yield _skipped_results(found.results)
    for kind, paths in found.unread.items():
        yield unread_message(kind, paths)
    if found.renamed:
        first = found.renamed[0]
        more = f", and {len(found.renamed) - 1} more likewise" if len(found.renamed) > 1 else ""
        yield (
            f"{first.source} becomes {first.target.name}, because another result has this name "
            f"on disks that ignore case and Unicode normalisation{more}"
        )
    if found.other:
        first = found.other[0]
        more = f" and {len(found.other) - 1} more become" if len(found.other) > 1 else " becomes"
        which = "their formats" if len(found.other) > 1 else "its format"
        yield f"{first.source}{more} {first.target.suffix[1:].upper()}, because gankit does not write {which}"
    kept = [decision.job.target for decision in decisions if decision.action == "keep"]
    if kept:
        more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        verb = "were" if more else "was"
        yield f"skipping {kept[0]}{more}, which {verb} not made by gankit; --overwrite replaces existing files"
    older = [decision for decision in decisions if decision.older]
    if older:
        versions = ", ".join(sorted({str(decision.older) for decision in older}))
        one = len(older) == 1
        yield (
            f"{'1 result is' if one else f'{len(older)} results are'} of another version of gankit ({versions}) and "
            f"{'is' if one else 'are'} kept; --overwrite makes {'it' if one else 'them'} again"
        )


def _listed(places: Sequence[Path]) -> str:
    """List the first two of some folders and files, and how many more there are."""
    shown = [f"{path}{os.sep}" if not path.suffix or is_folder(path) else str(path) for path in places[:2]]
    return ", ".join(shown) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def _skipped_results(results: Sequence[Path]) -> str:
    if len(results) == 1:
        return f"skipping {results[0]}, which is the result of another input"
    return f"skipping {results[0]} and {len(results) - 1} more, which are results of other inputs"
