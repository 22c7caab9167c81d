"""Regression: the figures of a version beside those of the version that readers have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _small_store import Stages, gate, passing, publish_another, write_stages

from augment.checks.regression import compare_with_last
from augment.gates import GateResult
from augment.versions import rollback


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return write_stages(tmp_path / "store")


def with_figures(stages: Stages, key: str, **values: float | None) -> Stages:
    """An audit with these figures; the limit of every gate is 1."""
    found = [gate(g.gate, value=values[g.gate]) if g.gate in values else g for g in passing()]
    return stages.with_audit(key, found)


def regression(path: str) -> GateResult:
    """The gate as the manifest of a version has it."""
    gates = json.loads((Path(path) / "MANIFEST.json").read_text())["gates"]
    return GateResult.model_validate(next(g for g in gates if g["gate"] == "regression"))


def test_the_first_version_has_nothing_to_be_compared_with(stages: Stages) -> None:
    published = stages.publish()
    result = regression(published.path)
    assert (result.passed, result.sentence) == (None, "There is no version before this one to compare with.")


def test_a_figure_that_is_a_tenth_worse_is_warned_of_and_published(stages: Stages) -> None:
    first = with_figures(stages, "one", marginals=0.1, sample_quality=1.0).publish(run_id="one")
    second = with_figures(stages, "two", marginals=0.3, sample_quality=0.99).publish(run_id="two")
    result = regression(second.path)
    assert second.status == "published"
    assert (result.passed, result.severity, result.value) == (False, "warning", 0.2)
    assert result.sentence == f"More than 10% worse than in the last version {first.version}: marginals 0.3 after 0.1."
    assert result in second.gates
    assert result.sentence in (Path(second.path) / "README.md").read_text()
    written = json.loads((Path(second.path) / "report/gates.json").read_text())
    assert result.model_dump() in written


def test_each_figure_has_its_own_direction(stages: Stages) -> None:
    with_figures(stages, "one", marginals=0.5, sample_quality=0.5, consumer_smoke=0.0).publish(run_id="one")
    better = with_figures(stages, "two", marginals=0.1, sample_quality=1.0).publish(run_id="two")
    assert regression(better.path).passed is True
    worse = with_figures(stages, "three", marginals=0.1, sample_quality=0.7).publish(run_id="three")
    assert "sample_quality 0.7 after 1" in regression(worse.path).sentence


def test_next_to_nothing_may_double(stages: Stages) -> None:
    with_figures(stages, "one", marginals=0.01).publish(run_id="one")
    second = with_figures(stages, "two", marginals=0.02).publish(run_id="two")
    assert regression(second.path).passed is True


def test_it_is_the_version_that_readers_have_which_counts(stages: Stages) -> None:
    first = with_figures(stages, "one", marginals=0.9).publish(run_id="one")
    with_figures(stages, "two", marginals=0.1).publish(run_id="two")
    assert first.version is not None
    rollback(stages.store, "animals", first.version)
    third = with_figures(stages, "three", marginals=0.85).publish(run_id="three")
    assert regression(third.path).passed is True
    assert first.version in regression(third.path).sentence


def test_a_version_of_other_inputs_is_compared_and_said_to_be_one(stages: Stages) -> None:
    stages.publish()
    dataset = stages.store.root / "datasets/animals"
    lineage = {"source_fingerprint": "0" * 64, "split": {"test": 0.2}, "config": {"plan": {"kind": "multiply"}}}
    result = compare_with_last(dataset, passing(), lineage)
    assert result.passed is True
    assert result.sentence.endswith("That version had another source data and another plan.")


def test_an_altered_version_stops_nobody(stages: Stages) -> None:
    first = stages.publish()
    (Path(first.path) / "MANIFEST.json").write_text("{}")
    another = publish_another(stages, 1)
    result = compare_with_last(another.store.root / "datasets/animals", passing(), {})
    assert result.passed is True
    assert first.version is not None
    latest = json.loads((stages.store.root / "datasets/animals/_latest.json").read_text())["version"]
    (stages.store.root / "datasets/animals/versions" / latest / "MANIFEST.json").unlink()
    result = compare_with_last(stages.store.root / "datasets/animals", passing(), {})
    assert result.passed is None
    assert "cannot be read" in result.sentence


def test_a_version_without_figures_in_common_gives_no_verdict(stages: Stages) -> None:
    blank = [g.model_copy(update={"value": None}) for g in passing()]
    stages.with_audit("blank", blank).publish(run_id="one")
    second = with_figures(stages, "two", marginals=0.5).publish(run_id="two")
    assert regression(second.path).passed is None
