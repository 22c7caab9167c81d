"""Within what bounds a setting is tried where settings are searched."""

from __future__ import annotations

from typing import Any, NamedTuple

DIGITS = 3  # of a setting that is searched: more would be noise in a run file


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``; ``log``: evenly in their logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and last value."""
        return self.low, self.high

    def setting(self, drawn: Any) -> Any:
        """What is written in a run file for a number that was drawn."""
        return int(drawn) if self.whole else min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)

    def drawn(self, setting: Any) -> Any:
        """The number that would have been drawn to give ``setting``; null where there is none."""
        return setting if setting is not None and self.low <= setting <= self.high else None


class OneOf(NamedTuple):
    """Values of any type that a run file can hold; the first stands for a setting that is left to the model."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and last value."""
        return self.values[0], self.values[-1]

    def setting(self, drawn: Any) -> Any:
        """The value at the place that was drawn."""
        return self.values[drawn]

    def drawn(self, setting: Any) -> Any:
        """The place of ``setting``; null where it is none of the values."""
        return self.values.index(setting) if setting in self.values else None


Searched = Range | OneOf
