"""Choosing a generator: the order of the table, what it is made of, and that test rows have no say in it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _small_store import Stages, gate, passing, write_stages
from safetensors.numpy import save_file

from augment.comparison import (
    FILE,
    Comparison,
    Cost,
    Trial,
    chosen_models,
    compare,
    load_comparison,
    names_of,
    ranked,
    run_of_each,
)
from augment.config import MODELS, RunConfig
from augment.errors import AugmentError, InputError, TrainingError
from augment.gates import GateResult
from augment.store import ArtifactRef
from augment.worth._arms import Arm
from augment.worth.record import FILE as WORTH_FILE
from augment.worth.record import WorthRecord
from augment.worth.validation import lift_on_validation
from flows import candidates, placement
from flows import compare_generators as flow
from flows.comparison_table import COLUMNS, as_markdown, table_rows

CLASSES = ("ant", "bee", "cow")
HELD_OUT = list(CLASSES) * 10
ARMS = [
    Arm(name=name, learner="trees", method="plain", role=role)
    for name, role in [("real rows", "without"), ("synthetic", "with"), ("synthetic alone", "alone")]
]
WITHOUT = 20  # of the 30 validation rows are right without synthetic ones


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    real: dict[str, list[Any]] = {"train": [*CLASSES] * 4, "validation": HELD_OUT, "test": HELD_OUT}
    return write_stages(tmp_path / "store", real=real)


def predictions(right: int, sure: float = 0.8) -> Any:
    """Probabilities for the held-out rows that are right for the first ``right`` of them."""
    y = np.arange(len(HELD_OUT)) % 3
    said = np.where(np.arange(len(y)) < right, y, (y + 1) % 3)
    return np.where(np.arange(3) == said[:, None], sure, (1 - sure) / 2).astype(np.float32)


def measured(stages: Stages, key: str, right: Sequence[int], sure: float = 0.8, test: float = 0.5) -> list[ArtifactRef]:
    """What classifiers predict, an artifact a seed: ``right`` validation rows are right with synthetic ones."""

    def write(seed: int, of_seed: int) -> ArtifactRef:
        def fill(folder: Path) -> None:
            (folder / "arms.json").write_text(json.dumps([arm.model_dump() for arm in ARMS]))
            given = [predictions(WITHOUT), predictions(of_seed, sure), predictions(30)]
            arrays = {f"validation.{place}": array for place, array in enumerate(given)}
            arrays |= {f"test.{place}": np.full((30, 3), test, np.float32) for place in range(len(ARMS))}
            save_file(arrays, folder / "predictions.safetensors")

        return stages.store.write("worth-arms", f"{key}-{seed}", fill)

    return [write(seed, of_seed) for seed, of_seed in enumerate(right)]


def trial(stages: Stages, name: str, right: Sequence[int] = (), failed: Sequence[str] = (), **more: Any) -> Trial:
    """A trial whose rows the gates ``failed`` refuse; figures of the others are those of :func:`gate`."""
    gates: list[GateResult] = [gate(g.gate, False, 0.4) if g.gate in failed else g for g in passing()]
    return Trial(
        name=name,
        model={"kind": name},
        real=stages.real,
        generator=stages.model,
        audit=stages.with_audit(f"audit-{name}", gates).audit,
        measured=measured(stages, name, right, **more) if right else [],
    )


def table(stages: Stages, trials: Sequence[Trial], worth: ArtifactRef | None = None) -> tuple[Path, Comparison]:
    costs = [Cost(parameters=3, steps=150, evaluations_per_sample=1)] * len(trials)
    ref = compare("wine", trials, costs, worth, "balanced_accuracy", 2, stages.store, {})
    return stages.store.path(ref), load_comparison(ref, stages.store)


def order(stages: Stages, trials: Sequence[Trial]) -> list[str]:
    found = ranked(trials, [Cost()] * len(trials), "balanced_accuracy", stages.store)
    assert [entry.rank for entry in found.entries] == list(range(1, len(trials) + 1))
    assert [entry.name for entry in found.entries] == [one.name for one in found.trials]
    return [entry.name for entry in found.entries]


def worth_of(stages: Stages) -> ArtifactRef:
    record = WorthRecord(
        verdict="helps", sentence="Synthetic rows help.", metric="balanced_accuracy", seeds=2, generators=1
    )
    return stages.store.write("worth", "w", lambda folder: record.save(folder / WORTH_FILE))


def test_the_lift_is_that_of_the_best_arms_with_its_error_over_seeds(stages: Stages) -> None:
    found = lift_on_validation(stages.real, measured(stages, "a", [23, 26]), "balanced_accuracy", stages.store)
    assert (found.best_with, found.best_without) == ("synthetic", "real rows")
    assert found.by_seed == pytest.approx([0.1, 0.2], abs=0.02)
    assert found.mean == pytest.approx(np.mean(found.by_seed))
    assert found.standard_error == pytest.approx(np.std(found.by_seed, ddof=1) / np.sqrt(2), abs=1e-6)
    one = lift_on_validation(stages.real, measured(stages, "b", [23]), "balanced_accuracy", stages.store)
    assert one.standard_error is None


def test_predictions_for_test_rows_have_no_say(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither their values, which are poisoned here, nor the test rows, which are gone."""
    sound = [trial(stages, "vae", [23, 24]), trial(stages, "gan", [25, 26])]
    expected = ranked(sound, [Cost()] * 2, "balanced_accuracy", stages.store).entries
    poisoned = [
        one.model_copy(update={"measured": measured(stages, f"bad-{one.name}", right, test=float("nan"))})
        for one, right in zip(sound, ([23, 24], [25, 26]), strict=True)
    ]
    (stages.store.path(stages.real) / "test.parquet").unlink()
    assert ranked(poisoned, [Cost()] * 2, "balanced_accuracy", stages.store).entries == expected


