"""Which of several generators is best, by evidence: ranked on validation rows, the first alone measured on test rows.

::

    Trial        what the sub-run of one generator left: references to artifacts, or why it has none
    ranked       trials -> entries in their order, read from those artifacts
    compare      trials and the worth of the first -> comparison.json

All figures come from artifacts, so that a comparison that is made again, killed or not, is the same. How long a
training took is a measurement of a machine and kept beside the rest, in seconds.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from augment.config import MODELS, RunConfig
from augment.errors import InputError, did_you_mean
from augment.gates import GateResult, load_gates
from augment.makers import maker
from augment.plan import describe_plan
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.worth.record import FILE as WORTH_FILE
from augment.worth.record import Metric, WorthRecord
from augment.worth.validation import ValidationLift, lift_on_validation

STAGE = "compare"
FILE = "comparison.json"
SECONDS = "seconds.json"
CODE = ("augment.comparison", "augment.worth", "augment.gates")
NEAR = 2.0  # standard errors of the difference between two models
ORDER = ("passed", "refused", "failed")


class Cost(BaseModel):
    """What a generator costs; ``training_seconds`` are those of the machine that trained it. Null: it has no such."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int | None = None
    steps: int | None = None
    rows_trained_on: int | None = None
    evaluations_per_sample: int | None = None
    training_seconds: float | None = None

    @classmethod
    def planned(cls, plan: dict[str, Any]) -> Cost:
        """That of a plan, as :meth:`augment.makers.Maker.plan` completes it."""
        return cls(
            parameters=plan["model"].get("parameters"),
            steps=plan["cost"].get("steps"),
            rows_trained_on=plan["cost"].get("rows_trained_on"),
            evaluations_per_sample=plan.get("drawing", {}).get("evaluations_per_sample"),
        )


class Trial(BaseModel):
    """What the sub-run of one generator left.

    ``measured`` and ``search`` are of its worth, and not there where a gate refused its rows. A trial with a
    ``failure`` ended before its audit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: dict[str, Any]
    settings: dict[str, Any] = {}  # those that a search chose, by their keys in the run file
    real: ArtifactRef
    generator: ArtifactRef | None = None
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    audit: ArtifactRef | None = None
    search: ArtifactRef | None = None
    measured: list[ArtifactRef] = []
    used: list[ArtifactRef] = []  # everything that garbage collection must leave to the comparison
    failure: str | None = None


class Entry(BaseModel):
    """One line of the table. ``verdict`` is of the gates that can be judged before anything is published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int
    name: str
    model: dict[str, Any]
    settings: dict[str, Any] = {}
    verdict: Literal["passed", "refused", "failed"]
    refused_by: list[str] = []
    warned_by: list[str] = []
    reasons: list[str] = []
    validation: ValidationLift | None = None
    coverage: float | None = None
    frechet_of_floor: float | None = None  # Fréchet distance over that of as many real rows
    farther: float | None = None  # chance that a synthetic row is farther from train than a held-out one; real: 0.5
    label_agreement: float | None = None
    cost: Cost = Cost()


