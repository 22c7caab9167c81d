"""The page of worth: models and arms are chosen on validation rows, and what is not measured is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # scripts that import each other by their plain names

import worth  # noqa: E402
import worth_page  # noqa: E402

ARMS = {"real": "without", "tuned": "without", "mixed": "with", "pure": "with"}


def cell(kind: str, seed: int, validation: dict[str, float], test: dict[str, float], refused: bool = False) -> Any:
    """A finished cell of digits, whose arms have these scores; those that are not named score 0.5."""
    arms = {
        arm: {
            "role": role,
            "validation": validation.get(arm, 0.5),
            "test": {"balanced_accuracy": test.get(arm, 0.5), "macro_f1": 0.5, "worst_recall": 0.5},
        }
        for arm, role in ARMS.items()
    }
    refused_by = ["coverage"] if refused else []
    return {
        "data": "digits, 2 rows", "kind": kind, "seed": seed, "settings": {}, "code": "x",
        "arms": arms, "refused_by": refused_by, "cpu_seconds": {"train": 1.0},
    }  # fmt: skip


@pytest.fixture
def cells() -> list[Any]:
    """Two models at three seeds: validation rows prefer ``vae`` with ``mixed``, test rows another model and arm."""
    found = []
    for seed, luck in enumerate((0.00, 0.01, 0.02)):
        without = {"real": 0.6, "tuned": 0.7 + luck}
        found.append(
            cell("vae", seed, without | {"mixed": 0.8}, {"tuned": 0.7, "real": 0.9, "mixed": 0.74 + luck, "pure": 0.9})
        )
        found.append(cell("gan", seed, without | {"pure": 0.75}, {"tuned": 0.7, "pure": 0.99}, refused=seed == 1))
    return found


@pytest.fixture
def rows(cells: list[Any]) -> list[Any]:
    return [worth.summarised([c for c in cells if c["kind"] == kind]) for kind in ("vae", "gan")]


def test_model_and_arms_are_chosen_on_validation_rows_and_the_lift_is_of_test_rows(rows: list[Any]) -> None:
    (best,) = worth_page.chosen(rows)
    assert (best["kind"], best["with"], best["without"]) == ("vae", "mixed", "tuned")
    assert best["lifts"] == pytest.approx([0.04, 0.05, 0.06])
    table = worth_page.best_table([best])
    assert "| digits, 2 | tuned: 70.0 | `vae`, mixed: 75.0 | 2 | +5.0 [+2.5, +7.5] |" in table
    assert table.count("helps") == 1


def test_a_model_of_few_seeds_is_not_the_best(rows: list[Any]) -> None:
    few = {**rows[0], "kind": "lucky", "seeds": 2}
    assert worth_page.chosen([few, {**rows[1], "seeds": 4}])[0]["kind"] == "lucky"
    assert worth_page.chosen([few, {**rows[1], "seeds": 5}])[0]["kind"] == "gan"


def test_p_values_are_adjusted_for_all_rows_and_equal_differences_are_no_error(rows: list[Any]) -> None:
    alone, twice = worth_page.adjusted(rows[:1]), worth_page.adjusted([rows[0], rows[0]])
    assert twice == pytest.approx([2 * alone[0]] * 2)
    assert worth_page.p_value([0.0, 0.0]) == 1
    assert worth_page.p_value([0.1, 0.1]) == 0


def test_rows_that_gates_refused_count_and_are_said(rows: list[Any]) -> None:
    assert "| 1 of 3: coverage |" in worth_page.every_table(rows)


def test_more_real_rows_are_learned_by_the_classifier_that_is_best_on_validation_rows(rows: list[Any]) -> None:
    scores = {"trees": (0.9, 0.912), "regression": (0.8, 0.999)}
    arms = {
        f"more real rows ({learner})": {"validation": {"mean": validation}, "test": {"mean": test}}
        for learner, (validation, test) in scores.items()
    }
    of_table = {**rows[0], "arms": rows[0]["arms"] | arms}
    assert worth_page.best_table(worth_page.chosen([of_table])).endswith("| 0 of 3 | 91.2 |\n")
    of_images = {**rows[0], "arms": rows[0]["arms"] | {"more real rows": arms["more real rows (trees)"]}}
    assert worth_page.best_table(worth_page.chosen([of_images])).endswith("| 0 of 3 | 91.2 |\n")
    assert worth_page.best_table(worth_page.chosen(rows)).endswith("| 0 of 3 |  |\n"), "not measured"


def test_how_often_one_model_alone_could_be_chosen_is_said(rows: list[Any]) -> None:
    alone = {**rows[0], "data": "mnist, 5 rows", "seeds": 8}
    few = {**rows[1], "data": "mnist, 5 rows"}
    best = worth_page.chosen([*rows, alone, few])
    assert [row["compared"] for row in best] == [2, 1]
    assert "In 1 of 2 cases one model alone had seeds enough to be compared." in worth_page.summary(best)
    assert "alone" not in worth_page.summary(worth_page.chosen(rows))


def test_the_summary_says_where_gates_refused_rows_that_help(rows: list[Any]) -> None:
    assert "Gates refused" not in worth_page.summary(worth_page.chosen(rows)), "they did not"
    helps = {**rows[0], "data": "german-credit, 5 rows", "refused": 2}
    harms = {**helps, "data": "adult, 100 rows", "verdict": "harms"}
    said = worth_page.summary(worth_page.chosen([helps, harms]))
    assert "Gates refused rows that help: German credit, 5 rows, with 2 of 3 seeds." in said


def test_data_sets_have_the_same_name_everywhere(rows: list[Any]) -> None:
    sure = {**rows[0], "data": "german-credit, 5 rows", "lifts": [0.05, 0.0501, 0.0502]}
    ended = [{"seed": 3, "why": "ran away"}]
    said = worth_page.page([{**sure, "stopped": ended}])
    assert "With p adjusted to 0.05 at most: German credit, 5 rows (" in said
    assert "german-credit" not in said


def test_a_training_that_stopped_itself_is_named_and_counts_in_no_mean(cells: list[Any]) -> None:
    vae = [c for c in cells if c["kind"] == "vae"]
    ended = {**{name: vae[0][name] for name in ("data", "kind", "settings", "code")}, "seed": 3, "absent": "ran away"}
    row = worth.summarised([*vae, ended])
    assert (row["seeds"], row["lift"]["mean"]) == (3, pytest.approx(0.05))
    said = worth_page.page([row, worth.summarised([{**ended, "kind": "gan"}])])
    assert "- digits, `vae`, 2 rows (seed 3): ran away" in said
    assert "- digits, `gan`, 2 rows (seed 3): ran away" in said


def test_runs_that_ended_for_the_same_reason_are_one_entry(rows: list[Any]) -> None:
    def ended(scarce: int, *whys: str) -> Any:
        stopped = [{"seed": seed, "why": why} for seed, why in enumerate(whys)]
        return {**rows[0], "data": f"digits, {scarce} rows", "stopped": stopped}

    first = "stopped at step 290 (step 285 is kept): it tells 99.0% from real ones"
    alike = "stopped at step 1390 (no checkpoint was saved before): it tells 98% from real ones"
    _, entries = worth_page.stopped([ended(10, alike), ended(2, first, alike, "no memory")])
    assert entries == f"- digits, `vae`, 2 rows (seeds 0, 1), 10 rows (seed 0): {first}\n" + (
        "- digits, `vae`, 2 rows (seed 2): no memory\n"
    )


def test_a_page_without_stopped_runs_or_seeds_to_compare_leaves_their_parts_out(cells: list[Any]) -> None:
    one = worth_page.page([worth.summarised(cells[:1])])
    assert "nothing is compared yet" in one
    for part in ("ended early", "verdict", "Every model", worth_page.PLOT_TEXT, "Of 0 cases"):
        assert part not in one, part
    two = worth_page.page([worth.summarised([c for c in cells if c["kind"] == "vae"][:2])])
    assert "Of 1 case: " in two
    assert "In 1 of 1 case one model alone" in two
    assert "ended early" not in two
    assert "nothing is compared yet" not in two


def test_how_many_seeds_of_each_model_are_measured_is_said(rows: list[Any]) -> None:
    said = worth_page.page(rows)
    assert "| `gan` | 3 0 0 0 0 | 0 0 |" in said
    assert "| `masked_mlp` |  |  |  | 0 0 0 |" in said, "it takes no images"
    assert "Seeds measured" in worth_page.page([])


def test_the_plot_has_a_panel_for_each_data_set(rows: list[Any], tmp_path: Path) -> None:
    worth_page.draw(worth_page.chosen(rows), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "worth.json").read_text())
    written = worth_page.page(measured["rows"])
    assert worth_page.PAGE.read_text() == written, "run python benchmarks/worth_page.py"
