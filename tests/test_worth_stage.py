"""The stages of worth on a tiny table: which arms there are, what they amount to, and what the gate makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from _judged_sets import IMAGES, TABLE, Trial, image_rows, replaced
from _linked_rows import linked_rows
from safetensors.numpy import load_file

from augment.checks.worth import judge_worth, with_worth
from augment.errors import StoreError
from augment.gates import unmeasured
from augment.store import ArtifactRef
from augment.validation import accepted_counts
from augment.worth._arms import Arm, Sides, mean_rows, part_of, rows_of, scarce_classes
from augment.worth._concluding import Measured, best_arm, concluded
from augment.worth._rebalancing import METHODS
from augment.worth._table_arms import Tables
from augment.worth._tables import LEARNERS
from augment.worth.lift import (
    Rows,
    conclude_worth,
    generator_seed,
    load_worth,
    measure_arms,
    measure_parts,
    measure_real,
    search_classical,
    unmeasurable,
    unmeasured_record,
)
from augment.worth.record import WorthRecord

SEED = 7
SEEDS = 3


class Tried(NamedTuple):
    """The stages of worth of one set of synthetic rows."""

    trial: Trial
    rows: Rows
    search: ArtifactRef
    known: list[ArtifactRef]
    arms: list[ArtifactRef]
    record: WorthRecord


def tried(folder: Path, synthetic: pa.Table) -> Tried:
    parts = {"train": linked_rows(60, 1, pears=0.3), "validation": linked_rows(60, 2), "test": linked_rows(400, 3)}
    trial = Trial.of(folder, TABLE, parts)
    shard = trial.shard(synthetic)
    _, judged, _ = trial.judge([shard])
    rows = Rows(trial.real, [shard], judged)
    search = search_classical(trial.real, 24, SEED, trial.store)
    known = [measure_real(trial.real, search, number, SEED, trial.store) for number in range(SEEDS)]
    arms = [
        measure_arms(rows, search, of_seed, True, number, SEED, trial.store) for number, of_seed in enumerate(known)
    ]
    parts_of = [
        measure_parts(rows, search, arms, "balanced_accuracy", number, SEED, trial.store) for number in range(SEEDS)
    ]
    worth = conclude_worth(rows, search, arms, parts_of, "balanced_accuracy", 1, 0.05, SEED, trial.store)
    return Tried(trial, rows, search, known, arms, load_worth(worth, trial.store))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Synthetic rows whose labels are all those of the other class."""
    rows = linked_rows(240, 50)
    other = ["pear" if name == "apple" else "apple" for name in rows["fruit"].to_pylist()]
    return tried(tmp_path_factory.mktemp("noise"), replaced(rows, "fruit", other))


def test_every_arm_is_there_for_every_learner(noise: Tried) -> None:
    roles = {learner: [arm.role for arm in noise.record.arms if arm.learner == learner] for learner in learners(noise)}
    for of_learner in roles.values():
        assert {"without", "with", "alone", "scarce"} == set(of_learner)
        assert "more" not in of_learner  # the split cut nothing off
    assert noise.record.scarce == ["pear"]
    accepted = sum(accepted_counts(noise.rows.judged, noise.trial.store).values())
    assert 200 < accepted < 240  # the judge rejects a few
    assert noise.record.rows == {"train": 60, "validation": 60, "test": 400, "synthetic": accepted}
    assert all(len(arm.by_seed) == SEEDS for arm in noise.record.arms)


def learners(of: Tried) -> list[str]:
    return sorted({arm.learner for arm in of.record.arms})


def test_rows_with_wrong_labels_harm_and_are_refused_where_the_gate_is_strict(noise: Tried) -> None:
    assert noise.record.verdict == "harms"
    assert noise.record.sentence.startswith("Synthetic rows harm: ")
    strict, report = (judge_worth(noise.record, strict=strict) for strict in (True, False))
    assert (strict.passed, strict.severity) == (False, "critical")
    assert (report.passed, report.severity) == (False, "warning")
    assert strict.value is not None
    assert strict.value < -0.05
    assert with_worth([unmeasured("worth", "later")], noise.record.model_dump(mode="json"), strict=True) == [strict]


def test_a_learning_curve_rises_to_all_rows_of_the_scarce_class(noise: Tried) -> None:
    assert noise.record.curve["rows"] == [4, 9, 18]
    assert noise.record.curve["arm"] == noise.record.best_without


