"""Figures and verdicts in words that a person outside the team understands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from augment.gates import WORTH_NOT_MEASURED, GateResult, blessed, in_order, not_judged, plural

DASH = "\u2013"
MINUS = "\u2212"
GATE_TITLES = {
    "lineage": "Lineage",
    "structure": "Structure",
    "test_leak": "Test leak",
    "duplicates": "Duplicates",
    "class_plan": "Class plan",
    "sample_quality": "Sample quality",
    "label_agreement": "Label agreement",
    "likelihood": "Likelihood",
    "marginals": "Marginals",
    "joint": "Joint distribution",
    "posterior_predictive": "Posterior predictive",
    "coverage": "Coverage",
    "copying": "Copying",
    "shortcut": "Shortcut",
    "worth": "Worth",
    "consumer_smoke": "Readers open it",
    "regression": "Against the last version",
}
GATE_ICONS = {"passed": "\u2713", "failed": "\u2715", "warning": "!", "not judged": DASH}


@dataclass(frozen=True)
class Verdict:
    """What the top of a report says: ``reasons`` are the sentences of failed critical gates, in order of the gates."""

    blessed: bool
    word: str
    headline: str
    reasons: list[str]
    warnings: list[str]
    worth: str


def number(value: float | None) -> str:
    """A figure as a person writes it: thousands separated, three significant digits, a dash for none."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "\u221e" if value > 0 else f"{MINUS}\u221e"
    if float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 0.001:
        decimals = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if decimals else text
    else:
        text = f"{value:.1e}"
    return text.replace("-", MINUS)


def two_decimals(value: float) -> str:
    """A figure of a fixed scale, such as a correlation."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", MINUS)  # there is no -0.00


def percent(share: float) -> str:
    """A share as a percentage; never 0 % or 100 % for what is not."""
    if 0 < share < 0.001:
        return "<0.1\u202f%"
    if 0.999 < share < 1:
        return ">99.9\u202f%"
    return f"{share * 100:.1f}".removesuffix(".0") + "\u202f%"


def verdict_of(gates: Sequence[GateResult], counts: Mapping[str, Mapping[str, int]]) -> Verdict:
    """The verdict over ``gates`` for ``counts``, which are ``{class: {real, requested, synthetic}}``."""
    ordered = in_order(gates)
    reasons = [g.sentence for g in ordered if g.passed is False and g.severity == "critical"]
    warnings = [g.sentence for g in ordered if g.passed is False and g.severity == "warning"]
    critical = sum(g.passed is not None and g.severity == "critical" for g in ordered)
    synthetic = plural(sum(c["synthetic"] for c in counts.values()), "synthetic row")
    if blessed(ordered):
        word, headline = "Blessed", f"{synthetic} may be used. Critical checks passed: {critical} of {critical}."
    else:
        word, headline = "Refused", f"Not published. Critical checks failed: {len(reasons)} of {critical}."
    return Verdict(blessed(ordered), word, headline, reasons, warnings, worth_sentence(ordered))


def worth_sentence(gates: Iterable[GateResult]) -> str:
    """What is known about the use of the synthetic rows, said plainly also when it is nothing."""
    for gate in gates:
        if gate.gate == "worth" and (gate.passed is not None or gate.sentence.startswith("Worth")):
            return gate.sentence
    return WORTH_NOT_MEASURED


def silent_gates(gates: Iterable[GateResult]) -> list[tuple[str, str]]:
    """The titles of the gates without a verdict, and the sentence that says why; one line a sentence."""
    return [(", ".join(GATE_TITLES[name] for name in names), why) for why, names in not_judged(gates).items()]


def gate_word(gate: GateResult) -> str:
    """``passed``, ``failed``, ``warning`` or ``not judged``."""
    if gate.passed is None:
        return "not judged"
    if gate.passed:
        return "passed"
    return "failed" if gate.severity == "critical" else "warning"
