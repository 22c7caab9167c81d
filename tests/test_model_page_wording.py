"""The page of models says which way a figure is to be read, and what it may be compared with."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from augment.config import MODELS

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # scripts that import each other by their plain names

import blessings  # noqa: E402
import likelihood  # noqa: E402
import likelihood_gate  # noqa: E402
import model_page  # noqa: E402
import worth_page  # noqa: E402
from _fault_rows import digits  # noqa: E402
from _likelihood_sections import beside_pythae, bounds, exact, known  # noqa: E402
from _measured_sections import scarce_classes  # noqa: E402

COPYING = {"gate": "copying", "value": 0.198, "limit": 0.105, "sentence": "19% are near copies (at most 11%)."}
JOINT = {"gate": "joint", "value": 0.2741, "limit": 0.2748, "sentence": "27% (at least 27%)."}


def audit(seed: int, *refused_by: dict[str, Any], kind: str = "vae_gan", data: str = "wine") -> dict[str, Any]:
    """A cell of the benchmark of whole runs."""
    verdict = "not blessed" if refused_by else "blessed"
    asked = {"data": data, "kind": kind, "seed": seed, "train_cpu_seconds": 60.0, "rest_cpu_seconds": 5.0}
    return asked | {"verdict": verdict, "refused_by": list(refused_by)}


def likelihood_row(case: str, settings: dict[str, Any], test_rows: int = 500) -> dict[str, Any]:
    """A row of the benchmark of likelihoods."""
    figures = {"exact": 80.0, "exact_standard_error": 0.5, "target": 81.0, "target_source": "a paper", "unit": "nats"}
    course = {"data": "bits", "minutes": 1.0, "epochs": 2.0, "device": "cpu", "rows": {"test": test_rows}}
    return {"case": case, "model": likelihood.CASES[case].kind, "settings": settings, **figures, **course}


def measured_rows(name: str) -> list[dict[str, Any]]:
    """What a benchmark kept, without what could not be measured."""
    rows = json.loads((model_page.RESULTS / f"{name}.json").read_text())["rows"]
    return [row for row in rows if "absent" not in row]


# What refuses


def test_a_gate_that_refused_several_seeds_is_counted_once_for_each_of_them() -> None:
    row = blessings.summarised([audit(0, COPYING), audit(1, JOINT, COPYING), audit(2), audit(3, COPYING)])
    assert [(gate["gate"], gate["seeds"]) for gate in row["refused_by"]] == [("copying", 3), ("joint", 1)]
    said = model_page.verdict(row, MODELS["vae_gan"], "vector")
    assert said == "yes with 1 of 4 seeds, else refused by copying in 3, joint in 1 (4 seeds, 65 s)"


def test_counting_leaves_the_cells_as_they_were_measured() -> None:
    cells = [audit(0, dict(COPYING)), audit(1, dict(COPYING))]
    blessings.summarised(cells)
    assert [cell["refused_by"] for cell in cells] == [[COPYING], [COPYING]]


def test_what_failed_is_said_by_the_gate_with_its_direction_and_not_by_its_first_figure() -> None:
    text = model_page.overview([blessings.summarised([audit(0, COPYING), audit(1)])])
    assert "- `vae_gan`, wine, copying: 19% are near copies (at most 11%).\n" in text
    assert "0.198" not in text
    assert "0.105" not in text


def test_a_figure_that_rounds_to_its_limit_is_said_unrounded() -> None:
    text = model_page.overview([blessings.summarised([audit(0, JOINT, kind="gan", data="digits")])])
    said = "27% (at least 27%). Not rounded, 0.2741 where 0.2748 is the limit."
    assert f"- `gan`, packaged example, joint: {said}\n" in text
    assert model_page.unrounded({**JOINT, "value": None}) == ""


def test_nothing_is_said_of_refusals_where_there_were_none() -> None:
    assert model_page.REFUSALS.strip() not in model_page.overview([blessings.summarised([audit(0)])])


# Drawing


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_model_that_draws_one_value_after_the_other_is_not_said_to_take_one_evaluation_at_once(
    kind: str, tmp_path: Path
) -> None:
    config = MODELS[kind]
    in_order = config().drawing_order() is not None
    said = f"{config.evaluations_per_sample}{', value by value' if in_order else ''}"
    assert f"- **net evaluations a row** {said}\n" in model_page.section(kind, config, tmp_path)
    line = next(line for line in model_page.overview([]).splitlines() if line.startswith(f"| [`{kind}`]"))
    assert f" | {said} | " in line


def test_models_that_know_a_likelihood_value_by_value_are_those_that_draw_so() -> None:
    one_by_one = {kind for kind, config in MODELS.items() if "value by value" in model_page.evaluations(config)}
    assert one_by_one == {kind for kind, config in MODELS.items() if config.likelihood == "exact"}


# Likelihoods


def test_two_trainings_of_a_kind_on_the_same_data_are_told_apart_by_settings_and_test_rows() -> None:
    small, large = (
        likelihood_row("vae dynamic", {"width": width, "prior": "standard"}, rows)
        for width, rows in ((16, 500), (64, 4000))
    )
    lines = bounds([small, large]).splitlines()[-2:]
    assert [line.split(" | ")[1] for line in lines] == [
        "`width: 16, prior: standard`",
        "`width: 64, prior: standard`",
    ]
    assert [line.split(" | ")[6] for line in lines] == ["500", "4,000"]


def test_a_case_is_named_by_the_kind_that_a_run_file_has_for_it() -> None:
    case = "gated_pixelcnn++ cifar10-jpeg"
    line = bounds([likelihood_row(case, likelihood.PLUS_PLUS)]).splitlines()[-1]
    assert line.startswith("| `gated_pixelcnn` | `head: logistics, scales: 3` | ")


def test_of_a_group_of_settings_what_is_not_the_model_s_own_is_shown() -> None:
    own = MODELS["pixelcnn"]().optimiser  # type: ignore[attr-defined]
    assert (own.learning_rate, own.betas) == (2e-3, (0.9, 0.99))
    line = bounds([likelihood_row("pixelcnn static", {"optimiser": {"betas": [0.9, 0.99]}})]).splitlines()[-1]
    assert "| `optimiser: {learning_rate: 0.001}` |" in line  # of all groups' defaults, which a cell leaves out


def test_every_setting_of_the_table_is_one_that_the_model_takes() -> None:
    there = measured_rows("likelihood")
    lines = bounds(there).splitlines()[-len(there) :]
    for row, line in zip(there, lines, strict=True):
        kind, told = line.removeprefix("| ").split(" | ")[:2]
        assert kind == f"`{row['model']}`"
        names = re.findall(r"(\w+): ", re.sub(r"\{.*?\}", "", told))
        assert names
        assert set(names) <= set(MODELS[row["model"]].model_fields)


def test_tables_beside_the_exact_likelihood_have_headings_of_their_own() -> None:
    found = model_page.results()
    told = {
        "### Drawing value by value": exact(found["digits_likelihood"]["rows"], found["sampling"]["rows"]),
        "### At equal minutes beside pythae": beside_pythae(found["likelihood_beside_pythae"]),
        "### What a likelihood finds beside the gates": known(found["likelihood_gate"]["rows"]),
    }
    for heading, text in told.items():
        assert f"{heading}\n\n" in text
        assert re.search(r"^\| ", text.partition(heading)[2], re.MULTILINE)


def test_rows_from_files_are_as_many_as_the_plan_wants_so_that_rejected_ones_are_missing() -> None:
    assert digits().wanted == likelihood_gate.DRAWN
    text = known(model_page.results()["likelihood_gate"]["rows"])
    assert "as many of each class as the plan wants and none to spare" in text


# Worth


def test_what_is_said_of_a_policy_that_was_searched_for_is_what_worth_measured() -> None:
    found = {row["data"]: row for row in worth_page.chosen(measured_rows("worth"))}
    for data in ("mnist", "fashion-mnist"):
        row = found[f"{data}, 5 rows"]
        assert row["verdict"] == "no clear difference"
        assert 2 * row["refused"] > row["seeds"]
    text = scarce_classes(model_page.results()["scarce_images"]["rows"])
    assert "no clear difference is left at five rows of these data" in " ".join(text.split())
    assert "](worth.md)" in text


def test_a_link_to_a_part_of_the_page_leads_to_a_heading_of_it() -> None:
    text = model_page.page(model_page.results())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    targets = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert "quality-and-cost-at-equal-cpu-minutes" in targets
    assert targets <= anchors
