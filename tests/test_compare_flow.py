"""`augment compare` as a process of its own: the same table however often it is killed, and the winner published."""

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
train: {steps: 150, device: cpu, checkpoint_seconds: 0.2}
generate: {rounds: 6}
plan: {kind: multiply, factor: 1.2}
worth: {seeds: 2, gate: report}
"""
RUN += f"checks: {json.dumps(LENIENT)}\n"
MODELS = ("--models", "vae,flow_matching")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home and a run file that the tests of this file share."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "wine.yaml").write_text(RUN)
    return folder


def command(home: Path, store: Path, *more: str) -> list[str]:
    return augment("compare", home / "wine.yaml", *MODELS, "--json", "--store", store, *more)


def compared(home: Path, store: Path, *more: str, status: int = 0) -> dict[str, Any]:
    return answered(command(home, store, *more), home / "prefect", status)


@pytest.fixture(scope="module")
def unbroken(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store, and the comparison that was made in it at one go."""
    store = tmp_path_factory.mktemp("unbroken")
    return store, compared(home, store)


def test_the_best_on_validation_rows_alone_is_measured_on_test_rows(unbroken: tuple[Path, dict[str, Any]]) -> None:
    store, document = unbroken
    assert [entry["rank"] for entry in document["entries"]] == [1, 2]
    assert {entry["name"] for entry in document["entries"]} == {"vae", "flow_matching"}
    assert document["winner"] == document["entries"][0]["name"]
    lifts = [entry["validation"]["mean"] for entry in document["entries"]]
    assert lifts == sorted(lifts, reverse=True)
    assert document["worth"]["lift"]["interval"] is not None
    assert document["publication"] is None
    assert all(entry["cost"]["training_seconds"] > 0 for entry in document["entries"])
    assert len(list((store / "stages" / "train").glob("[!.]*"))) == 2
    assert len(list((store / "stages" / "worth").glob("[!.]*"))) == 1
    assert len(list((store / "stages" / "worth-search").glob("[!.]*"))) == 1, "what is of real rows alone is shared"
    assert len(list((store / "stages" / "worth-real").glob("[!.]*"))) == 2, "one a seed, for both models"
    assert not (store / "datasets").exists()


def test_the_winner_is_published_and_a_second_time_is_unchanged(
    home: Path, unbroken: tuple[Path, dict[str, Any]]
) -> None:
    store, document = unbroken
    first, second = (compared(home, store, "--publish") for _ in range(2))
    assert [d["publication"]["status"] for d in (first, second)] == ["published", "unchanged"]
    for again in (first, second):
        assert {**again, "publication": None} == document, "nothing was trained again"
    manifest = json.loads((Path(first["publication"]["path"]) / "MANIFEST.json").read_text())
    assert manifest["lineage"]["config"]["model"]["kind"] == document["winner"]
    assert manifest["worth"] == document["worth"]


@pytest.mark.parametrize(
    ("moment", "reached"),
    [
        ("while the first trains", lambda store: any(store.glob("stages/train/.work-*/checkpoints/step-*"))),
        ("while the first is measured", lambda store: any(store.glob("stages/worth-arms/[!.]*/arms.json"))),
        ("while the winner is", lambda store: any(store.glob("stages/worth-parts/[!.]*/sizes.json"))),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_killed_comparison_ends_in_the_same_table_when_it_is_made_again(
    moment: str, reached: Callable[[Path], bool], home: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    kill_when(command(home, store), home / "prefect", tmp_path / "log", moment, lambda: reached(store))
    assert table_of(compared(home, store)) == table_of(unbroken[1])


def test_where_every_model_is_refused_nothing_is_published_and_each_says_why(home: Path, tmp_path: Path) -> None:
    untrained = ["train.steps=1", "generate.rounds=0", "checks=[]"]
    settings = [argument for setting in untrained for argument in ("--set", setting)]
    document = compared(home, tmp_path, "--publish", *settings, status=3)
    assert (document["winner"], document["worth"], document["publication"]) == (None, None, None)
    assert all(entry["verdict"] == "refused" and entry["reasons"] for entry in document["entries"])
    assert all(entry["validation"] is None and entry["coverage"] is not None for entry in document["entries"])
    assert not list(tmp_path.glob("datasets/*/versions/*"))


def test_models_that_cannot_be_compared_are_one_sentence(home: Path, tmp_path: Path) -> None:
    error = compared(home, tmp_path, "--models", "vae", status=2)["error"]
    assert error["message"].startswith("a comparison needs two models at least; name them as in --models vae,")