def test_one_training_behind_all_seeds_is_said(noise: Tried) -> None:
    assert noise.record.generators == 1
    assert any("share one trained generator" in note for note in noise.record.notes)


def test_stages_that_are_there_are_not_measured_again(noise: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("augment.worth.lift._at_hand", never)
    assert search_classical(noise.trial.real, 24, SEED, noise.trial.store) == noise.search
    assert measure_real(noise.trial.real, noise.search, 1, SEED, noise.trial.store) == noise.known[1]
    again = measure_arms(noise.rows, noise.search, noise.known[1], True, 1, SEED, noise.trial.store)
    assert again == noise.arms[1]
    with pytest.raises(AssertionError, match="measured again"):
        measure_arms(noise.rows, noise.search, noise.known[1], True, SEEDS, SEED, noise.trial.store)


def test_arms_without_synthetic_rows_are_fitted_once_for_all_generators(
    noise: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    fit = Tables.predicted

    def counted(self: Tables, learner: str, method: str, real: Any, synthetic: Any, seed: int) -> Any:
        fitted.append(synthetic)
        return fit(self, learner, method, real, synthetic, seed)

    monkeypatch.setattr(Tables, "predicted", counted)
    shard = noise.trial.shard(linked_rows(120, 51), number=1, first=240)
    _, judged, _ = noise.trial.judge([shard])
    other = Rows(noise.trial.real, [shard], judged)
    arms = measure_arms(other, noise.search, noise.known[0], True, 0, SEED, noise.trial.store)
    assert fitted
    assert all(synthetic is not None for synthetic in fitted)
    first, second = (predictions(noise.trial, ref) for ref in (noise.arms[0], arms))
    shared = [name for name in first if name in predictions(noise.trial, noise.known[0])]
    assert len(shared) == len(METHODS) * len(LEARNERS)
    assert all(np.array_equal(first[name], second[name]) for name in shared)
    assert not np.array_equal(first["synthetic (boosted trees)"], second["synthetic (boosted trees)"])


def predictions(trial: Trial, ref: ArtifactRef) -> dict[str, Any]:
    """What each arm of an artifact predicts for test rows."""
    folder = trial.store.path(ref)
    arrays = load_file(folder / "predictions.safetensors")
    arms = json.loads((folder / "arms.json").read_text())
    return {arm["name"]: arrays[f"test.{place}"] for place, arm in enumerate(arms)}


def test_a_record_comes_back_as_it_was_written(noise: Tried, tmp_path: Path) -> None:
    noise.record.save(tmp_path / "worth.json")
    assert WorthRecord.load(tmp_path / "worth.json") == noise.record
    with pytest.raises(StoreError):
        load_worth(ArtifactRef(stage="worth", key="0" * 32, sha256="0" * 64), noise.trial.store)


def test_what_cannot_be_measured_is_a_sentence_and_no_verdict() -> None:
    record = unmeasured_record("there are no two classes to tell apart", "balanced_accuracy")
    gate = judge_worth(record, strict=True)
    assert (gate.passed, gate.value) == (None, None)
    assert gate.sentence == "Worth not measured, because there are no two classes to tell apart."


def test_why_nothing_can_be_measured_is_said(noise: Tried, tmp_path: Path) -> None:
    store = noise.trial.store
    assert unmeasurable(noise.trial.real, "balanced_accuracy", store) is None
    one = {"train": linked_rows(40, 1), "validation": linked_rows(20, 2, pears=0), "test": linked_rows(20, 3)}
    trial = Trial.of(tmp_path / "one", TABLE, one)
    said = unmeasurable(trial.real, "balanced_accuracy", trial.store)
    assert said == "the validation rows are not of two classes at least; raise split.validation"
    images = Trial.of(
        tmp_path / "images",
        IMAGES.model_copy(update={"classes": (0, 1, 2)}),
        {part: image_rows(12, seed) for seed, part in enumerate(("train", "validation", "test"))},
    )
    said = unmeasurable(images.real, "average_precision", images.store)
    assert said is not None
    assert said.startswith("average precision is of two classes and there are 3")


# Which rows an arm gets


def sides(**more: object) -> Sides:
    """Ten and four real rows of two classes, one without a label, two in reserve, and synthetic ones of both."""
    real = np.array([0] * 10 + [1] * 4 + [-1] + [1, 1])
    return Sides(real, 15, np.array([0, 1, 1, 1]), 4, 2, (1,), True)._replace(**more)


def arm(role: str) -> Arm:
    return Arm(name=role, learner="trees", method="plain", role=role)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "real", "synthetic"),
    [
        ("without", list(range(14)), None),
        ("more", [*range(14), 15, 16], None),
        ("with", list(range(14)), [0, 1, 2, 3]),
        ("scarce", list(range(14)), [1, 2, 3]),
        ("alone", None, [0, 1, 2, 3]),
    ],
)
def test_an_arm_gets_its_rows(role: str, real: list[int] | None, synthetic: list[int] | None) -> None:
    given = rows_of(arm(role), sides(), 0)
    for chosen, expected in ((given.real, real), (given.synthetic, synthetic)):
        assert (None if chosen is None else chosen.places.tolist()) == expected