def test_the_larger_lift_comes_first_and_of_equal_ones_the_smaller_log_loss(stages: Stages) -> None:
    too_sure, better = trial(stages, "vae", [22, 23], sure=0.95), trial(stages, "gan", [25, 26])
    as_good = trial(stages, "flow", [22, 23])
    assert order(stages, [too_sure, better, as_good]) == ["gan", "flow", "vae"]


def test_what_a_gate_refused_comes_last_but_for_what_failed(stages: Stages) -> None:
    failed = Trial(name="gan", model={}, real=stages.real, failure="The loss became nan.")
    worst = trial(stages, "iaf", failed=["coverage", "copying"])
    bad, good = trial(stages, "flow", failed=["coverage"]), trial(stages, "vae", [15, 16])
    assert order(stages, [failed, worst, bad, good]) == ["vae", "flow", "iaf", "gan"]
    _, found = table(stages, [failed, bad, good], worth_of(stages))
    assert found.winner == "vae"
    assert [entry.verdict for entry in found.entries] == ["passed", "refused", "failed"]
    assert found.refusals == ["flow: coverage was judged.", "gan: The loss became nan."]


def test_where_all_are_refused_nobody_wins(stages: Stages) -> None:
    _, found = table(stages, [trial(stages, "vae", failed=["joint"]), trial(stages, "gan", failed=["copying"])])
    assert (found.winner, found.worth) == (None, None)
    assert "No model passes the gates" in as_markdown(found)


def test_a_difference_that_validation_rows_cannot_tell_is_said(stages: Stages) -> None:
    near, nearer = trial(stages, "vae", [22, 26]), trial(stages, "gan", [23, 26])
    _, found = table(stages, [near, nearer], worth_of(stages))
    assert "Validation rows hardly tell gan from vae" in found.notes[0]
    far = trial(stages, "flow", [29, 30])
    assert table(stages, [far, trial(stages, "iaf", [10, 11])], worth_of(stages))[1].notes == []


def test_the_same_artifacts_give_the_same_bytes_whatever_a_training_took(tmp_path: Path) -> None:
    contents, seconds = [], []
    for number in range(2):
        real: dict[str, list[Any]] = {"train": [*CLASSES] * 4, "validation": HELD_OUT, "test": HELD_OUT}
        stages = write_stages(tmp_path / str(number), real=real)
        record = stages.store.path(stages.model) / "model.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "seconds": 1.5 + number}))
        trials = [trial(stages, "vae", [23, 24]), trial(stages, "gan", [25, 26])]
        folder, found = table(stages, trials, worth_of(stages))
        contents.append((folder.name, (folder / FILE).read_bytes()))
        seconds.append(found.entries[0].cost.training_seconds)
    assert contents[0] == contents[1]
    assert seconds == [1.5, 2.5]


