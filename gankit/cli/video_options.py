"""The options of clips, and commands whose help lists them under a heading of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_HEADING = "Video"


class _VideoOption(click.Option):
    """An option that concerns clips only."""


class CommandWithVideo(click.Command):
    """A command whose help lists the options of clips after the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], _HEADING: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[_HEADING if isinstance(parameter, _VideoOption) else "Options"].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


_OPTIONS = (
    click.option(
        "--codec",
        cls=_VideoOption,
        metavar="NAME",
        default=None,
        help="Encoder of clips: h264, hevc, av1, vp9, or FFmpeg's name of any other, such as ffv1 or h264_nvenc.  "
        "[default: h264 (libx264), and vp9 for .webm]",
    ),
    click.option(
        "--crf",
        cls=_VideoOption,
        type=click.FloatRange(0, 63),
        default=None,
        help="Quality at which the encoder aims; lower is better and larger.  [default: 17 for h264, 19 for hevc, "
        "22 for av1, 20 for vp9]",
    ),
    click.option(
        "--preset",
        cls=_VideoOption,
        metavar="NAME",
        default=None,
        help="Speed of the encoder, such as fast or slow.  [default: medium for h264 and hevc]",
    ),
    click.option(
        "--fps",
        cls=_VideoOption,
        metavar="N",
        default=None,
        help="Frames per second of the results, such as 25 or 30000/1001: frames are repeated or left out.  "
        "[default: every frame at its time]",
    ),
)


def video_options(command: Command) -> Command:
    """Add the options of clips to a command, which receives them as ``codec``, ``crf``, ``preset`` and ``fps``."""
    result: Any = command
    for option in reversed(_OPTIONS):
        result = option(result)
    return result  # type: ignore[no-any-return]
