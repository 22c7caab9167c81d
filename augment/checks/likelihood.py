"""Likelihood: synthetic rows are as usual, and of their class, to a model that knows how probable a row is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from augment._devices import cpu_threads
from augment.checks._contract import Check, Evidence, Finding, Learned, bounded
from augment.checks._encoded import drawn_of, nets_of
from augment.gates import Severity
from augment.schema import class_titles
from models._bayes import Usual, class_log_joint, mean_over_classes
from models._contract import KnowsLikelihood

GATE = "likelihood"
LEAST_ROWS, LEAST_OF_CLASS = 20, 5  # held-out: what is usual is not learned from fewer
MOST_OF_CLASS = 100  # on either side
EVALUATIONS = 20_000  # of a row under a class, on either side: every row is judged under every class
ERRORS = 3.0  # standard errors that chance is granted
SETS = 200  # of usual rows that are simulated to learn what chance does


class Likelihood(Check):
    """Judges synthetic rows by ln p(x|y) of the run's own model, where that is exact, beside held-out real rows.

    Two figures, each a mean over the classes. *Odd* rows have a ln p(x|y) outside of what is usual: below or above all
    but ``tail`` of the validation rows on that side. Each is measured from the mean of its class in units of the spread
    of its class, without the row itself, since digits of one stroke are likelier than others and some classes vary
    more. Rows are odd on either side: a blank image is likelier than any photo (arXiv:1810.09136), and noise is less
    likely than any. *Recognised* rows are likelier as their own class than as any other: the model as a generative
    classifier with equal priors; there are none without two classes.

    The limit of odd rows is ``odd_of_floor`` times what real ones have, as measured or as the tails say, whichever is
    more, and three standard deviations beyond: those of 200 simulated sets of normal nats of as many rows on each side,
    so that it counts in how far means, spreads and ends are known. At least ``recognised_of_floor`` of the share of
    real rows must be recognised, less three standard errors of a difference of shares. Of 400 sets of fresh
    digits, 50 of each class beside 24 held-out ones, none failed: the oddest had a share of 18 %, and 22 % are allowed.
    Of 150 sets of normal nats beside ten rows of one class and a hundred of one a third as wide, none failed.

    Classes are judged that have synthetic rows and five validation rows; there must be twenty of these in all. Every
    row is evaluated under every class, so of many classes some rows, and of very many some classes are judged, evenly
    spread: 20,000 evaluations on either side, more only where twenty rows of over a thousand classes are.

    The model has seen the training rows, never the validation rows. Its own rows pass as far as it has learned what
    real ones are like: rows drawn well below a temperature of 1 are too likely. Copies of training rows look usual;
    other gates find them.
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
        from augment.generation import open_model, trained_config  # the run file, which that reads, lists the checks
        from augment.training import WEIGHTS

        folder = evidence.model_path
        if not (folder / WEIGHTS).exists() or trained_config(folder).likelihood != "exact":
            return Finding("What drew these rows does not compute how probable a row is.", applies=False)
        model = open_model(folder)
        assert isinstance(model, KnowsLikelihood)
        side, rows = nets_of(evidence).real, drawn_of(evidence).rows
        held_out = {y: x.reshape(-1, *side.spec.shape) for y, x in side.held_out.items()}
        synthetic = {y: rows.x[rows.y == y] for y in held_out}
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

        ``names`` are those of all classes.
        """
        judged, most = _judged(held_out, synthetic, len(names))
        if sum(min(len(held_out[y]), most) for y in judged) < LEAST_ROWS:
            return Finding(
                f"Fewer than {LEAST_ROWS} real validation rows are of classes that have {LEAST_OF_CLASS} of them and "
                "synthetic rows beside; raise split.validation.",
                applies=False,
            )
        real, drawn = (_scored(model, {y: rows[y][:most] for y in judged}, names) for rows in (held_out, synthetic))
        unknown = int((~real.nats.isfinite()).sum())
        if unknown:
            return Finding(
                f"The model has no finite ln p of {unknown:,} of {len(real.nats):,} real validation rows, so that "
                "nothing can be compared with them.",
                applies=False,
            )
        return self._found(real, drawn, [names[y] for y in judged], len(names) > 1)

    def _found(self, real: Scored, drawn: Scored, names: Sequence[str], rivals: bool) -> Finding:
        """The figures of scored rows of the classes called ``names``, of which there are others if ``rivals``."""
        usual = Usual.learn(real.nats, real.y, self.tail)
        flags = {"odd": usual.odd(drawn.nats, drawn.y)} | ({"recognised": drawn.recognised} if rivals else {})
        metrics = {name: _share(of, drawn.y) for name, of in flags.items()}
        floor = _share(usual.odd_held_out, real.y)
        allowed = self.odd_of_floor * max(floor, 2 * self.tail)
        limit = min(1.0, allowed + _odd_by_chance(real.y, drawn.y, self.tail))
        sentence = (
            f"{metrics['odd']:.1%} of the synthetic rows, in the mean over classes, are less or more likely than is "
            f"usual (real rows that the model has not seen: {floor:.1%}; at most {limit:.1%} may be)"
        )
        expectations = bounded(f"{GATE}.odd", None, limit)
        if rivals:
            known = _share(real.recognised, real.y)
            least = max(0.0, self.recognised_of_floor * known - _granted(known, real.y, drawn.y))
            expectations += bounded(f"{GATE}.recognised", least, None)
            sentence += (
                f", and {metrics['recognised']:.1%} are likeliest as what they are labelled (real: {known:.1%}; at "
                f"least {least:.1%} are required)"
            )
        return Finding(
            f"{sentence}.",
            value=metrics["odd"],
            floor=floor,
            limit=limit,
            metrics=metrics,
            set_expectations=expectations,
            details={"classes": {name: _of_class(flags, drawn.y == y) for y, name in enumerate(names)}},
        )


class Scored(NamedTuple):
    """Rows of judged classes ``y``, 0 to C - 1: ln p(x|y) in nats, and whether no other makes them likelier; (N,)."""

    nats: Tensor
    recognised: Tensor
    y: Tensor


def _judged(held_out: Mapping[int, Tensor], synthetic: Mapping[int, Tensor], num_classes: int) -> tuple[list[int], int]:
    """The classes that are judged, and the most rows of each on either side."""
    known = [y for y in sorted(held_out) if len(held_out[y]) >= LEAST_OF_CLASS and len(synthetic.get(y, ()))]
    rows = max(LEAST_ROWS, EVALUATIONS // num_classes)
    some = min(len(known), rows // LEAST_OF_CLASS)
    judged = [known[place * len(known) // some] for place in range(some)]
    return judged, min(MOST_OF_CLASS, rows // max(1, some))


def _scored(model: KnowsLikelihood, rows: Mapping[int, Tensor], names: Sequence[str]) -> Scored:
    x = torch.cat(list(rows.values()))
    sizes = torch.tensor([len(of) for of in rows.values()])
    y = torch.arange(len(sizes)).repeat_interleave(sizes)
    own = torch.tensor(list(rows))[y]
    joint = class_log_joint(model, x, torch.zeros(len(names))).double()
    nats = joint.gather(1, own[:, None])[:, 0]
    return Scored(nats, (joint.argmax(1) == own) & nats.isfinite(), y)


def _share(flags: Tensor, y: Tensor) -> float:
    return float(mean_over_classes(flags, y))


def _of_class(flags: Mapping[str, Tensor], here: Tensor) -> dict[str, float]:
    return {name: float(of[here].double().mean()) for name, of in flags.items()} | {"rows": int(here.sum())}


def _odd_by_chance(real_y: Tensor, drawn_y: Tensor, tail: float) -> float:
    """Three standard deviations of the share of odd rows among usual ones, of classes ``(N,)`` on either side."""
    noise = torch.Generator().manual_seed(0)
    held_out, fresh = (torch.randn(SETS, len(y), generator=noise, dtype=torch.float64) for y in (real_y, drawn_y))
    odd = Usual.learn(held_out, real_y, tail).odd(fresh, drawn_y)  # (SETS, M)
    return ERRORS * float(mean_over_classes(odd, drawn_y).std())


def _granted(rate: float, real_y: Tensor, drawn_y: Tensor) -> float:
    """Three standard errors of the difference of two shares around ``rate``, each a mean over classes ``(N,)``."""
    rate = min(max(rate, 0.02), 0.98)  # a share of none or all that was seen is not certain
    variance = (
        rate
        * (1 - rate)
        * sum(float((1 / rows).sum()) / len(rows) ** 2 for rows in (real_y.bincount(), drawn_y.bincount()))
    )
    return ERRORS * math.sqrt(variance)