def test_the_table_says_what_was_measured_and_leaves_the_rest_empty(stages: Stages) -> None:
    _, found = table(stages, [trial(stages, "vae", [23, 26]), trial(stages, "gan", failed=["copying"])], None)
    rows = table_rows(found.model_copy(update={"worth": None, "winner": None}))
    assert [*rows[0]] == [*COLUMNS]
    assert rows[0]["lift on validation"] == "+15.0 +- 5.0"
    warned = found.entries[0].model_copy(update={"warned_by": ["joint"]})
    assert table_rows(found.model_copy(update={"entries": [warned]}))[0]["gates"] == "passed, warned: joint"
    assert (rows[1]["gates"], rows[1]["lift on validation"]) == ("refused: copying", "not measured")
    assert (rows[1]["farther"], rows[1]["Fréchet / real"]) == ("40%", None)


def test_a_kind_has_its_defaults_or_what_the_run_file_gives_it() -> None:
    config = RunConfig.model_validate({"model": {"kind": "vae", "optimiser": {"learning_rate": 0.01}}})
    own = config.model
    assert own != MODELS["vae"]()
    assert chosen_models(config, ["flow_matching", "vae"]) == [MODELS["flow_matching"](), own]
    with pytest.raises(InputError, match=r"'vea' is no kind of model; did you mean 'vae'\?"):
        chosen_models(config, ["vea"])


def test_names_tell_models_of_one_kind_apart() -> None:
    models = [MODELS[kind]() for kind in ("vae", "flow_matching", "vae")]
    assert names_of(models) == ["vae-1", "flow_matching", "vae-2"]


@pytest.mark.parametrize(
    ("kinds", "changed", "said"),
    [
        (["vae"], {}, "two models at least"),
        (["vae", "vae"], {}, "there twice"),
        (["vae", "flow_matching"], {"worth": {"seeds": 0}}, r"worth\.seeds is 0"),
        (["vae", "flow_matching"], {"generate": {"operator": "posterior"}}, "'flow_matching' cannot be compared: "),
    ],
)
def test_what_cannot_be_compared_is_refused(kinds: list[str], changed: dict[str, Any], said: str) -> None:
    config = RunConfig.model_validate(changed)
    with pytest.raises(InputError, match=said):
        run_of_each(config, chosen_models(config, kinds))


def test_a_training_that_cannot_go_on_ends_no_comparison(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    def candidate(config: RunConfig, name: str, settings: dict[str, Any]) -> Trial:
        raise TrainingError("The loss became nan.")

    monkeypatch.setattr(candidates, "candidate", candidate)
    assert candidates.attempt(RunConfig(), "vae", stages.real).failure == "The loss became nan."


def test_models_train_side_by_side_elsewhere_while_one_at_a_time_computes_here(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing, most = [0], [0]
    both_wait = threading.Barrier(2, timeout=20)

    def compute() -> None:
        computing[0] += 1
        most[0] = max(most[0], computing[0])
        time.sleep(0.05)
        computing[0] -= 1

    def attempt(config: RunConfig, name: str, real: ArtifactRef) -> Trial:
        compute()
        with placement.WAITING.get()():
            both_wait.wait()
        compute()
        return Trial(name=name, model={}, real=real, failure="none")

    monkeypatch.setattr(flow, "attempt", attempt)
    config = RunConfig.model_validate({"placement": {"train": "train-stage/gpu"}})
    trials = flow.try_all([config, config], ["a", "b"], stages.real)
    assert [one.name for one in trials] == ["a", "b"]
    assert most == [1]


def test_a_turn_after_the_end_is_refused() -> None:
    turns = flow.Turns()
    turns.end()
    with pytest.raises(AugmentError, match="run it again"), turns.mine():
        pass
