"""Sections of the page of models that have a benchmark of their own say what was measured, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts that import each other by their plain names


def test_photos_stand_beside_their_floors_and_a_training_that_was_ended_says_so() -> None:
    from _measured_sections import photos

    figure = {"value": 0.5, "floor": 0.75}
    whole = {
        **dict.fromkeys(("coverage", "frechet", "label_agreement", "accuracy"), figure),
        "case": "vae", "minutes": 2.0, "steps": 1200, "drawn_rows_per_second": 5.0, "train_rows": 90, "device": "cpu",
        "model": {"width": 96}, "curve": [{"minutes": 0.5, "frechet": 4.0}, {"minutes": 2.0, "frechet": 1.25}],
    }  # fmt: skip
    ended = {"case": "gan", "absent": "the time was over", "curve": [{"frechet": 3.125, "minutes": 1.5}]}
    said = photos({"rows": [whole, ended, {"case": "flow", "absent": "no data"}], "note": "Alone."})
    assert "| `vae` | 2.0 min, 1,200 steps | 0.50 [0.75] |" in said
    assert "| `gan` | ended early: Fréchet 3.12 after 1.5 min" in said
    assert "- `vae`, `{width: 96}`: 0.5 min 4.00, 2.0 min 1.25\n" in said
    assert "flow" not in said
    assert "classifier score" not in said
    scored = photos({"rows": [whole | {"classifier_score": {"value": 6.5, "floor": 8.25}}, {**whole, "case": "old"}]})
    assert "| label agreement | classifier score | accuracy |" in scored
    assert "| 0.50 [0.75] | 6.50 [8.25] | 0.50 [0.75] |" in scored
    assert "| 0.50 [0.75] |  | 0.50 [0.75] |" in scored
    assert photos({"rows": [ended]}) == ""


def test_whole_runs_say_how_many_were_published_and_what_refused_the_others() -> None:
    from _run_sections import whole_runs as section
    from whole_runs import summarised

    refused = {"published": False, "refused_by": ["copying"], "worth": None, "minutes": 1.0, "cpu_minutes": 0.5}
    published = {"published": True, "refused_by": [], "worth": "helps", "minutes": 2.25, "cpu_minutes": 1.5}
    row = summarised([{"kind": "gan", "seed": seed, **found} for seed, found in enumerate((refused, published))])
    assert "| `gan` | 1 of 2 | copying | helps (1) | 2.2 | 1.0 ± 0.5 |" in section([row])
    ended = summarised([{"kind": "vae", "seed": 0, "absent": "the critic has run away"}])
    assert ended["ratio"] is None
    assert section([ended]) == ""


def test_a_choice_whose_steps_took_too_long_says_so() -> None:
    from _run_sections import step_choices as section

    row = {"kind": "vae", "side": 8, "case": "vae 8x8", "usual_images_per_second": 1234.5}
    late = {**row, "compiled": None, "two_threads": 0.5, "ended": "not 50 steps in 300 s"}
    assert "| vae 8x8 | 1,234 | not 50 steps in 300 s | 0.50x |  |" in section([late])
    assert section([{"case": "vae 8x8", "side": 8, "kind": "vae", "absent": "not 50 steps in 300 s"}]) == ""


def test_a_second_thread_stands_beside_what_it_does_where_others_keep_the_cores_busy() -> None:
    from _run_sections import step_choices as section
    from step_choices import summarised

    cell = {"kind": "vae", "side": 8, "code": "c"}
    quiet = {**cell, "busy": False, "usual_images_per_second": 1234.5, "compiled": 0.5, "two_threads": 1.25}
    busy = {**cell, "busy": True, "two_threads_busy": 0.125}
    row = summarised([busy, quiet])
    assert row["ratio"] == 0.5
    assert "| vae 8x8 | 1,234 | 0.50x | 1.25x | 0.12x |" in section([row])
    late = {**cell, "busy": True, "absent": "not 50 steps in 300 s"}
    assert "| vae 8x8 | 1,234 | 0.50x | 1.25x |  |" in section([summarised([late, quiet])])
    assert section([summarised([late])]) == section([summarised([busy])]) == ""
