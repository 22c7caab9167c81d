"""How a stage says how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called often and cheaply by a stage; the listener decides what to show and how often.

    ``done`` of ``total`` ``unit`` (``step``, ``row``, ``shard``) of ``stage`` are finished; ``values`` are figures to
    show beside them, such as the loss in nats.
    """

    def __call__(self, stage: str, done: int, total: int, unit: str, values: Mapping[str, float] | None = None) -> None:
        """Take note; ``total`` is 0 while it is not known."""
        ...


def silent(stage: str, done: int, total: int, unit: str, values: Mapping[str, float] | None = None) -> None:
    """The listener that shows nothing."""
