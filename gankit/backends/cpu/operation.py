"""What layerwise runs ask of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gankit_export.calls import Call
from torch import Tensor, fx

Read = Callable[[fx.Node, int, int], Any]
Height = Callable[[fx.Node], int]


class Known(Protocol):
    """Mean and variance of a stored value."""

    def grouped(self, groups: int) -> tuple[Tensor, Tensor]:
        """By channel."""


class Operation:
    """What a node does.

    Args:
        call: the node with its settings.

    Attributes:
        heavy: its rows are costly: they are stored, not made again for each reader.
        statistics: it needs those of its input.
        whole: it cannot work by rows: its inputs and its value are stored whole.
        stored: its value is one tensor, which may be stored.
        size: its value is a shape or a type, known before the first row is.
    """

    heavy = statistics = whole = size = False
    stored = True

    def __init__(self, call: Call) -> None:
        self.call, self.node = call, call.node

    @property
    def source(self) -> fx.Node:
        """The image that it works on."""
        return self.call.images[0]

    def rows(
        self, start: int, stop: int, read: Read, height: Height, known: Callable[[fx.Node], Known | None]
    ) -> Tensor:
        """Rows ``start`` to ``stop`` of the node's value.

        Args:
            start: the first.
            stop: one behind the last.
            read: rows of another node's value.
            height: of another node's value.
            known: the statistics of another node's value.
        """
        raise AssertionError("an operation that works whole has no rows")

    def run(self, read: Callable[[fx.Node], Any]) -> Tensor:
        """The whole value, from whole inputs."""
        raise AssertionError("an operation that works by rows is not run whole")
