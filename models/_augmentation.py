"""Changes to what a critic sees, of real and of synthetic rows alike, through which gradients pass.

Differentiable Augmentation for Data-Efficient GAN Training, arXiv:2006.10738: a critic of few rows learns them by
heart, and one that sees them shifted and covered cannot as soon. Row i of the real and of the synthetic rows are
changed in the same way. What is changed keeps to the kind of the data: pixels are moved, covered, brightened and
stretched, and pixels and the numbers of a table that are no categories are given a little noise.

Each change is made to some of the rows alone. A critic cannot tell a generator whose changed rows are distributed as
the changed real ones are; that its rows are then distributed as the real ones follows where what the changes do to a
distribution can be undone (Training Generative Adversarial Networks with Limited Data, arXiv:2006.06676, appendix C).
Three shifts of equal chance, always made, cannot: a generator is free to draw shifted rows. Made with probability p
they multiply each frequency by 1 - p + p s with s in [-1/3, 1], which is above 0 for p < 3/4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models._continuous import split_spans
from models._contract import Form, TensorSpec
from models._gaussian import normal_noise

ChangeName = Literal["shift", "cutout", "brightness", "contrast", "noise"]

SHIFT = 8  # the longest shift is the side over this
CUTOUT = 2  # the side of what is covered is the grid's over this
BRIGHTNESS, CONTRAST = 0.25, 0.5  # the largest offset, and change of the factor, of values in [-1, 1]
NOISE = 0.25  # standard deviations
MADE = 0.5  # of the rows have a change made; the fewer, the sooner a critic knows its rows by heart

Rows = Callable[[Tensor], Tensor]


class Change(NamedTuple):
    """``draw(spec, count, generator)`` gives a function of rows ``(count, *shape)``, the same whenever it is called.

    ``forms`` are the forms of rows that it fits.
    """

    forms: tuple[Form, ...]
    draw: Callable[[TensorSpec, int, torch.Generator], Rows]


def _shift(spec: TensorSpec, count: int, generator: torch.Generator) -> Rows:
    """Up to an eighth of the side each way, one pixel at least; what comes in is as the pixel at the edge."""
    _, height, width = spec.shape
    longest = [max(1, side // SHIFT) for side in (height, width)]
    down, right = (
        torch.randint(-far, far + 1, (count, 1), generator=generator, device=generator.device) for far in longest
    )
    # by matrices of zeros and ones: the gradient of an index is summed on a GPU in the order in which threads arrive
    rows, columns = (
        functional.one_hot((torch.arange(side, device=by.device) - by).clamp(0, side - 1), side)[:, None].float()
        for side, by in ((height, down), (width, right))
    )

    def shifted(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return rows @ x.float() @ columns.mT

    return shifted


def _cutout(spec: TensorSpec, count: int, generator: torch.Generator) -> Rows:
    """A rectangle of half the side, around any pixel, is 0."""
    inside = torch.ones(count, 1, 1, 1, dtype=torch.bool, device=generator.device)
    for axis, side in zip((2, 3), spec.shape[1:], strict=True):
        middle = torch.randint(side, (count, 1), generator=generator, device=generator.device)
        away = torch.arange(side, device=generator.device) - middle
        covered = (2 * away >= -(side // CUTOUT)) & (2 * away < side // CUTOUT)
        inside = inside & covered.reshape(count, 1, *((side, 1) if axis == 2 else (1, side)))
    return lambda x: torch.where(inside, 0.0, x)


def _brightness(_spec: TensorSpec, count: int, generator: torch.Generator) -> Rows:
    """The same number is added to every value of a row."""
    offset = 2 * torch.rand((count, 1, 1, 1), generator=generator, device=generator.device) - 1
    return lambda x: x + BRIGHTNESS * offset


def _contrast(_spec: TensorSpec, count: int, generator: torch.Generator) -> Rows:
    """The values of a row move from or towards their mean."""
    factor = 1 + CONTRAST * (2 * torch.rand((count, 1, 1, 1), generator=generator, device=generator.device) - 1)

    def stretched(x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3), keepdim=True)
        return torch.lerp(mean, x, factor)

    return stretched


def _noise(spec: TensorSpec, count: int, generator: torch.Generator) -> Rows:
    """Normal noise on numbers; categories stay."""
    noise = NOISE * normal_noise((count, *spec.shape), generator, generator.device)
    parts = zip(spec.spans, split_spans(spec, noise), strict=True)
    kept = torch.cat([torch.zeros_like(part) if span.kind == "categorical" else part for span, part in parts], dim=1)
    return lambda x: x + kept.reshape(x.shape)


CHANGES: dict[ChangeName, Change] = {
    "shift": Change(("grid",), _shift),
    "cutout": Change(("grid",), _cutout),
    "brightness": Change(("grid",), _brightness),
    "contrast": Change(("grid",), _contrast),
    "noise": Change(("vector", "grid"), _noise),
}


def draw_changes(spec: TensorSpec, names: Sequence[ChangeName], count: int, generator: torch.Generator) -> Rows:
    """A function of rows ``(count, *shape)`` that makes the changes ``names`` in turn, each to rows of its choice."""
    drawn = [
        (CHANGES[name].draw(spec, count, generator), torch.rand(count, generator=generator, device=generator.device))
        for name in names
    ]

    def changed(x: Tensor) -> Tensor:
        for change, chance in drawn:
            x = torch.where((chance < MADE).reshape(-1, *[1] * (x.ndim - 1)), change(x), x)
        return x

    return changed


def usual_changes(spec: TensorSpec) -> tuple[ChangeName, ...]:
    """What suits rows of whatever content: grids are shifted, the numbers of tables given noise."""
    if spec.form == "grid":
        return ("shift",)
    return ("noise",) if any(span.kind == "continuous" for span in spec.spans) else ()


def refuse_unfit(spec: TensorSpec, names: Sequence[ChangeName]) -> None:
    """Refuse changes that do not fit the rows of a spec.

    Raises:
        ValueError: a change of grids for vectors or the reverse, one of numbers where there are none, one listed twice.
    """
    things = {"grid": "images", "vector": "tables"}
    if len(set(names)) < len(names):
        raise ValueError("a change is listed twice in augmentation; list each once")
    for name in names:
        if spec.form not in CHANGES[name].forms:
            fit = ", ".join(other for other, change in CHANGES.items() if spec.form in change.forms)
            (own,) = CHANGES[name].forms
            raise ValueError(f"the augmentation '{name}' is of {things[own]}; for {things[spec.form]} there is {fit}")
    if names and all(span.kind == "categorical" for span in spec.spans):
        raise ValueError("these rows are categories alone, which no augmentation changes; set augmentation to []")
