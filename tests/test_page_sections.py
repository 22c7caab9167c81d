"""Sections of the page of models that have a benchmark of their own say what was measured, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

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


MACHINE = {"cpu": "a CPU", "cores": 2}
QUIET = {"kind": "vae", "side": 8, "code": "c", "busy": False, "usual_images_per_second": 1234.5}
BUSY = {"kind": "vae", "side": 8, "code": "d", "busy": True, "clock_images_per_second": 600.0}


def choices(*cells: dict[str, Any]) -> str:
    from _run_sections import step_choices as section
    from step_choices import summarised

    return section({"machine": MACHINE, "rows": [summarised([cell]) for cell in cells]})


def test_a_choice_whose_steps_took_too_long_says_so() -> None:
    ended = {"ended": "not 50 steps in 300 s"}
    late = choices({**QUIET, "compiled": None, "two_threads": 0.5, **ended}, {**BUSY, "two_threads": None, **ended})
    assert "| vae 8x8 | 1,234 | not 50 steps in 300 s | 0.50x | not 50 steps in 300 s |" in late
    assert choices({**QUIET, "absent": "not 50 steps in 300 s"}) == ""


def test_a_second_thread_stands_beside_what_it_does_where_others_keep_the_cores_busy() -> None:
    quiet, busy = {**QUIET, "compiled": 0.5, "two_threads": 1.25}, {**BUSY, "two_threads": 0.125}
    both = choices(busy, quiet)
    assert "| vae 8x8 | 1,234 | 0.50x | 1.25x | 0.12x |" in both
    assert "0.50 to 0.50 times as fast on a CPU" in both
    assert "a CPU with 2 cores" in both
    assert "| vae 8x8 | 1,234 | 0.50x | 1.25x |  |" in choices(quiet)
    assert choices(busy) == ""


def test_a_busy_figure_of_other_code_leaves_the_quiet_one_where_it_is(tmp_path: Path) -> None:
    from step_choices import cells_in

    cells = cells_in(tmp_path / "step_choices.json")
    for cell in (QUIET, BUSY):
        cells.fill({name: cell[name] for name in ("kind", "side", "busy", "code")}, lambda: {"two_threads": 1.0})
    assert [row["case"] for row in cells.document()["rows"]] == ["vae 8x8", "vae 8x8, cores busy"]


def test_processes_that_keep_the_cores_busy_end_with_the_block_even_when_it_fails() -> None:
    from step_choices import every_core_busy

    running = []

    def fail_beside_them() -> None:
        with every_core_busy() as others:
            running.extend(others)
            assert [other.poll() for other in others] == [None] * len(os.sched_getaffinity(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_them()
    assert running
    assert all(other.poll() is not None for other in running)
