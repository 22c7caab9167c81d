"""Which drawn rows are kept, what is drawn in place of the others, and what is said and measured of both."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from _judged_sets import TABLE, Trial, quick, replaced
from _small_store import write_stages

from augment import validation
from augment.checks._class_numbers import numbers_of_set
from augment.checks._contract import Evidence
from augment.checks._encoded import DrawnRows, rows_of_set
from augment.checks.label_agreement import LabelAgreement
from augment.config import GenerateSection, RunConfig
from augment.encoding import encode
from augment.errors import InputError
from augment.gates import GateResult, load_gates
from augment.rounds import round_requests, rows_to_ask
from augment.selection import GATE, REASONS, Selection, _limits, _nearest_ratio, _Scored
from augment.store import ArtifactRef
from augment.validation import _verdict
from augment.worth._arms import Arm, Role, Sides, arms_of, rows_of
from augment.worth._policies import Policy
from augment.worth._rows_at_hand import Paths, at_hand

Draw = Callable[[str, int, int], pa.Table]  # the rows of a class that a request asks for, by round
SEED = 7
NUMBERS = itertools.count()  # a shard of the same number is the same artifact of a store
WANTED = {"apple": 30, "pear": 30}


def fruits(rows: int, seed: int, synthetic: bool = False) -> pa.Table:
    """Rows of ``TABLE``, apples first, whose size and count tell pears from apples."""
    draw = np.random.default_rng(seed)
    pear = np.arange(rows) >= rows // 2
    return pa.table(
        {
            "size": draw.normal(5, 1, rows) + 6 * pear,
            "count": np.rint(draw.normal(500, 100, rows) + 800 * pear).astype(np.int64),
            "shade": draw.choice(["red", "green"], rows),
            "ripe": draw.random(rows) < 0.5,
            "note": pa.nulls(rows, pa.string()) if synthetic else pa.array([f"row {i}" for i in range(rows)]),
            "fruit": np.where(pear, "pear", "apple"),
        },
        schema=TABLE.arrow_schema,
    )


def of_class(rows: pa.Table, name: str) -> pa.Table:
    return rows.filter(pa.array([label == name for label in rows["fruit"].to_pylist()]))


def mislabelled(rows: pa.Table) -> pa.Table:
    return replaced(rows, "fruit", ["apple" if name == "pear" else "pear" for name in rows["fruit"].to_pylist()])


def near_copies(trial: Trial, rows: int) -> pa.Table:
    """Training rows whose size is moved by a hair."""
    train = trial.part("train").slice(0, rows)
    return replaced(replaced(train, "size", np.array(train["size"]) + 1e-4), "note", [None] * rows)


def odd_ones(rows: int) -> pa.Table:
    """Rows that lie between the classes, where no real ones are."""
    return replaced(replaced(fruits(rows, 60, synthetic=True), "size", [8.0] * rows), "count", [900] * rows)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    parts = {"train": fruits(200, 1), "validation": fruits(80, 2), "test": fruits(40, 3)}
    return Trial.of(tmp_path_factory.mktemp("selection"), TABLE, parts)


def selection_of(trial: Trial, **shares: float) -> Selection:
    """The selection by ``shares``, ready to choose."""
    reference = validation.make_reference(trial.real, [], SEED, trial.store, shares=shares)
    found = validation._yardstick(reference, trial.real, [], trial.store).selection
    assert found is not None
    return found


def left_out(selection: Selection, rows: pa.Table) -> float:
    """The share of ``rows`` that is not selected."""
    labels = np.array(rows["fruit"].to_pylist(), dtype=object)
    return float((selection.choose(rows, labels, np.ones(len(rows), dtype=bool)).gates == GATE).mean())


@dataclass
class Outcome:
    """What became of rows that were drawn in rounds."""

    trial: Trial
    shards: list[ArtifactRef]
    judged: list[ArtifactRef]
    audit: Path

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.audit / "metrics.json").read_text())
        return found

    @property
    def gates(self) -> dict[str, GateResult]:
        return {gate.gate: gate for gate in load_gates(self.audit / "gates.json")}

    def said(self, *columns: str) -> pa.Table:
        folders = [self.trial.store.path(ref) for ref in self.judged]
        return pa.concat_tables(pq.read_table(folder / "features.parquet", columns=[*columns]) for folder in folders)

    @property
    def published(self) -> list[str]:
        said = self.said("sample_id", "accepted")
        found: list[str] = said.filter(said["accepted"])["sample_id"].to_pylist()
        return found


def in_rounds(
    trial: Trial, draw: Draw, wanted: Mapping[str, int], *, agreement: bool = False, **select: Any
) -> Outcome:
    """Rows of ``draw``, judged and drawn again as a run does, and the audit of all."""
    section = GenerateSection.model_validate({"select": select, "shard_rows": 1000})
    checks = [*quick(validation.active_checks([])), *([LabelAgreement()] if agreement else [])]
    store, shares = trial.store, section.select.shares
    reference = validation.make_reference(trial.real, checks, SEED, store, shares=shares)
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    for number in range(section.rounds + 1):
        for request in round_requests(section, trial.model, wanted, judged, number, store):
            rows = pa.concat_tables([draw(name, count, number) for name, count in request.counts.items()])
            shards.append(trial.shard(rows, next(NUMBERS), request.first_index, number))
            before = list(judged)
            judged.append(
                validation.judge_shard(shards[-1], reference, trial.real, checks, store, before, wanted=wanted)
            )
    audit = validation.conclude(trial.real, reference, trial.model, wanted, shards, judged, checks, store)
    return Outcome(trial, shards, judged, store.path(audit))


def half_mislabelled(name: str, rows: int, turn: int) -> pa.Table:
    """As many rows as are asked for, every second of which is of the other class."""
    drawn = fruits(4 * rows, 100 + turn, synthetic=True)
    pair = (of_class(drawn, name).slice(0, rows), of_class(mislabelled(drawn), name).slice(0, rows))
    return pa.concat_tables(pair).take(pa.array(np.arange(2 * rows).reshape(2, rows).T.ravel()[:rows]))


def all_mislabelled(name: str, rows: int, turn: int) -> pa.Table:
    return of_class(mislabelled(fruits(2 * rows, 200 + turn, synthetic=True)), name)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_as_many_validation_rows_would_be_left_out_as_the_share_says(trial: Trial, share: float) -> None:
    selection = selection_of(trial, label_confidence=share)
    rows = trial.part("validation")
    for name in TABLE.classes:
        assert left_out(selection, of_class(rows, str(name))) == pytest.approx(share, abs=1 / 40)


def test_a_limit_is_the_score_that_all_but_the_share_reach_and_small_classes_share_one() -> None:
    scores = {0: np.arange(20.0), 1: np.array([100.0, 200.0]), 2: np.array([np.inf, np.nan])}
    pooled = np.array([*range(20), 100, 200])
    assert _limits("density", 0.25, scores, 4) == [5.0, *[float(pooled[int(0.25 * 22)])] * 3]


@pytest.mark.parametrize(
    ("criterion", "rows"),
    [
        ("label_confidence", lambda _: mislabelled(fruits(60, 60, synthetic=True))),
        ("nearest_ratio", lambda trial: near_copies(trial, 60)),
        ("density", lambda _: odd_ones(60)),
    ],
)
def test_each_criterion_leaves_out_what_it_is_about_and_keeps_most_rows_like_real_ones(
    trial: Trial, criterion: str, rows: Callable[[Trial], pa.Table]
) -> None:
    selection = selection_of(trial, **{criterion: 0.05})
    assert left_out(selection, fruits(200, 50, synthetic=True)) < 0.15
    assert left_out(selection, rows(trial)) > 0.8


def test_rows_that_are_not_selected_are_drawn_again_until_the_plan_is_met_and_not_beyond(trial: Trial) -> None:
    outcome = in_rounds(trial, half_mislabelled, WANTED, label_confidence=0.02)
    assert outcome.gates["class_plan"].passed
    said = outcome.said("label", "accepted")
    assert said.filter(said["accepted"])["label"].value_counts().to_pylist() == [
        {"values": name, "counts": rows} for name, rows in WANTED.items()
    ]
    assert len(outcome.metrics["rounds"]) <= 3
    rejects = pq.read_table(outcome.audit / "rejects.parquet")
    reasons = dict(zip(rejects["reject_gate"].to_pylist(), rejects["reject_reason"].to_pylist(), strict=True))
    assert reasons[GATE] == REASONS["label_confidence"]
    assert reasons["class_plan"] == "drawn beyond the rows that the plan asks for"


def test_the_acceptance_rate_is_of_the_rows_that_the_gates_accepted(trial: Trial) -> None:
    outcome = in_rounds(trial, half_mislabelled, WANTED, label_confidence=0.02)
    said, found = (
        outcome.said("reason", "accepted", "selection.selected", "selection.asked"),
        outcome.metrics["selection"],
    )
    asked, selected = (sum(said[f"selection.{part}"].to_pylist()) for part in ("asked", "selected"))
    assert (found["asked"], found["selected"], found["acceptance"]) == (asked, selected, selected / asked)
    assert found["acceptance"] == pytest.approx(0.5, abs=0.1)
    assert found["left_out"] == {"label_confidence": asked - selected}
    assert found["shares"] == {"label_confidence": 0.02}
    assert sum(entry["asked"] for entry in outcome.metrics["rounds"]) == asked


def test_gates_of_the_set_see_the_rows_that_will_be_published(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Evidence, DrawnRows]] = []

    def looked(evidence: Evidence) -> DrawnRows:
        seen.append((evidence, rows_of_set(evidence)))
        return seen[-1][1]

    monkeypatch.setattr(_verdict, "rows_of_set", looked)
    chosen = in_rounds(trial, half_mislabelled, WANTED, agreement=True, label_confidence=0.02)
    as_drawn = in_rounds(trial, half_mislabelled, WANTED, agreement=True)
    (evidence, rows), (before, first) = seen
    assert sorted(rows.sample_ids) == sorted(chosen.published)
    assert len(first.sample_ids) == sum(WANTED.values())
    sizes = numbers_of_set(evidence, "marginals", ["feature.size"], {}, 10**6)
    assert {name: len(values) for name, values in sizes.classes.items()} == WANTED
    values = [outcome.gates["label_agreement"].value for outcome in (chosen, as_drawn)]
    assert values == [pytest.approx(1.0, abs=0.05), pytest.approx(0.5, abs=0.1)]
    assert before.choices == []


def test_a_selection_that_accepts_next_to_nothing_is_refused_by_a_sentence_that_names_it(trial: Trial) -> None:
    gate = in_rounds(trial, all_mislabelled, {"apple": 5, "pear": 5}, label_confidence=0.0).gates["class_plan"]
    assert gate.passed is False
    assert "the selection kept 0; lower the shares of generate.select" in gate.sentence


def test_without_criteria_nothing_is_asked_for_learned_or_said_of_it(trial: Trial) -> None:
    outcome = in_rounds(trial, half_mislabelled, WANTED)
    assert "selection" not in outcome.metrics
    assert not [name for name in outcome.said().schema.names if name.startswith(GATE)]
    assert not [ref for ref in outcome.judged if (trial.store.path(ref) / "choice.json").exists()]
    reference = validation.make_reference(trial.real, [], SEED, trial.store)
    assert reference == validation.make_reference(trial.real, [], SEED, trial.store, shares={})
    judged = [
        validation.judge_shard(outcome.shards[0], reference, trial.real, [], trial.store, wanted=wanted)
        for wanted in (None, WANTED)
    ]
    assert judged[0] == judged[1]
    section = GenerateSection(shard_rows=1000)
    (request,) = round_requests(section, trial.model, {"apple": 50, "pear": 30}, outcome.judged, 1, trial.store)
    assert request.counts == {"apple": 20}


def test_other_shares_give_another_judgement_of_the_same_rows(trial: Trial) -> None:
    shard = trial.shard(fruits(40, 50, synthetic=True), next(NUMBERS))
    references = [
        validation.make_reference(trial.real, [], SEED, trial.store, shares={"density": s}) for s in (0.1, 0.2)
    ]
    judged = {validation.judge_shard(shard, ref, trial.real, [], trial.store).key for ref in references}
    assert len(judged) == 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_so_many_rows_are_asked_for_that_one_round_is_nearly_always_enough(rate: float) -> None:
    for rows in (1, 10, 100):
        asked = rows_to_ask({"a": rows}, {"a": 1000}, {"a": int(1000 * rate)})["a"]
        accepted = np.random.default_rng(0).binomial(asked, rate, 10_000)
        assert (accepted >= rows).mean() > 0.93
    assert rows_to_ask({"a": 3}, {"a": 10**6}, {})["a"] < 20 * (3 + 4)


SIDES = Sides(
    real_y=np.array([0, 0, 0, 0, 1]),
    reserve=5,
    synthetic_y=np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 1]),  # five published, of which four were drawn first
    spare=5,
    num_classes=2,
    scarce=(1,),
    equal_mass=True,
    selected=np.arange(4),
)


def rows_with(role: Role, seed: int = 0, sides: Sides = SIDES) -> list[int]:
    given = rows_of(Arm(name="", learner="", method="", role=role), sides, seed).synthetic
    assert given is not None
    return given.places.tolist()


def test_arms_compare_unselected_selected_and_as_many_random_rows_of_the_first_round() -> None:
    assert rows_with("unselected") == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert rows_with("selected") == [0, 1, 2, 3]
    draws = [rows_with("random", seed) for seed in range(20)]
    assert all(np.bincount(SIDES.synthetic_y[rows]).tolist() == [2, 2] for rows in draws)
    assert {place for rows in draws for place in rows} == {0, 1, 2, 3, 5, 6, 7, 8, 9}
    assert rows_with("with") == [0, 1, 2, 3, 4]


def test_rows_that_were_not_selected_are_at_hand_only_where_they_are_compared(trial: Trial) -> None:
    outcome = in_rounds(trial, half_mislabelled, WANTED, label_confidence=0.02, compare=True)
    encoded = trial.store.path(encode(trial.real, SEED, trial.store))
    folders = [[trial.store.path(ref) for ref in refs] for refs in (outcome.shards, outcome.judged)]
    paths = Paths(trial.store.path(trial.real), encoded, *folders)
    plain, compared = (at_hand(paths._replace(compare=on), Policy(), True, SEED) for on in (False, True))
    assert len(plain.sides.synthetic_y) == compared.sides.spare == sum(WANTED.values())
    first = outcome.metrics["rounds"][0]
    assert (len(compared.sides.first_round), len(compared.sides.selected)) == (first["asked"], first["selected"])
    roles = [{arm.role for arm in arms_of(ready.downstream, ready.sides)} for ready in (plain, compared)]
    assert roles[1] - roles[0] == {"unselected", "random", "selected"}


def test_what_cannot_be_learned_is_refused_with_what_to_do(tmp_path: Path) -> None:
    parts = {"train": fruits(40, 1), "validation": fruits(0, 2), "test": fruits(10, 3)}
    with pytest.raises(InputError, match=r"generate\.select\.density takes its limit .* raise split\.validation"):
        selection_of(Trial.of(tmp_path, TABLE, parts), density=0.1)


def test_a_comparison_without_criteria_is_refused() -> None:
    with pytest.raises(ValueError, match="compare has nothing to compare"):
        RunConfig.model_validate({"generate": {"select": {"compare": True}}})


def test_the_card_says_how_many_rows_were_selected_and_by_what(tmp_path: Path) -> None:
    stages = write_stages(tmp_path)
    before = Path(stages.publish().path)
    assert "were selected" not in (before / "README.md").read_text()
    found = {"shares": {"label_confidence": 0.1}, "asked": 1200, "selected": 900, "acceptance": 0.75}
    other = write_stages(tmp_path, tag="other")

    def fill(folder: Path) -> None:
        shutil.copytree(stages.store.path(stages.audit), folder, dirs_exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"selection": found}))

    audit = stages.store.write("validate", "selected", fill)
    folder = Path(replace(other, audit=audit).publish("others").path)
    card = " ".join((folder / "README.md").read_text().split())
    assert (
        "75.0% of the 1,200 drawn rows that the gates accepted were selected by label confidence (all but 10 %)" in card
    )


def test_a_class_without_validation_rows_has_no_ratio_to_be_left_out_by() -> None:
    x, nothing = torch.randn(4, 3), torch.empty(0, 3)
    rows = _Scored(None, 0, x, x, nothing, own=False)  # type: ignore[arg-type]
    assert bool(_nearest_ratio(rows).isnan().all())
