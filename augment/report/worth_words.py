"""What the synthetic rows are worth, in words: for the page, the dataset card and the summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from augment.gates import plural
from augment.report.wording import DASH, MINUS
from augment.worth.record import ArmRecord, Lift, WorthRecord

Tone = Literal["good", "bad", "plain"]
METRICS: Mapping[str, str] = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "average_precision": "average precision",
    "worst_recall": "recall of the worst class",
}
ROLES: Mapping[str, str] = {
    "without": "Without synthetic rows",
    "with": "Real and synthetic rows",
    "alone": "Synthetic rows alone",
    "scarce": "Synthetic rows of scarce classes only",
    "more": "More real rows",
}
WORDS: Mapping[str | None, tuple[Tone, str]] = {
    "helps": ("good", "Synthetic rows help"),
    "harms": ("bad", "Synthetic rows harm"),
    "no clear difference": ("plain", "No clear difference"),
    "not measurable here": ("plain", "Not measurable here"),
    None: ("plain", "Worth not measured"),
}


class Key(NamedTuple):
    """A figure that is shown large: what it is, how large, and its unit."""

    title: str
    figure: str
    unit: str


class Said(NamedTuple):
    """The verdict on worth as a person who trains no classifiers reads it."""

    tone: Tone
    word: str
    text: str
    figures: tuple[Key, ...]


def said_of(record: WorthRecord) -> Said:
    """The verdict's word, one or two sentences, and the figures that it rests on."""
    tone, word = WORDS[record.verdict]
    lift = head_of(record)
    if record.verdict is None or lift is None:
        return Said(tone, word, record.sentence, ())
    interval = interval_of(lift)
    keys = [
        Key("Lift", signed(lift.mean), f"points of {METRICS[record.metric]}"),
        Key("95\u202f% interval", interval, "points" if lift.low is not None else "one seed has none"),
    ]
    more = equivalent_of(record)
    return Said(tone, word, _plainly(record, lift), (*keys, more) if more else tuple(keys))


def head_of(record: WorthRecord) -> Lift | None:
    """The lift that the verdict is about: of the best arm with synthetic rows over the best one without."""
    return next((arm.lift for arm in record.arms if arm.name == record.best_with), None)


def equivalent_of(record: WorthRecord) -> Key | None:
    """The lift in real rows of each scarce class, the unit in which data are bought; null where there is no number."""
    rows = record.equivalent.get("rows")
    if rows is None:
        return None
    figure = ("\u2265" if record.equivalent.get("capped") else "") + _whole(rows)
    unit = "of each scarce class"
    sizes = record.curve.get("rows")
    if sizes:
        unit += f", of which there are {sizes[-1]:,}"
    low, high = record.equivalent.get("low"), record.equivalent.get("high")
    if low is not None and high is not None:
        unit += f" (95\u202f%: {_whole(low)} to {_whole(high)})"
    return Key("Worth in real rows", figure, unit)


def signed(value: float) -> str:
    """A difference of scores in points, a hundredth of the whole, with its sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def _whole(rows: float) -> str:
    return (f"{round(rows):+,}" if round(rows) else "0").replace("-", MINUS)


def interval_of(lift: Lift) -> str:
    """The 95 % interval in points."""
    return DASH if lift.low is None or lift.high is None else f"{signed(lift.low)} to {signed(lift.high)}"


def score_of(arm: ArmRecord) -> float:
    """The mean score on test rows by the metric of the record."""
    return sum(arm.by_seed) / len(arm.by_seed)


def by_role(record: WorthRecord) -> dict[str, list[ArmRecord]]:
    """The arms by the title of what they get, best score first."""
    found = {title: [arm for arm in record.arms if arm.role == role] for role, title in ROLES.items()}
    return {title: sorted(arms, key=lambda arm: -score_of(arm)) for title, arms in found.items() if arms}


def basis_of(record: WorthRecord) -> str:
    """What the figures of all arms are, and how many seeds and generators they rest on."""
    trained = "one trained generator" if record.generators == 1 else f"{record.generators} trained generators"
    test = plural(record.rows["test"], "real test row") if "test" in record.rows else "real test rows"
    return (
        f"Every figure is {METRICS[record.metric]} on {test}, the mean over {plural(record.seeds, 'seed')} and "
        f"{trained}. The two arms that are compared were chosen on validation rows, never on test rows."
    )


def _plainly(record: WorthRecord, lift: Lift) -> str:
    size = f"{abs(100 * lift.mean):.1f} points"
    best = "the best classifier that also learns from synthetic rows"
    if record.verdict == "helps":
        return f"On real rows that nothing was trained on, {best} scores {size} higher than the best one without them."
    if record.verdict == "harms":
        said = f"On real rows that nothing was trained on, {best} scores {size} lower than the best one without them."
        return f"{said} Do not train with them."
    if record.verdict == "no clear difference":
        return (
            f"Neither a benefit nor a harm was found: {best} scores about the same as the best one without them, and "
            "the difference may be anything within the interval."
        )
    smallest, wanted = record.lift.get("smallest_effect"), record.lift.get("measurable_at")
    if smallest is None or wanted is None:
        return "One seed does not say how sure a difference is; raise worth.seeds."
    return (
        f"There are too few test rows or seeds to tell whether they help: only a difference of {100 * smallest:.1f} "
        f"points or more would have shown, and {100 * wanted:.1f} are asked for."
    )
