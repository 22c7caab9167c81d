"""The page of models and the benchmarks that feed it: it lists what exists and says what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from augment._images import decode_image
from augment.config import MODELS
from augment.errors import InputError
from models._contract import Batch, ModelConfig

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # scripts that import each other by their plain names

import _cells  # noqa: E402
import families  # noqa: E402
import model_page  # noqa: E402
from _likelihood_sections import bounds, exact, known  # noqa: E402
from _measured_sections import scarce_classes  # noqa: E402
from _picture_grid import write_picture_grid  # noqa: E402

FIGURE = {"mean": 0.7321, "se": 0.0123, "floor": 0.9, "floor_se": None}
COST = {"mean": 12_345.6, "se": 1.0}
MEASURED: dict[str, Any] = {
    "machine": {"cpu": "a CPU"},
    "versions": {"torch": "2.0"},
    "rows": [
        {
            "data": "digits",
            "kind": "vae",
            "seeds": 3,
            "minutes": 0.75,
            **dict.fromkeys(families.FIGURES, FIGURE),
            **dict.fromkeys(families.COSTS, COST),
            "parameters": 128_017,
        },
        {"data": "wine", "kind": "vae", "seeds": 0, "absent": "takes images only"},
    ],
}
TIMES = {"train_cpu_seconds": {"mean": 60.0, "se": None}, "rest_cpu_seconds": {"mean": 5.2, "se": None}}
REFUSED = {"gate": "sample_quality", "value": 0.9812, "limit": 0.99, "sentence": "Too dark."}


def config_of(**changed: Any) -> type[ModelConfig]:
    """A model's settings with other class variables."""
    return type("Changed", (MODELS["vae"],), {"__module__": "models.vae", **changed})


# The page


def test_the_page_is_what_the_generator_writes() -> None:
    written = model_page.page(model_page.results())
    assert model_page.PAGE.read_text() == written, "run python benchmarks/model_page.py"


def test_the_page_has_every_model_that_exists_and_its_settings() -> None:
    text = model_page.PAGE.read_text()
    for kind, config in MODELS.items():
        assert f"| [`{kind}`](#{kind}) |" in text
        section = text.split(f"## {kind}\n")[1].split("\n## ")[0]
        assert config.paper in section
        for name in config.model_fields:
            assert name == "kind" or f"| `{name}` |" in section


def test_the_page_shows_what_synthetic_rows_add_to_each_classical_change_and_to_the_best() -> None:
    accuracy = {"shifts": 0.8, "shifts + synthetic": 0.83}
    difference = {"balanced_accuracy": {"mean": 0.03, "low": 0.011, "high": 0.049}}
    row = {
        "data": "mnist",
        "kind": "warp_vae",
        "seeds": 8,
        "test": {arm: {"balanced_accuracy": {"mean": value, "se": 0.01}} for arm, value in accuracy.items()},
        "differences": {"shifts + synthetic": difference},
        "best": {"without": "shifts", "with": "shifts + synthetic", **difference},
        "settings": {"synthetic": 300, "test": 4000},
    }
    text = scarce_classes([row, {"data": "fashion-mnist", "absent": "not there"}])
    assert "| shifts | 0.800 | 0.830 | +3.0 [+1.1, +4.9] |" in text
    assert "| *best: shifts; shifts + synthetic* | 0.800 | 0.830 | +3.0 [+1.1, +4.9] |" in text
    assert "with 300 rows of every class" in text
    assert scarce_classes([{"absent": "not there"}]) == ""


def test_the_page_shows_bounds_beside_published_figures_without_claiming_them() -> None:
    row = {
        "case": "vae static",
        "model": "vae",
        "settings": {},
        "rows": {"test": 4000},
        "data": "static bits",
        "iwae": 90.119,
        "iwae_standard_error": 0.94,
        "elbo": 92.5,
        "unit": "nats",
        "minutes": 10.2,
        "epochs": 19.7,
        "device": "CPU",
        "target": 89.78,
        "target_source": "a paper",
        "importance_samples": 500,
    }
    known = {**row, "case": "gated_pixelcnn++ static", "exact": 83.954, "exact_standard_error": 0.203}
    known |= {"model": "gated_pixelcnn", "settings": {"head": "logistics"}}
    del known["iwae"]
    text = bounds([row, known, {"absent": "no data"}])
    rest = "nats | 4,000 | 10 min, 19.7 epochs, CPU | 89.78 (a paper) |"
    assert f"| `vae` |  | static bits | 90.12 ± 0.94, at most | 92.50 | {rest}" in text
    assert f"| `gated_pixelcnn` | `head: logistics` | static bits | 83.95 ± 0.20 | exact | {rest}" in text
    assert "with 500 importance samples" in text
    assert "A short training is no claim" in text
    assert bounds([]) == ""