def test_published_weights_give_every_class_the_same_mass() -> None:
    given = rows_of(arm("with"), sides(), 0)
    assert given.real is not None
    assert given.synthetic is not None
    y = np.concatenate([sides().real_y[given.real.places], sides().synthetic_y[given.synthetic.places]])
    weight = np.concatenate([given.real.weight, given.synthetic.weight])
    assert weight[y == 0].sum() == pytest.approx(weight[y == 1].sum())


def test_a_smaller_part_of_a_scarce_class_is_one_of_a_larger() -> None:
    (quarter, few), (half, more) = (part_of(share, sides(), 3) for share in (0.25, 0.5))
    assert (few, more) == (1, 2)
    assert set(quarter.places) < set(half.places)
    assert set(range(10)) <= set(quarter.places.tolist())  # the other class stays whole
    assert max(half.places) < 15


def test_scarce_are_classes_of_fewer_than_half_of_the_largest_or_all() -> None:
    assert scarce_classes(np.array([0] * 10 + [1] * 4 + [2] * 5 + [-1] * 20), 3) == (1,)
    assert scarce_classes(np.array([0, 1, 0, 1]), 2) == (0, 1)
    assert (mean_rows([4, 0, 7]), mean_rows([])) == (6, 1)


def test_generators_after_the_first_have_seeds_of_their_own() -> None:
    assert generator_seed(7, 0) == 7
    assert len({generator_seed(7, number) for number in range(4)}) == 4


# From predictions to a verdict


def measured(*qualities: tuple[str, str, float], test_rows: int = 400) -> Measured:
    """Arms (name, role, share of rows that are right), three seeds each; the first rows are the ones that are right."""
    y = np.arange(test_rows) % 2
    arms, predicted = [], []
    for name, role, share in qualities:
        arms.append(Arm(name=name, learner="trees", method=name, role=role))  # type: ignore[arg-type]
        right = np.arange(test_rows) < share * test_rows
        of_seed = np.eye(2)[np.where(right, y, 1 - y)] * 0.8 + 0.1
        predicted.append(np.stack([of_seed] * 3))
    return Measured(arms, predicted, predicted, y, y, 1)


def conclusion(of: Measured) -> WorthRecord:
    return concluded(of, None, [10], "balanced_accuracy", 0.05, ["a", "b"], 0)


def test_arms_that_predict_the_same_have_no_lift_and_no_harm() -> None:
    record = conclusion(measured(("plain", "without", 0.8), ("synthetic", "with", 0.8)))
    assert record.verdict == "no clear difference"
    assert record.lift["mean"] == 0
    assert judge_worth(record, strict=True).passed


def test_the_best_arm_without_synthetic_rows_is_what_others_are_held_against() -> None:
    found = measured(("plain", "without", 0.7), ("smote", "without", 0.8), ("synthetic", "with", 0.9))
    record = conclusion(found)
    assert (record.best_without, record.best_with, record.verdict) == ("smote", "synthetic", "helps")
    assert record.lift["mean"] == pytest.approx(0.1)
    assert best_arm(found, "without", "balanced_accuracy").name == "smote"


def test_few_rows_cannot_show_whether_there_is_a_lift() -> None:
    y = np.arange(12) % 2
    draw = np.random.default_rng(0)
    predicted = [draw.dirichlet([1, 1], (3, 12)) for _ in range(2)]
    arms = [Arm(name=role, learner="trees", method=role, role=role) for role in ("without", "with")]  # type: ignore[arg-type]
    record = conclusion(Measured(arms, predicted, predicted, y, y, 1))
    assert record.verdict == "not measurable here"
    assert "could have shown" in record.sentence
    assert judge_worth(record, strict=True).passed
