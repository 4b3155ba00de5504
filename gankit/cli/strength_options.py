"""The options ``--strength`` and ``--faithful``: weights between two generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def strength_options(command: F) -> F:
    """Add ``--strength`` and ``--faithful`` to a command; see :func:`gankit.checkpoints.strength.at_strength`."""
    for option in (
        click.option(
            "--faithful",
            metavar="NAME|FILE",
            help="Weights that --strength 0 stands for, from which those of --model were trained adversarially.  "
            "[default: srresnet for srgan]",
        ),
        click.option(
            "--strength",
            type=click.FloatRange(0, 1),
            metavar="0..1",
            help="Mix the weights of a faithful model (0) with those of a sharp one (1), such as 0.5 with --model "
            "srgan: less invented texture than srgan, sharper than srresnet.",
        ),
    ):
        command = option(command)
    return command