def test_the_page_shows_exact_likelihoods_and_what_drawing_by_them_costs() -> None:
    row = {
        "kind": "pixelcnn",
        "bits_per_dimension": {"mean": 1.7855, "se": 0.0042},
        "accuracy": {"mean": 0.975, "se": None},
        "parameters": 110_545,
        "steps": 2000,
        "train_cpu_seconds": {"mean": 99.6, "se": 1.0},
        "seeds": 3,
        "rows": {"train": 1000, "test": 797},
    }
    case = {
        "case": "28x28",
        "blocks": 15,
        "images_per_second": 47.41,
        "ratio": 489.6,
        "device": "cpu",
        "warmed_up": True,
    }
    text = exact([row, {"absent": "not there"}], [case])
    assert "favours the caches" not in text
    cold = exact([row], [case, case | {"device": "a GPU", "warmed_up": False}])
    assert "The first whole pass on a GPU" in cold
    assert "| `pixelcnn` | 1.786 ± 0.004 | 0.975 | 110,545 | 2,000 steps, 100 CPU s (3 seeds) |" in text
    assert "| 28x28, 15 blocks | cpu | 47 | 490x |  |" in text
    assert "of 797 held-out digits (8x8, 17 levels) after training on 1000 others" in text
    assert exact([row], []) == ""


def test_the_page_shows_what_a_likelihood_finds_beside_the_gates() -> None:
    row = {"case": "blur", "scorer": "pixelcnn", "draws": 2, "refused_by_gates": 2, "gates": ["coverage", "joint"]}
    row |= {"refused_by_likelihood": 1, "likelihood_alone": 0, "odd": [1.0, 0.25], "recognised": [0.5, 0.75]}
    clean = row | {"case": "clean", "refused_by_gates": 0, "gates": [], "refused_by_likelihood": 1}
    text = known([row, clean | {"likelihood_alone": 1}, {"absent": "not there"}])
    assert "| blur | 2 of 2: coverage, joint | 1 of 2 | 1.00 0.25 | 0.50 0.75 |" in text
    assert "| clean | 0 of 2 | 1 of 2 |" in text
    assert "by the check `likelihood` alone: clean." in text
    assert known([]) == ""


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/models.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_model_that_takes_one_form_alone_says_why(kind: str) -> None:
    config = MODELS[kind]
    assert (config.refuses != "") == (config.accepts != {"vector", "grid"})


def test_real_rows_stand_above_the_models_of_their_data() -> None:
    lines = model_page.comparison(MEASURED["rows"]).splitlines()
    assert len(lines) == 4  # headings, their rule, real rows, one model; what is absent has no line
    assert "*real rows* | 0.900 | 0.90 |" in lines[2]
    assert "`vae` | 0.732 ± 0.012 | 0.73 ± 0.01 |" in lines[3]
    assert lines[3].endswith("| 12,300 | 12,300 | 128,017 |")
    assert len({line.count("|") for line in lines}) == 1


