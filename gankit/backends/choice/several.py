"""The choice of an engine for several GPUs. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gankit.backends.several import SeveralEngines
from gankit.errors import GankitError, first_line
from gankit.options import EngineOptions

if TYPE_CHECKING:
    from gankit.backends.choice.select import Selection


def select_several(
    select_one: Callable[[EngineOptions], Selection],
    devices: Sequence[str],
    options: EngineOptions,
    notify: Callable[[str], None],
) -> Selection:
    """Choose and load the same engine on several GPUs, which share the calls.

    The first GPU decides the backend and the precision. A GPU on which this engine does not load or fails the parity
    check is left out, and a line says so.

    Args:
        select_one: chooses an engine, as :func:`select` does, for options with one device.
        devices: the GPUs, ``"cuda:0"``, …
        options: backend and precision.
        notify: called with each line to report to the user.

    Raises:
        BackendError, ParityError: If no GPU can run the generator.
    """
    found: list[Selection] = []
    failures: list[GankitError] = []
    for device in devices:
        asked = replace(options, device=device)
        if found:
            first = found[0].engine
            asked = replace(asked, backend=first.backend, precision=first.precision)
        try:
            one = select_one(asked)
        except GankitError as error:
            failures.append(error)
            notify(f"{device} is not used: {first_line(error)}")
            continue
        if found and one.engine.precision != first.precision:
            one.engine.close()
            passes = f"it passes the parity check in {one.engine.precision}, and the others run {first.precision}"
            notify(f"{device} is not used: {passes}; use --precision {one.engine.precision} for all of them")
            continue
        found.append(one)
    if not found:
        raise failures[0]
    if len(found) == 1:
        return found[0]
    known = [one.parity for one in found if one.parity is not None]
    return replace(
        found[0],
        engine=SeveralEngines([one.engine for one in found], notify),
        parity=min(known, key=lambda parity: parity.psnr, default=None),
        summary=f"{found[0].summary}, on {', '.join(one.engine.device for one in found)}",
        contrast=max(one.contrast for one in found),
    )
