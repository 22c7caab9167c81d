"""Likelihood: synthetic rows are as usual, and of their class, to a model that knows how probable a row is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from augment._devices import cpu_threads
from augment.checks._contract import Check, Evidence, Finding, Learned, bounded
from augment.checks._encoded import drawn_of, nets_of
from augment.gates import Severity
from augment.schema import class_titles
from models._bayes import Usual, class_log_joint
from models._contract import KnowsLikelihood

GATE = "likelihood"
ROWS = 100  # of a class on either side: every row is judged under every class
ERRORS = 3.0  # standard errors of a difference of two shares that chance is granted


class Likelihood(Check):
    """Judges synthetic rows by ln p(x|y) of the run's own model, where that is exact, beside held-out real rows.

    Two figures, each a mean over the classes. *Odd* rows have a ln p(x|y) outside of what is usual: below or above all
    but ``tail`` of the validation rows on that side, measured from the mean of their class without the row itself,
    since classes have few of them and digits of one stroke are likelier than others. Rows are odd on either side: a
    blank image is likelier than any photo (arXiv:1810.09136), and noise is less likely than any. *Recognised* rows are
    likelier as their own class than as any other: the model as a generative classifier with equal priors.

    Of real rows as many are odd as the tails say, so the limit is that share times ``odd_of_floor``; and the share that
    is recognised must be ``recognised_of_floor`` of that of real ones. Both sides are samples: three standard errors of
    the difference are granted beyond. Of 400 sets of fresh digits, 50 of each class beside 24 held-out ones, none
    failed: the oddest had a share of 17 %, and 22 % are allowed. The model has seen the training rows, never the
    validation rows. Its own rows pass as far as it has learned what real ones are like: rows drawn well below a
    temperature of 1 are too likely. Copies of training rows look usual; other gates find them.
    """

    kind: Literal["likelihood"] = "likelihood"
    summary: ClassVar[str] = "rows are as likely under the model, and as their class, as real ones; off by default"
    default_on: ClassVar[bool] = False
    severity: ClassVar[Severity] = "warning"
    better: ClassVar[Literal["high", "low"] | None] = "low"
    needs_encoders: ClassVar[bool] = True

    tail: float = Field(
        0.05, gt=0, lt=0.5, allow_inf_nan=False, description="Share of real rows that count as odd at either end."
    )
    odd_of_floor: float = Field(
        1.5, ge=1, le=10, allow_inf_nan=False, description="Largest share of odd rows over that of real ones."
    )
    recognised_of_floor: float = Field(
        0.9, gt=0, le=1, allow_inf_nan=False, description="Least share of recognised rows over that of real ones."
    )
    refuses: bool = Field(False, description="Whether odd or unrecognised rows are refused; false: a warning.")

    @property
    def graded(self) -> Severity:
        """Critical where such rows are refused."""
        return "critical" if self.refuses else self.severity

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The share of odd rows, and of recognised ones."""
        from augment.generation import open_model  # the run file, which that reads, lists the checks
        from augment.training import WEIGHTS

        model = open_model(evidence.model_path) if (evidence.model_path / WEIGHTS).exists() else None
        if not isinstance(model, KnowsLikelihood):
            return Finding("What drew these rows does not compute how probable a row is.", applies=False)
        side, rows = nets_of(evidence).real, drawn_of(evidence).rows
        held_out = {y: x.reshape(-1, *side.spec.shape)[:ROWS] for y, x in side.held_out.items() if len(x) > 1}
        synthetic = {y: rows.x[rows.y == y][:ROWS] for y in held_out}
        synthetic = {y: x for y, x in synthetic.items() if len(x)}
        if not synthetic:
            return Finding(
                "No class has both synthetic rows and two real validation rows beside them; raise split.validation.",
                applies=False,
            )
        with cpu_threads(1):
            return self.compared(model, held_out, synthetic, class_titles(evidence.schema))

    def compared(
        self,
        model: KnowsLikelihood,
        held_out: Mapping[int, Tensor],
        synthetic: Mapping[int, Tensor],
        names: Sequence[str],
    ) -> Finding:
        """What ``model`` says of synthetic rows ``(B, *shape)`` beside held-out real ones, both by class ``y``.

        There are at least two held-out rows of each class; ``names`` are those of all classes.
        """
        real, drawn = (_scored(model, rows, len(names)) for rows in (held_out, synthetic))
        usual = Usual.learn({y: of.nats for y, of in real.items()}, self.tail)
        odd = {y: _share(usual.odd(of.nats, y)) for y, of in drawn.items()}
        own = {y: _share(of.recognised) for y, of in drawn.items()}
        value, recognised = (float(np.mean(list(of.values()))) for of in (odd, own))
        floor, known = 2 * self.tail, float(np.mean([_share(real[y].recognised) for y in drawn]))
        sizes = [(len(real[y].nats), len(drawn[y].nats)) for y in drawn]
        limit = min(1.0, self.odd_of_floor * floor + _granted(floor, sizes))
        least = max(0.0, self.recognised_of_floor * known - _granted(known, sizes))
        return Finding(
            f"{value:.1%} of the synthetic rows, in the mean over classes, are less or more likely than is usual (real "
            f"rows that the model has not seen: {floor:.1%}; at most {limit:.1%} may be), and {recognised:.1%} are "
            f"likeliest as what they are labelled (real: {known:.1%}; at least {least:.1%} are required).",
            value=value,
            floor=floor,
            limit=limit,
            metrics={"odd": value, "recognised": recognised},
            set_expectations=[*bounded(f"{GATE}.odd", None, limit), *bounded(f"{GATE}.recognised", least, None)],
            details={
                "classes": {
                    names[y]: {"odd": odd[y], "recognised": own[y], "rows": len(of.nats)} for y, of in drawn.items()
                }
            },
        )


class Scored(NamedTuple):
    """Rows of a class: ln p(x|y) in nats, and whether no other class makes them likelier, ``(N,)`` each."""

    nats: Tensor
    recognised: Tensor


def _scored(model: KnowsLikelihood, rows: Mapping[int, Tensor], classes: int) -> dict[int, Scored]:
    found = {}
    for y, x in rows.items():
        joint = class_log_joint(model, x, torch.zeros(classes)).double()
        found[y] = Scored(joint[:, y], joint.argmax(1) == y)
    return found


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())


def _granted(rate: float, sizes: Sequence[tuple[int, int]]) -> float:
    """Three standard errors of the difference of two shares around ``rate``, each the mean of those of some classes.

    ``sizes`` are the rows of each class on either side.
    """
    rate = min(max(rate, 0.02), 0.98)  # a share of none or all that was seen is not certain
    variance = sum(rate * (1 - rate) * (1 / real + 1 / drawn) for real, drawn in sizes) / len(sizes) ** 2
    return ERRORS * math.sqrt(variance)