def test_the_minutes_the_seeds_and_the_machine_are_said() -> None:
    here = [{"kind": kind, "data": "digits"} for kind in ("gan", "vae", "iaf_vae")]
    elsewhere = {"machine": {"cpu": "another CPU"}, "versions": {"torch": "3.0"}}
    said = model_page.measured_on({**MEASURED, "cells": [*here, {**here[0], "data": "wine", "measured_on": elsewhere}]})
    assert "digits 0.75 min, 3 seeds" in said
    assert "a CPU with torch 2.0 (`gan` of wine: another CPU with torch 3.0), with" in said
    assert model_page.measured_on({"rows": []}).startswith("Not measured yet")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "not measured"),
        ({"seeds": 3, "blessed": 3, "refused_by": [], **TIMES}, "yes (3 seeds, 65 s)"),
        (
            {"seeds": 1, "blessed": 0, "refused_by": [REFUSED], **TIMES},
            "refused by sample_quality (1 seed, 65 s)",
        ),
        (
            {"seeds": 3, "blessed": 2, "refused_by": [REFUSED], **TIMES},
            "yes with 2 of 3 seeds, else refused by sample_quality (3 seeds, 65 s)",
        ),
        ({"seeds": 0, "absent": "the loss is not finite"}, "fails: the loss is not finite"),
    ],
)
def test_the_verdict_names_the_gate_and_no_figure_of_it(row: dict[str, Any] | None, said: str) -> None:
    assert model_page.verdict(row, MODELS["vae"], "grid") == said


def test_a_form_that_a_model_does_not_take_is_no_failure(tmp_path: Path) -> None:
    images_only = config_of(accepts=frozenset({"grid"}), refuses="a table has no plane to bend")
    assert model_page.verdict(None, images_only, "vector") == "takes no tables"
    text = model_page.section("warp", images_only, tmp_path)
    assert "**takes** images alone: a table has no plane to bend" in text
    assert "pictures/" not in text


def test_pictures_that_are_there_are_shown(tmp_path: Path) -> None:
    (tmp_path / "vae-digits.png").write_bytes(b"")
    assert model_page.section("vae", MODELS["vae"], tmp_path).count("](pictures/vae-digits.png)") == 1


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert model_page.table(["p(x|y)"], [["a\nb"]]) == "| p(x\\|y) |\n| --- |\n| a b |\n"


# The cells of a benchmark


def cells_at(path: Path) -> _cells.Cells:
    return _cells.Cells(path, ("data", "kind", "seed"), ("code",), lambda cells: {"seeds": len(cells)})


