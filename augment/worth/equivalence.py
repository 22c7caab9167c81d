"""How many more real rows of each scarce class would do as much as the synthetic ones.

Scores of the best classifier without a generator are measured with a part of the real rows of each scarce class and
with all of them. Between two measured sizes n the error, one minus the score, follows the power law through both,
e(n) = a n^-b (a straight line in logarithms; arXiv:1712.00409 finds errors to fall so). Beyond them it goes on from the
outermost one with the slope that fits all of them best. The size at which that curve has the error of the classifier
with synthetic rows, less the rows there are, is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from augment._seeding import numpy_generator
from augment.worth._scores import Floats

MOST = 8  # times the rows there are: an extrapolation beyond it says no more than that
RESAMPLES = 2_000
FLAT = 0.01  # a slope b with which twice the rows take less than 1 % off the error
LEAST_ERROR = 1e-6


@dataclass(frozen=True)
class EquivalentRows:
    """Real rows of each scarce class beyond those there are; negative where synthetic rows do the work of taking away.

    ``low`` and ``high`` are about the seeds alone. ``extrapolated`` says that no such number of rows was measured;
    ``capped`` that it is at least ``rows``. Where there is no number the ``sentence`` says why.
    """

    rows: float | None
    low: float | None
    high: float | None
    extrapolated: bool
    capped: bool
    sentence: str


def equivalent_rows(rows: Sequence[int], curve: Floats, target: Floats, seed: int = 0) -> EquivalentRows:
    """The real rows of each scarce class that are worth as much as the synthetic rows.

    ``curve`` ``(S, J)`` has the score without synthetic rows of S seeds at ``rows`` ``(J,)`` real rows of each scarce
    class, rising to all there are; ``target`` ``(S,)`` the scores of the same seeds with all of them and the synthetic
    rows. Scores are at most 1. The interval is from ``seed``'s draws of seeds, in logarithms, widened by Student's t
    since few seeds vary less among themselves than they should.

    Raises:
        ValueError: the shapes do not belong together, or fewer than two rising sizes are given.
    """
    sizes, scores = np.array(rows, dtype=np.float64), np.array(curve, dtype=np.float64)
    if len(sizes) < 2 or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
        raise ValueError(f"a curve needs at least two sizes that rise, not {list(rows)}")
    if scores.ndim != 2 or scores.shape[1] != len(sizes) or len(scores) != len(target) or not len(scores):
        raise ValueError(f"scores {scores.shape} of {len(target)} seeds do not fit {len(sizes)} sizes")
    reason = _no_curve(scores)
    if reason:
        return EquivalentRows(None, None, None, False, False, reason)
    there = sizes[-1]
    errors = np.maximum(1 - scores, 0)
    wanted = np.maximum(1 - np.array(target, dtype=np.float64), 0)
    factor = _factor(sizes, errors.mean(axis=0), float(wanted.mean()))
    found = EquivalentRows(
        rows=_more(factor, there),
        low=None,
        high=None,
        extrapolated=not sizes[0] * (1 - 1e-9) <= factor * there <= there * (1 + 1e-9),
        capped=factor > MOST,
        sentence="",
    )
    if len(scores) > 1:
        low, high = _interval(sizes, errors, wanted, factor, seed)
        found = replace(found, low=_more(low, there), high=_more(high, there))
    return replace(found, sentence=_sentence(found, int(there), int(sizes[0])))


def _no_curve(scores: Floats) -> str | None:
    """Why the scores ``(S, J)`` tell nothing of what more rows are worth, or null."""
    from scipy.special import stdtrit

    means = scores.mean(axis=0)
    if means[-1] >= 1 - LEAST_ERROR:
        return "All real rows leave no error, so that more of them could not be told from these."
    gains = scores[:, -1] - scores[:, 0]
    seeds = len(gains)
    doubt = float(stdtrit(seeds - 1, 0.95)) * gains.std(ddof=1) / seeds**0.5 if seeds > 1 else 0.0
    if gains.mean() <= doubt:
        return "More real rows did not raise the score measurably, so that synthetic rows cannot be counted in them."
    if (np.diff(means) < 0).any():
        return "The score did not rise with each step to more real rows, so that no curve could be drawn through it."
    return None


def _factor(sizes: Floats, errors: Floats, wanted: float) -> float:
    """How many times the rows there are the error ``wanted`` takes; infinite where no number of rows reaches it."""
    log_n, log_e = np.log(sizes), np.log(np.maximum(errors, LEAST_ERROR))
    aim = float(np.log(max(wanted, LEAST_ERROR)))
    centred = log_n - log_n.mean()
    slope = -float((centred * log_e).sum() / (centred**2).sum())
    if log_e[-1] <= aim <= log_e[0] and (np.diff(log_e) <= 0).all():
        log_size = float(np.interp(-aim, -log_e, log_n))
    elif slope < FLAT:
        return float("inf") if aim < log_e[-1] else 0.0
    else:
        end = -1 if aim < log_e[-1] or log_e[0] < log_e[-1] else 0
        log_size = float(log_n[end] + (log_e[end] - aim) / slope)
    return float(np.exp(min(log_size - log_n[-1], 50.0)))


def _interval(sizes: Floats, errors: Floats, wanted: Floats, factor: float, seed: int) -> tuple[float, float]:
    """From the middle 95 % of the factors that draws of the seeds give."""
    from scipy.special import ndtri, stdtrit

    seeds = len(errors)
    chosen = numpy_generator(seed, "worth", "equivalent rows").integers(0, seeds, (RESAMPLES, seeds))
    drawn = [_factor(sizes, errors[c].mean(axis=0), float(wanted[c].mean())) for c in chosen]
    logs = np.log(np.clip(drawn, 1 / MOST**2, MOST**2))
    middle = float(np.log(np.clip(factor, 1 / MOST**2, MOST**2)))
    wider = float(stdtrit(seeds - 1, 0.975) / ndtri(0.975)) * (seeds / (seeds - 1)) ** 0.5
    low, high = middle + wider * (np.quantile(logs, [0.025, 0.975]) - middle)
    return float(np.exp(low)), float(np.exp(high))


def _more(factor: float, there: float) -> float:
    return float((min(factor, MOST) - 1) * there)


def _sentence(found: EquivalentRows, there: int, least: int) -> str:
    assert found.rows is not None
    if found.capped:
        return f"No fewer than {MOST} times the {there} real rows of each scarce class would do as much."
    count = round(abs(found.rows))
    if count == 0:
        start = "The synthetic rows are worth no real row of a scarce class"
    elif found.rows > 0:
        start = (
            f"The synthetic rows do as much as {count} more real rows of each scarce class, of which there are {there}"
        )
    else:
        start = f"The synthetic rows do as much harm as losing {count} of the {there} real rows of each scarce class"
    if found.low is not None and found.high is not None:
        most = f"at least {round(found.high)}" if found.high >= (MOST - 1) * there else f"{round(found.high)}"
        start += f" (95 % of draws of the seeds: {round(found.low)} to {most})"
    beyond = f"fewer than {least}" if found.rows < 0 else f"more than {there}"
    return start + (f"; extrapolated, since {beyond} were never measured." if found.extrapolated else ".")
