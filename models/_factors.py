"""The values of a row as factors of its probability: each one of so many bins, levels or categories.

A number without levels is binned by the standard normal distribution: the bins are equal shares of it, and within a bin
the density is the normal's, scaled. ln p(x) = ln(K p(bin)) + ln N(x; 0, 1) is then an exact density with the normal's
tails in the outermost bins. No edges are learned, and numbers that are spread like the normal, as those of tables are
encoded, fill all bins alike. Levels and categories have probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from models._contract import Span, TensorSpec
from models._levels import COLDEST, at_quantile, exact_level_index, level_value, tempered_shares

LARGEST_PALETTE = 1024  # levels, each of which is an output of every value
OUTERMOST = 1e-7  # of the normal's mass on either side is never drawn: 5.2 deviations, which 32 bits can tell


class Outcome(Protocol):
    """What a factor of ``width`` values can be: one of ``outcomes``, and of a number a place within its bin."""

    @property
    def width(self) -> int:
        """Values of the row that are one factor."""
        ...

    @property
    def outcomes(self) -> int:
        """Logits of a factor."""
        ...

    @property
    def parts(self) -> int:
        """Outputs of a net that the logits of a factor are made of."""
        ...

    @property
    def shapes(self) -> Tensor | None:
        """What logits are sums of, ``(parts, outcomes)``; None: each is one by itself."""
        ...

    def refuse_impossible(self, values: Tensor) -> None:
        """Nothing, if a factor can have each of the values ``(B, n, width)``.

        Raises:
            ValueError: a value is none that it can have.
        """
        ...

    def index(self, values: Tensor) -> Tensor:
        """Which outcomes values ``(B, n, width)`` of n factors are, int64 ``(B, n)``.

        Raises:
            ValueError: a value is none that a factor can have.
        """
        ...

    def log_within(self, values: Tensor) -> Tensor:
        """ln of the density of values ``(B, n, width)`` given their outcome, ``(B, n)``; 0 of what has none."""
        ...

    def values(self, index: Tensor, place: Tensor) -> Tensor:
        """The values ``(B, n, width)`` of outcomes ``(B, n)``, at a ``place`` ``(B, n)`` in [0, 1] of the bin."""
        ...


@dataclass(frozen=True)
class Bins:
    """A number, in one of ``outcomes`` bins that hold equal shares of the standard normal distribution.

    The logits of the bins are a sum of ``terms`` polynomials of the number, so that neighbours are about as likely: two
    make a normal distribution, four a skewed one or one of two peaks. 0: each bin has a logit of its own.
    """

    outcomes: int
    terms: int

    @property
    def width(self) -> int:
        """One number."""
        return 1

    @property
    def parts(self) -> int:
        """One for each term, or for each bin."""
        return self.terms or self.outcomes

    @property
    def shapes(self) -> Tensor | None:
        """The polynomials at the bins, orthonormal but for a factor 1/m^2 of the m-th: rough ones are learned late."""
        if self.terms == 0:
            return None
        middles = torch.special.ndtri((torch.arange(self.outcomes).double() + 0.5) / self.outcomes)
        found = [torch.full_like(middles, self.outcomes**-0.5)]
        for _ in range(self.terms):
            rest = middles * found[-1]
            for _ in range(2):  # once leaves rounding errors that grow with every term
                rest = rest - torch.stack(found).T @ (torch.stack(found) @ rest)
            found.append(rest / rest.norm())
        power = torch.arange(1, self.terms + 1).double()
        scaled: Tensor = torch.stack(found[1:]) * self.outcomes**0.5 / power[:, None] ** 2
        return scaled.float()

    def refuse_impossible(self, values: Tensor) -> None:
        """Nothing, if all numbers are finite.

        Raises:
            ValueError: one is not.
        """
        if not bool(values.isfinite().all()):
            raise ValueError("a number that is not finite is in no bin; leave it out, or mend it")

    def index(self, values: Tensor) -> Tensor:
        """The bin of each number."""
        share: Tensor = torch.special.ndtr(values[..., 0])
        return (share * self.outcomes).long().clamp(0, self.outcomes - 1)

    def log_within(self, values: Tensor) -> Tensor:
        """ln(K N(x; 0, 1)), which has a mass of one in each of K bins."""
        return math.log(self.outcomes) - 0.5 * math.log(2 * math.pi) - 0.5 * values[..., 0].square()

    def values(self, index: Tensor, place: Tensor) -> Tensor:
        """The number below which such a share of the normal distribution lies."""
        share = (index + place) / self.outcomes
        numbers: Tensor = torch.special.ndtri(share.clamp(OUTERMOST, 1 - OUTERMOST))
        return numbers[..., None]


@dataclass(frozen=True)
class Levels:
    """A value of evenly spaced levels in [-1, 1]."""

    outcomes: int

    @property
    def width(self) -> int:
        """One value."""
        return 1

    @property
    def parts(self) -> int:
        """One for each level."""
        return self.outcomes

    @property
    def shapes(self) -> Tensor | None:
        """A level has a logit of its own."""
        return None

    def refuse_impossible(self, values: Tensor) -> None:
        """Nothing, if each value is a level.

        Raises:
            ValueError: one lies between two levels, or beyond the outermost.
        """
        self.index(values)

    def index(self, values: Tensor) -> Tensor:
        """The level of each value.

        Raises:
            ValueError: a value lies between two levels, or beyond the outermost.
        """
        return exact_level_index(values[..., 0], self.outcomes, "levels")

    def log_within(self, values: Tensor) -> Tensor:
        """Nothing: a level has a probability."""
        return torch.zeros_like(values[..., 0])

    def values(self, index: Tensor, place: Tensor) -> Tensor:
        """The value of each level."""
        return level_value(index, self.outcomes, place.dtype)[..., None]


@dataclass(frozen=True)
class Categories:
    """A one-hot span."""

    outcomes: int

    @property
    def width(self) -> int:
        """A value for each category."""
        return self.outcomes

    @property
    def parts(self) -> int:
        """One for each category."""
        return self.outcomes

    @property
    def shapes(self) -> Tensor | None:
        """A category has a logit of its own."""
        return None

    def refuse_impossible(self, values: Tensor) -> None:
        """Nothing, if each span is one-hot.

        Raises:
            ValueError: one is not.
        """
        if not torch.equal(values, functional.one_hot(values.argmax(dim=2), self.outcomes).to(values.dtype)):
            raise ValueError(f"a category is a 1 among zeros, and one of {self.outcomes} values is not")

    def index(self, values: Tensor) -> Tensor:
        """The category of each span.

        Raises:
            ValueError: one is not one-hot.
        """
        self.refuse_impossible(values)
        return values.argmax(dim=2)

    def log_within(self, values: Tensor) -> Tensor:
        """Nothing: a category has a probability."""
        return torch.zeros_like(values[..., 0])

    def values(self, index: Tensor, place: Tensor) -> Tensor:
        """The one-hot span of each category."""
        return functional.one_hot(index, self.outcomes).to(place.dtype)


class Group(NamedTuple):
    """Factors with the same outcomes: their numbers, and where their values lie in a row, ``(n, width)``."""

    outcome: Outcome
    numbers: list[int]
    places: list[list[int]]


@dataclass(frozen=True)
class Factors:
    """The factors of a row, numbered from left to right: a categorical span is one, other values are one each."""

    groups: tuple[Group, ...]
    of_value: tuple[int, ...]  # the factor that each value of the row belongs to

    @property
    def count(self) -> int:
        """How many factors a row has."""
        return self.of_value[-1] + 1

    def outcome(self, number: int) -> Outcome:
        """What a factor can be."""
        return next(group.outcome for group in self.groups if number in group.numbers)

    def places(self, number: int) -> list[int]:
        """Where the values of a factor lie in a row."""
        return [place for place, factor in enumerate(self.of_value) if factor == number]


def factors_of(spec: TensorSpec, bins: int, terms: int) -> Factors:
    """The factors of rows of ``spec``, numbers in so many bins.

    Raises:
        ValueError: a span has more levels than a softmax can have.
    """
    of_value: list[int] = []
    groups: dict[Outcome, Group] = {}
    for span in spec.spans:
        outcome = _outcome(span, bins, terms)
        for _ in range(span.width // outcome.width):
            number = of_value[-1] + 1 if of_value else 0
            group = groups.setdefault(outcome, Group(outcome, [], []))
            group.numbers.append(number)
            group.places.append(list(range(len(of_value), len(of_value) + outcome.width)))
            of_value += [number] * outcome.width
    return Factors(tuple(groups.values()), tuple(of_value))


def _outcome(span: Span, bins: int, terms: int) -> Outcome:
    if span.kind == "categorical":
        return Categories(span.width)
    if span.levels is None:
        return Bins(bins, terms)
    if span.levels > LARGEST_PALETTE:
        raise ValueError(
            f"a value has an output for each of {LARGEST_PALETTE:,} levels at most, these have {span.levels:,}; leave "
            "the levels out of the spec, and the values are binned"
        )
    return Levels(span.levels)


def ordered(asked: str | int | Sequence[int], count: int) -> tuple[int, ...]:
    """The numbers of ``count`` factors in the order ``asked`` for: as they are, reversed, shuffled by a seed, or named.

    Raises:
        ValueError: the numbers that are named are not each of the factors once.
    """
    if isinstance(asked, str):
        numbers = range(count)
        return tuple(reversed(numbers) if asked == "reversed" else numbers)
    if isinstance(asked, int):
        shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(asked), device="cpu")
        return tuple(shuffled.tolist())  # numbers, also where the net itself is built without memory for it
    if sorted(asked) != list(range(count)):
        numbered = f"each of the {count} columns of a row once, by the numbers 0 to {count - 1} from left to right"
        raise ValueError(
            f"an order names {numbered if count > 1 else 'the one column of a row by its number 0'}, where a number "
            f"that may be missing counts as two columns, and this one is {list(asked)}"
        )
    return tuple(asked)


def draw_outcomes(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """What ``uniform`` ``(B, n)`` names of softmax(logits / temperature): outcomes, and places in [0, 1] within them.

    ``logits`` are ``(B, n, K)``. At a temperature of 0 these are the likeliest outcome and its middle.
    """
    if temperature < COLDEST:
        return logits.argmax(2), torch.full_like(uniform, 0.5)
    shares = tempered_shares(logits, temperature)
    reached = shares.cumsum(2)
    index = at_quantile(reached, uniform)
    upper = reached.gather(2, index[..., None])[..., 0]
    share = shares.gather(2, index[..., None])[..., 0]
    place = (uniform - (upper - share)) / share.clamp_min(torch.finfo(share.dtype).tiny)
    return index, place.clamp(0, 1)