def test_a_finished_cell_is_kept_until_its_code_changes(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    asked = {"data": "digits", "kind": "vae", "seed": 0, "code": "a"}
    cells_at(path).fill(asked, lambda: {"value": 1})
    cells_at(path).fill(asked, lambda: pytest.fail("measured again"))
    cells_at(path).fill({**asked, "seed": 1}, lambda: {"value": 2})
    cells_at(path).fill({**asked, "code": "b"}, lambda: {"value": 3})
    kept = json.loads(path.read_text())
    assert [cell["value"] for cell in kept["cells"]] == [3, 2]
    assert kept["rows"] == [{"seeds": 1}]  # figures of different code are not put together
    assert set(kept) == {"machine", "versions", "rows", "cells"}


def test_cells_of_processes_that_ran_side_by_side_are_brought_together(tmp_path: Path) -> None:
    asked = {"data": "digits", "kind": "vae", "seed": 0, "code": "a"}
    cells_at(tmp_path / "one.json").fill(asked, lambda: {"value": 1})
    cells_at(tmp_path / "two.json").fill({**asked, "seed": 1}, lambda: {"value": 2})
    together = cells_at(tmp_path / "all.json")
    together.fill({**asked, "seed": 1}, lambda: {"value": 3})
    for name in ("one", "two"):
        together.take(tmp_path / f"{name}.json")
    kept = json.loads((tmp_path / "all.json").read_text())
    assert [cell["value"] for cell in kept["cells"]] == [1, 2]
    assert kept["rows"] == [{"seeds": 2}]


def test_a_model_that_breaks_or_refuses_costs_no_other_cell_and_is_tried_again(tmp_path: Path) -> None:
    def refuses() -> dict[str, Any]:
        raise InputError("these data are tables")

    def breaks() -> dict[str, Any]:
        raise RuntimeError("shapes differ")

    cells = cells_at(tmp_path / "cells.json")
    asked = {"data": "wine", "kind": "a", "seed": 0, "code": "a"}
    cells.fill(asked, refuses)
    cells.fill({**asked, "kind": "b"}, breaks)
    assert [cell["absent"] for cell in cells.cells] == ["these data are tables", "RuntimeError: shapes differ"]
    cells.fill(asked, lambda: {"value": 1})
    assert [cell.get("value") for cell in cells.cells] == [1, None]


def test_a_figure_that_older_code_did_not_measure_is_left_out_of_the_page_until_some_row_has_it() -> None:
    row = MEASURED["rows"][0]
    older = {name: value for name, value in row.items() if name != "classifier_score"}
    assert "classifier score" not in model_page.comparison([older])
    both = model_page.comparison([row, {**older, "kind": "gan"}])
    assert "| label agreement | classifier score | accuracy trained on them |" in both
    assert "| 0.732 ± 0.012 |  | 0.732 ± 0.012 |" in both
    known, unknown = {"value": 0.5, "floor": 0.75}, {name: {"value": 1.0, "floor": 1.0} for name in families.FIGURES}
    costs = dict.fromkeys(families.COSTS, 1.0)
    kept = ("minutes", "operator", "evaluations_per_sample", "parameters", "training_rows", "held_out_rows")
    cell = {"data": "wine", "kind": "vae", **unknown, **costs, **dict.fromkeys(kept, 1), "classifier_score": known}
    old_cell = {name: value for name, value in cell.items() if name != "classifier_score"}
    assert "classifier_score" not in families.summarised([old_cell])
    summary = families.summarised([old_cell, cell])
    assert (summary["classifier_score"]["mean"], summary["classifier_score"]["floor"]) == (0.5, 0.75)


def test_means_have_a_standard_error_from_two_values_on() -> None:
    assert _cells.mean_and_error([1.0, None, 3.0]) == {"mean": 2.0, "se": 1.0}
    assert _cells.mean_and_error([1.0]) == {"mean": 1.0, "se": None}
    assert _cells.mean_and_error([None]) == {"mean": None, "se": None}


def test_a_row_is_the_mean_of_its_seeds_and_its_ratio_is_coverage_over_the_floor() -> None:
    figures = {name: {"value": 0.6, "floor": 0.8} for name in families.FIGURES}
    costs = dict.fromkeys(families.COSTS, 10.0)
    kept = ("minutes", "operator", "evaluations_per_sample", "parameters", "training_rows", "held_out_rows")
    cell = {"data": "wine", "kind": "vae", **figures, **costs, **dict.fromkeys(kept, 1)}
    other = {**cell, "coverage": {"value": 0.4, "floor": 0.8}}
    row = families.summarised([cell, other])
    assert row["coverage"]["mean"] == pytest.approx(0.5)
    assert row["ratio"] == pytest.approx(0.5 / 0.8)
    assert families.summarised([{**cell, "absent": "no"}])["absent"] == "no"


def test_the_steps_that_fit_into_the_minutes_do_not_count_what_comes_before_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[int] = []

    def seconds_of(action: Any) -> tuple[float, None]:
        action()
        return 7.0 + 0.02 * trained[-1], None

    monkeypatch.setattr(families, "cpu_seconds", seconds_of)
    assert families.steps_within(2, trained.append) == pytest.approx(120 / 0.02, abs=1)
    assert trained[0] == 1  # what only the first training does is not in the slope


def test_a_picture_grid_has_a_row_for_each_class_with_real_images_on_the_left(tmp_path: Path) -> None:
    y = torch.tensor([0, 1, 1, -1])
    path = tmp_path / "deep" / "grid.png"
    write_picture_grid(path, Batch(-torch.ones(4, 1, 8, 8), y), Batch(torch.zeros(4, 1, 8, 8), y))
    pixels = decode_image(path.read_bytes(), "")
    assert pixels.shape == (2 * 26, 2 * 8 * 26 + 10)
    assert pixels[0, 0] == 0  # a real image of class 0
    assert pixels[0, 26] == 255  # and no second one
    assert pixels[26, 26] == 0
    assert pixels[0, 8 * 26 + 10] == 128
    again = path.read_bytes()
    write_picture_grid(path, Batch(-torch.ones(4, 1, 8, 8), y), Batch(torch.zeros(4, 1, 8, 8), y))
    assert path.read_bytes() == again
    write_picture_grid(path, Batch(torch.rand(4, 3, 40, 40), y), Batch(torch.zeros(4, 3, 40, 40), y))
    assert decode_image(path.read_bytes(), "").shape == (2 * 42, 2 * 8 * 42 + 10, 3)
