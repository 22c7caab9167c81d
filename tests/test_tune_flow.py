"""`augment tune` as a process of its own: the same table however often it is killed, test rows seen by one trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _processes import LENIENT, answered, augment, kill_when, table_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
RUN = """
name: wine
seed: 1
source: {kind: wine}
train: {steps: 100, device: cpu, checkpoint_seconds: 0.2}
generate: {rounds: 6}
plan: {kind: multiply, factor: 1.2}
worth: {seeds: 2, gate: report}
"""
RUN += f"checks: {json.dumps(LENIENT)}\n"
KEPT = ("generate.select", "generate.operator")
TRIALS = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home and a run file that the tests of this file share."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "wine.yaml").write_text(RUN)
    return folder


def command(home: Path, store: Path, *more: str) -> list[str]:
    keep = [word for name in KEPT for word in ("--keep", name)]
    return augment("tune", home / "wine.yaml", "--trials", TRIALS, *keep, "--json", "--store", store, *more)


def searched(home: Path, store: Path, *more: str, status: int = 0) -> dict[str, Any]:
    return answered(command(home, store, *more), home / "prefect", status)


@pytest.fixture(scope="module")
def unbroken(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store, and the search that was made in it at one go."""
    store = tmp_path_factory.mktemp("unbroken")
    return store, searched(home, store)


def test_the_run_files_settings_and_others_are_ranked_and_the_best_alone_is_measured_on_test_rows(
    unbroken: tuple[Path, dict[str, Any]],
) -> None:
    store, document = unbroken
    assert {entry["name"] for entry in document["entries"]} == {f"trial-{number}" for number in range(TRIALS)}
    by_name = {entry["name"]: entry for entry in document["entries"]}
    assert by_name["trial-0"]["settings"] == {}
    searched = set(document["searched"])
    assert {"model.beta", "plan.factor", "generate.temperature"} <= searched
    assert not any(key.startswith(KEPT) for key in searched)
    for number in range(1, TRIALS):
        entry = by_name[f"trial-{number}"]
        assert set(entry["settings"]) == searched
        assert entry["model"]["beta"] == entry["settings"]["model.beta"]
    lifts = [entry["validation"]["mean"] for entry in document["entries"]]
    assert lifts == sorted(lifts, reverse=True)
    assert document["winner"] == document["entries"][0]["name"]
    assert document["worth"]["lift"]["interval"] is not None
    assert len(list((store / "stages" / "train").glob("[!.]*"))) == TRIALS
    assert len(list((store / "stages" / "worth").glob("[!.]*"))) == 1
    assert not (store / "datasets").exists()


def test_the_command_that_it_ends_with_publishes_the_best_trial_and_trains_nothing(
    home: Path, unbroken: tuple[Path, dict[str, Any]]
) -> None:
    store, document = unbroken
    before = {path.name for stage in ("train", "worth") for path in (store / "stages" / stage).glob("[!.]*")}
    published = answered([*augment(*document["command"][1:]), "--json"], home / "prefect")
    assert published["status"] == "published"
    assert before == {path.name for stage in ("train", "worth") for path in (store / "stages" / stage).glob("[!.]*")}
    manifest = json.loads((Path(published["path"]) / "MANIFEST.json").read_text())
    assert manifest["worth"] == document["worth"]
    assert manifest["lineage"]["config"]["model"] == document["entries"][0]["model"]


@pytest.mark.parametrize(
    ("moment", "reached"),
    [
        ("in its second trial", lambda store: len(list(store.glob("stages/train/[!.]*"))) > 1),
        ("while the best is measured", lambda store: any(store.glob("stages/worth-parts/[!.]*/sizes.json"))),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_killed_search_ends_in_the_same_table_when_it_is_made_again(
    moment: str, reached: Callable[[Path], bool], home: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    kill_when(command(home, store), home / "prefect", tmp_path / "log", moment, lambda: reached(store))
    assert table_of(searched(home, store)) == table_of(unbroken[1])


def test_more_trials_go_on_from_those_that_were_made(home: Path, unbroken: tuple[Path, dict[str, Any]]) -> None:
    store, document = unbroken
    more = searched(home, store, "--trials", str(TRIALS + 1))
    settings = {entry["name"]: entry["settings"] for entry in more["entries"]}
    assert {entry["name"]: entry["settings"] for entry in document["entries"]}.items() <= settings.items()
    assert len(settings) == TRIALS + 1


def test_where_every_trial_is_refused_there_is_no_winner_and_each_says_why(home: Path, tmp_path: Path) -> None:
    untrained = ["train.steps=1", "generate.rounds=0", "checks=[]"]
    settings = [argument for setting in untrained for argument in ("--set", setting)]
    document = searched(home, tmp_path, *settings, "--trials", "2")
    assert (document["winner"], document["worth"], document["command"]) == (None, None, None)
    assert all(entry["verdict"] == "refused" and entry["reasons"] for entry in document["entries"])
    assert not (tmp_path / "stages" / "worth").exists()


def test_a_search_that_cannot_be_made_is_one_sentence_and_trains_nothing(home: Path, tmp_path: Path) -> None:
    error = searched(home, tmp_path, "--set", "split.validation=0", status=2)["error"]
    assert error["message"].startswith("no generators can be compared, because")
    assert not (tmp_path / "stages" / "train").exists()