class Comparison(BaseModel):
    """The table; ``winner`` is null where every generator was refused, and ``worth`` is the winner's, on test rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    metric: Metric
    seeds: int
    winner: str | None
    worth: WorthRecord | None
    entries: list[Entry]
    notes: list[str] = []
    searched: dict[str, Any] = {}  # bounds of each setting, where the entries are of a search over settings

    @property
    def best(self) -> Entry | None:
        """The entry that is measured on test rows, null where every one is refused."""
        return next((entry for entry in self.entries if entry.name == self.winner), None)

    @property
    def refusals(self) -> list[str]:
        """Why each generator that was not let through was not, a sentence each."""
        return [f"{e.name}: {' '.join(e.reasons)}" for e in self.entries if e.verdict != "passed"]


class Ranked(NamedTuple):
    """Entries in their order, and the trial that each is of."""

    entries: list[Entry]
    trials: list[Trial]

    @property
    def winner(self) -> Trial | None:
        """The trial that came first, or null where none was let through."""
        return self.trials[0] if self.entries and self.entries[0].verdict == "passed" else None


def names_of(models: Sequence[Any]) -> list[str]:
    """A name for each model section: its kind, with a number where the kind is there several times."""
    kinds = [model.kind for model in models]
    return [kind if kinds.count(kind) == 1 else f"{kind}-{1 + kinds[:i].count(kind)}" for i, kind in enumerate(kinds)]


def ranked(trials: Sequence[Trial], costs: Sequence[Cost], metric: Metric, store: Store) -> Ranked:
    """The trials by their lift on validation rows; those that a gate refused come after, those that failed are last.

    Of equal lifts the smaller log loss comes first. No figure is of test rows.
    """
    entries = [_entry(trial, cost, metric, store) for trial, cost in zip(trials, costs, strict=True)]
    order = sorted(range(len(entries)), key=lambda place: _order(entries[place]))
    numbered = [entries[place].model_copy(update={"rank": rank}) for rank, place in enumerate(order, 1)]
    return Ranked(numbered, [trials[place] for place in order])


def compare(
    dataset: str,
    trials: Sequence[Trial],
    costs: Sequence[Cost],
    worth: ArtifactRef | None,
    metric: Metric,
    seeds: int,
    store: Store,
    searched: dict[str, Any],
) -> ArtifactRef:
    """The comparison as an artifact; ``worth`` is that of the trial which comes first.

    ``searched`` are the bounds of the settings that were searched, empty where the trials are of no search.
    """

    def fill(folder: Path) -> None:
        found = ranked(trials, costs, metric, store)
        comparison = Comparison(
            dataset=dataset,
            metric=metric,
            seeds=seeds,
            winner=found.winner.name if found.winner else None,
            worth=None if worth is None else WorthRecord.load(store.path(worth) / WORTH_FILE),
            entries=found.entries,
            notes=_notes(found.entries) + _caution(found.entries, searched),
            searched=searched,
        )
        seconds = {trial.name: _training_seconds(trial, store) for trial in found.trials}
        (folder / FILE).write_text(comparison.model_dump_json(indent=1) + "\n")
        (folder / SECONDS).write_text(json.dumps(seconds, indent=1) + "\n")

    said = [[_identity(trial), cost.model_dump()] for trial, cost in zip(trials, costs, strict=True)]
    identity = [dataset, said, worth and worth.sha256, metric, seeds, searched, code_version(*CODE)]
    return store.write(STAGE, hash_json(identity)[:32], fill, identity=(FILE,))


def load_comparison(ref: ArtifactRef, store: Store) -> Comparison:
    """The comparison in the artifact ``ref``, with the seconds that each training took."""
    folder = store.path(ref)
    comparison = Comparison.model_validate_json((folder / FILE).read_text())
    seconds = json.loads((folder / SECONDS).read_text())
    entries = [
        entry.model_copy(update={"cost": entry.cost.model_copy(update={"training_seconds": seconds.get(entry.name)})})
        for entry in comparison.entries
    ]
    return comparison.model_copy(update={"entries": entries})


def _identity(trial: Trial) -> list[Any]:
    """What of a trial decides what is said of it."""
    single = [ref and ref.sha256 for ref in (trial.real, trial.generator, trial.audit, trial.search)]
    return [trial.name, trial.model, trial.settings, single, [ref.sha256 for ref in trial.measured], trial.failure]


def _entry(trial: Trial, cost: Cost, metric: Metric, store: Store) -> Entry:
    """What is said of a trial, its place not known yet."""
    if trial.audit is None:
        assert trial.failure is not None
        return Entry(**_named(trial), verdict="failed", reasons=[trial.failure], cost=cost)
    folder = store.path(trial.audit)
    gates = {gate.gate: gate for gate in load_gates(folder / "gates.json")}
    failed = [gate for gate in gates.values() if gate.passed is False and gate.severity == "critical"]
    lift = lift_on_validation(trial.real, trial.measured, metric, store) if trial.measured else None
    return Entry(
        **_named(trial),
        verdict="refused" if failed else "passed",
        refused_by=[gate.gate for gate in failed],
        warned_by=[gate.gate for gate in gates.values() if gate.passed is False and gate not in failed],
        reasons=[gate.sentence for gate in failed],
        validation=lift,
        coverage=_value(gates, "coverage"),
        frechet_of_floor=_frechet_of_floor(folder / "metrics.json"),
        farther=_value(gates, "copying"),
        label_agreement=_value(gates, "label_agreement"),
        cost=cost,
    )


def _named(trial: Trial) -> dict[str, Any]:
    """What an entry has of its trial as it is, with a rank that is not known yet."""
    return {"rank": 0, "name": trial.name, "model": trial.model, "settings": trial.settings}


def _order(entry: Entry) -> tuple[int, float, float]:
    """Sorts entries; equal ones stay in the order in which they were named."""
    place, lift = ORDER.index(entry.verdict), entry.validation
    return (place, float(len(entry.refused_by)), 0.0) if lift is None else (place, -lift.mean, lift.log_loss)


def _notes(entries: Sequence[Entry]) -> list[str]:
    """That the first two are too near to each other for the validation rows to tell, where it is so."""
    lifts = [(e.name, e.validation) for e in entries if e.verdict == "passed" and e.validation is not None]
    if len(lifts) < 2:
        return []
    (first, ours), (second, others) = lifts[:2]
    apart = np.array(ours.by_seed) - np.array(others.by_seed)
    error = float(apart.std(ddof=1)) / math.sqrt(len(apart)) if len(apart) > 1 else math.inf
    if apart.mean() > NEAR * error:
        return []
    spread = f" +- {100 * error:.1f}" if math.isfinite(error) else ""
    return [
        f"Validation rows hardly tell {first} from {second}: {100 * apart.mean():.1f}{spread} points lie between them; "
        "of equal lifts the smaller log loss is first."
    ]


def _caution(entries: Sequence[Entry], searched: dict[str, Any]) -> list[str]:
    """That the best of many is in part the luckiest of them, of a search that measured several."""
    measured = sum(entry.validation is not None for entry in entries)
    if not searched or measured < 2:
        return []
    return [
        f"The first was chosen among {measured} for its lift on validation rows, which luck has raised; that on test "
        "rows is of rows that chose nothing."
    ]


def _value(gates: dict[str, GateResult], name: str) -> float | None:
    return gates[name].value if name in gates else None


def _frechet_of_floor(metrics: Path) -> float | None:
    """The Fréchet distance over that of real rows; null where either is not known."""
    details = json.loads(metrics.read_text()).get("details", {})
    value, floor = details.get("coverage", {}).get("frechet") or (None, None)
    return round(value / floor, 6) if value is not None and floor else None


def _training_seconds(trial: Trial, store: Store) -> float | None:
    """What the training says it took; null where nothing was trained."""
    if trial.generator is None:
        return None
    record = store.path(trial.generator) / "model.json"
    return json.loads(record.read_text()).get("seconds") if record.exists() else None


def chosen_models(config: RunConfig, kinds: Sequence[str]) -> list[Any]:
    """The model sections of ``kinds``, each with its defaults, or with the settings that the run file gives to it.

    Raises:
        InputError: there is no such kind.
    """
    found = []
    for kind in kinds:
        if kind == config.model.kind:
            found.append(config.model)
        elif kind in MODELS:
            found.append(MODELS[kind]())
        else:
            raise InputError(f"--models: '{kind}' is no kind of model{did_you_mean(kind, MODELS)}")
    return found


def run_of_each(config: RunConfig, models: Sequence[Any]) -> list[RunConfig]:
    """The run of each of ``models``, which is that of ``config`` but for its section ``model``.

    Raises:
        InputError: there are no two, two are the same, one does not go with another section, or nothing would be
            measured to rank them by.
    """
    if len(models) < 2:
        raise InputError("a comparison needs two models at least; name them as in --models vae,flow_matching.")
    if not config.worth.seeds:
        raise InputError("worth.seeds is 0, and models are ranked by their worth; set it to 2 or more.")
    runs: list[RunConfig] = []
    for place, model in enumerate(models):
        if model in models[:place]:
            raise InputError(f"the model '{model.kind}' is there twice with the same settings; leave one out.")
        run = config.model_copy(update={"model": model})
        try:
            maker(run).refuse()
        except InputError as error:
            raise InputError(f"the model '{model.kind}' cannot be compared: {str(error).rstrip('.')}.") from None
        runs.append(run)
    return runs


def cost_of(config: RunConfig, real: ArtifactRef, store: Store) -> Cost:
    """What the generator of a run costs; nothing is trained.

    Raises:
        InputError: the model does not fit the data.
    """
    planned = describe_plan(config.plan, real, store).model_dump(mode="json")
    return Cost.planned(maker(config).plan(real, planned, store))
