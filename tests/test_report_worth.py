"""What the page, the card and the summary of a run say of worth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from _reports import (
    HOSTILE,
    TABLE_COUNTS,
    TABLE_SCHEMA,
    arm,
    assert_nothing_from_outside,
    gate,
    report,
    section_of,
    worth,
    write_table,
)  # fmt: skip
from _small_store import TABLE, write_stages

from augment.gates import WORTH_NOT_MEASURED
from augment.publishing import Publication, RunContext
from augment.report import summary_markdown, worth_markdown
from augment.report.worth import worth_of
from augment.worth.record import WorthRecord
from flows import announcing


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("version"))


def page(version: Path, record: dict[str, Any] | None, **changed: Any) -> str:
    return report(version, TABLE_SCHEMA, TABLE_COUNTS, worth=record, **changed)


def test_the_verdict_is_said_first_with_the_lift_its_interval_and_the_unit_that_people_buy(version: Path) -> None:
    text = page(version, worth())
    main = text[text.index("<main") :]
    said = ("Blessed", "Synthetic rows help", "2.4 points higher", "+2.4", "+0.4 to +4.4", "+12", 'id="worth"')
    order = [main.index(part) for part in said]
    assert order == sorted(order)
    assert "of each scarce class, of which there are 10 (95\u202f%: +3 to +20)" in main


def test_the_forest_has_a_line_for_each_arm_with_the_line_of_no_lift(version: Path) -> None:
    record = worth()
    section = section_of(page(version, record), "worth")
    names = list(re.findall(r'role="rowheader">([^<]*?)(?: <span class="tag">[^<]*</span>)?</th>', section))
    assert set(names) == {arm["name"] for arm in record["arms"]}
    zeros = set(re.findall(r'class="zero" d="(M[\d.]+,0V28)"', section))
    assert section.count('class="zero"') == section.count('class="mark"') == len(record["arms"])
    assert len(zeros) == 1
    for title in ("Without synthetic rows", "Real and synthetic rows", "Synthetic rows alone", "More real rows"):
        assert title in section


def test_the_marks_of_the_forest_lie_where_the_lifts_are() -> None:
    found = worth_of(worth())
    assert found is not None
    assert found.forest is not None
    marks = {mark.name: mark for marks in found.forest.groups.values() for mark in marks}
    assert marks["real rows"].x == found.forest.zero
    assert marks["oversampling"].x < found.forest.zero < marks["synthetic"].x < marks["more real rows"].x
    for mark in marks.values():
        assert mark.ends is None or 0 <= mark.ends[0] <= mark.x <= mark.ends[1] <= 400
    places = {text: x for x, text in found.forest.ticks}
    assert places["0"] == found.forest.zero


def test_what_is_far_off_is_cut_off_and_says_so() -> None:
    found = worth_of(worth())
    assert found is not None
    assert found.forest is not None
    (alone,) = found.forest.groups["Synthetic rows alone"]
    assert alone.beyond == (True, False)
    assert alone.ends is not None
    assert alone.ends[0] == 0
    assert found.forest.zero > 100  # of 400: the others keep their place


def test_the_chosen_arms_and_the_basis_of_all_figures_are_told(version: Path) -> None:
    section = section_of(page(version, worth()), "worth")
    assert "best with synthetic rows</span>" in section
    assert "best without, the reference</span>" in section
    assert "chosen on validation rows, never on test rows" in section
    assert "balanced accuracy on 123 real test rows, the mean over 2 seeds and one trained generator" in section
    assert "The seeds share one trained generator." in section
    assert "<strong>+3.1</strong> points of macro F1" in section


def test_a_harm_is_said_loudly_everywhere(version: Path) -> None:
    record = worth("harms", -0.05)
    text = page(version, record, gates=[gate("lineage", True), gate("worth", False, severity="warning")])
    verdict = text[text.index('<section class="verdict') : text.index('<dl class="figures">')]
    assert '<h2 id="verdict">Blessed, but the synthetic rows harm</h2>' in verdict
    assert '<div class="worth-word bad">' in verdict
    assert "Synthetic rows harm" in verdict
    assert "Do not train with them." in verdict
    assert "\u26a0 Synthetic rows harm" in worth_markdown(record)


@pytest.mark.parametrize(
    ("record", "word", "text"),
    [
        (worth("no clear difference", 0.001), "No clear difference", "Neither a benefit nor a harm was found"),
        (worth("not measurable here"), "Not measurable here", "only a difference of 3.0 points or more"),
    ],
)
def test_what_is_not_known_is_not_claimed(version: Path, record: dict[str, Any], word: str, text: str) -> None:
    found = page(version, record)
    assert word in found
    assert text in found
    assert '<div class="worth-word plain">' in found


def test_worth_that_was_not_measured_says_why(version: Path) -> None:
    sentence = "Worth not measured, because there are no two classes to tell apart."
    record = WorthRecord(verdict=None, sentence=sentence, metric="macro_f1", seeds=0, generators=0).model_dump()
    text = page(version, record)
    assert "<h3>Worth not measured</h3>" in text
    assert sentence in text
    assert 'class="forest"' not in text
    assert 'id="learning"' not in text
    assert "Worth not measured" in worth_markdown(record)
    none = page(version, None)
    assert WORTH_NOT_MEASURED in none
    assert 'id="worth"' not in none


def test_one_seed_has_a_lift_and_no_interval(version: Path) -> None:
    alone = arm("synthetic", "with", 0.92, None)
    alone["lift"] = {"mean": 0.02, "low": None, "high": None, "p": None}
    record = worth("not measurable here", arms=[arm("real rows", "without", 0.9, None), alone], lift={"mean": 0.02})
    text = page(version, record)
    assert "One seed does not say how sure a difference is" in text
    assert "one seed has none" in text


def test_recalls_the_curve_and_the_search_are_drawn(version: Path) -> None:
    section = section_of(page(version, worth()), "learning")
    assert re.search(r'data-label="Change">\u22125\.0</td>', section)
    assert re.search(r'data-label="Change">\+10\.0</td>', section)
    assert section.count('class="dot with"') == 2
    assert '1 <span class="tag">scarce</span>' in section
    assert section.count("knot") == 3
    assert 'class="level"' in section
    assert "90\u202f% with 10 real rows of each scarce class" in section
    assert "shift, then gain <span" in section
    assert section.index("shift, then gain") < section.index("images as they are")
    assert "<details>" in section


def test_hostile_names_in_a_record_are_text(version: Path) -> None:
    record = worth(arms=[arm(HOSTILE, "with", 0.9, (0.0, -0.1, 0.1)), arm("real rows", "without", 0.9, None)])
    record |= {"notes": [HOSTILE], "best_with": HOSTILE, "recalls": {HOSTILE: {"with": 0.5, "without": 0.5}}}
    text = page(version, record)
    assert "<script" not in text
    assert_nothing_from_outside(text)
    assert "<script" not in worth_markdown(record)


def test_the_short_forms_have_the_arms_the_unit_and_the_notes() -> None:
    text = worth_markdown(worth())
    assert "**Synthetic rows help.**" in text
    assert "| **synthetic** | 92.4 | +2.4 | +0.4 to +4.4 |" in text
    assert "| **real rows** | 90.0 | reference | \u2013 |" in text
    assert "| oversampling | 88.0 | \u22122.0 | \u22123.0 to \u22121.0 |" in text
    assert "They do as much as 12 more real rows." in text
    assert "- The seeds share one trained generator." in text
    summary = summary_markdown("tiny", None, [gate("lineage", True)], TABLE_COUNTS, worth=worth())
    assert text.rstrip() in summary
    assert WORTH_NOT_MEASURED not in summary


def test_the_card_and_the_report_writer_are_given_the_record_of_the_run(tmp_path: Path) -> None:
    told: list[Any] = []

    def writer(folder: Path, **facts: Any) -> None:
        told.append(facts["worth"])
        (folder / "report" / "metrics.json").write_text("{}")

    context = RunContext(run_id="run-1", config={"name": "animals"}, seed=7, worth=worth())
    found = write_stages(tmp_path, TABLE).publish(report_writer=writer, context=context)
    assert told == [worth()]
    card = (Path(found.path) / "README.md").read_text()
    assert "## Worth\n\n**Synthetic rows help.**" in card
    assert "| oversampling | 88.0 |" in card
    order = [card.index(part) for part in ("real rows: **synthetic rows help**", "```python", "## Worth", "## Gates")]
    assert order == sorted(order)


def test_the_artifact_of_a_run_says_what_the_manifest_says(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"worth": worth("harms", -0.05)}))
    publication = Publication(
        status="refused", dataset="wine", version=None, path=str(tmp_path), verdict="not blessed", rows={}, gates=[],
        report=None, picture=None, seconds=1.0,
    )  # fmt: skip
    assert "Synthetic rows harm" in announcing.summary(publication, {})
