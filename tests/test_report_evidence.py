"""What the page shows of the evidence that gates keep: nearest pairs, associations, a map; and how it is laid out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _reports import (
    DETAILS,
    IMAGE_COUNTS,
    IMAGE_SCHEMA,
    MEGABYTE,
    TABLE_COUNTS,
    TABLE_SCHEMA,
    Page,
    assert_nothing_from_outside,
    audited,
    images,
    named,
    pair,
    report,
    rows,
    section_of,
    worth,
    write_version,
)  # fmt: skip

import augment.report

NUMBER = 'quote " & <b>bold</b>'  # a column
CSS = Path(augment.report.__file__).parent / "templates" / "page.css"
TEXT_ON = {
    "ink": ("bg", "card", "soft", "good-soft", "bad-soft"),
    "muted": ("bg", "card", "soft"),
    "real": ("card",),
    "synthetic": ("card",),
    "good": ("card", "good-soft"),
    "bad": ("card", "bad-soft"),
    "warn": ("card", "warn-soft"),
}


@pytest.fixture
def version(tmp_path: Path) -> Path:
    write_version(tmp_path, named(rows(30, 10, 0), "real"), named(rows(5, 25, 1), "syn"), rows(12, 12, 2))
    return tmp_path


def page(version: Path, **changed: Any) -> str:
    return report(version, TABLE_SCHEMA, TABLE_COUNTS, audit_metrics_path=audited(version, **DETAILS), **changed)


def test_nearest_pairs_show_both_rows_with_their_ids_and_distances(version: Path) -> None:
    section = section_of(page(version), "pairs")
    lines = re.findall(r"<tr class=.*?</tr>", section, re.DOTALL)
    assert ["<code>syn-7</code>" in lines[0], "<code>real-33</code>" in lines[1]] == [True, True]
    assert ">0.125</td>" in lines[0]
    assert ">2.5</td>" in lines[0]
    real = pq.read_table(version / "data/real/train-00000.parquet").slice(33, 1).to_pylist()[0]
    assert f"<td>{real[NUMBER]}</td>" in lines[1]
    assert "1 of 3 are nearer to the training row" in section


def test_pairs_whose_rows_are_not_to_be_had_are_named_all_the_same(version: Path) -> None:
    section = section_of(page(version), "pairs")
    assert "syn-gone</code> (not published)" in section
    assert "row 12345" in section


def test_a_rejected_row_is_shown_from_the_rejects(version: Path) -> None:
    rejects = named(rows(1, 0, 9), "x").set_column(6, "sample_id", pa.array(["syn-gone"]))
    path = version / "rejects.parquet"
    pq.write_table(rejects.append_column("reject_reason", pa.array(["odd"])), path)
    section = section_of(page(version, rejects_path=path), "pairs")
    line = next(line for line in re.findall(r"<tr class=.*?</tr>", section, re.DOTALL) if "syn-gone" in line)
    assert f"<td>{rejects.to_pylist()[0][NUMBER]}</td>" in line


def test_pairs_of_images_stand_side_by_side_and_say_what_they_are(tmp_path: Path) -> None:
    write_version(tmp_path, named(images(6, 0), "real"), named(images(4, 1), "syn"), images(3, 2))
    audit = audited(tmp_path, copying={"nearest_pairs": [pair(7, "syn-5", 0.5, "cat")]})
    text = report(tmp_path, IMAGE_SCHEMA, IMAGE_COUNTS, audit_metrics_path=audit)
    section = section_of(text, "pairs")
    assert re.findall(r'alt="(.*?)"', section) == ["synthetic row syn-5", "real row real-7"]
    assert "<table" not in section
    assert 'class="sides"' not in section_of(text, "compare")


def test_rows_of_tables_stand_under_each_other_by_class(version: Path) -> None:
    section = section_of(page(version), "compare")
    assert section.count('<tr class="real">') == 2 * 3
    assert section.count('<tr class="synthetic">') == 2 * 3
    assert "note" not in section


def test_associations_are_drawn_most_changed_first_the_rest_folded_away(version: Path) -> None:
    section = section_of(page(version), "features")
    shown, rest = section.split("The other pairs", 1)
    assert shown.count('data-label="Change"') == 12
    assert rest.count('data-label="Change"') == 2
    assert "\u22120.25</td>" in shown
    assert shown.count("inside the classes</span>") == 1
    assert "an AUC of 0.62 (" in shown
    assert "<script" not in section


def test_what_the_gate_measured_besides_is_drawn_and_its_limits_are_listed(version: Path) -> None:
    section = section_of(page(version), "features")
    besides = section[section.index("measured besides") : section.index("<details>")]
    assert re.findall(r'class="title">(.*?)<', besides) == ["blur"]
    assert '<td class="n short">0.4</td><td class="n">0.3</td>' in section


def test_the_map_has_a_dot_for_each_row_within_its_frame(version: Path) -> None:
    section = section_of(page(version), "map")
    whole = section[section.index("<defs>") : section.index("</figure>")]
    dots = re.findall(r"M([\d.]+),([\d.]+)h0", whole.split("</defs>")[1])
    assert len(dots) == 5
    assert all(0 <= float(value) <= 200 for dot in dots for value in dot)
    assert "4 real rows and 1 synthetic row in two" in section
    assert section.count('href="#everything"') == 2
    assert "75\u202f% of the variance" in section


def test_sections_come_in_the_order_of_their_weight_and_are_all_in_the_index(version: Path) -> None:
    text = page(version, worth=worth())
    order = ["worth", "compare", "pairs", "classes", "rejects", "features", "map", "learning", "training", "gates"]
    assert re.findall(r'<section id="(\w+)">', text) == [*order, "lineage", "use"]
    assert re.findall(r'<a href="#(\w+)">', text)[: len(order) + 2] == [*order, "lineage", "use"]


def test_the_whole_page_is_small_named_and_from_nowhere_else(version: Path) -> None:
    text = page(version, worth=worth())
    assert_nothing_from_outside(text)
    assert "http://" not in text
    assert "https://" not in text
    assert len(text.encode()) < 5 * MEGABYTE
    tags = Page(text).tags
    assert text.count("<table") == text.count("<caption")
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(attributes.get("aria-label") for _, attributes in tags if attributes.get("role") in ("img", "region"))
    scrolled = [attributes for tag, attributes in tags if "scroll" in (attributes.get("class") or "").split()]
    assert scrolled
    assert all(attributes.get("tabindex") == "0" for attributes in scrolled)


def test_the_page_is_the_same_bytes_each_time(version: Path) -> None:
    assert page(version, worth=worth()) == page(version, worth=worth())


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast_enough_in_both_schemes(scheme: int) -> None:
    root = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", root))
    for text, backgrounds in TEXT_ON.items():
        for background in backgrounds:
            first, second = sorted((luminance(colours[name]) for name in (text, background)), reverse=True)
            assert (first + 0.05) / (second + 0.05) >= 4.5, (text, background)  # WCAG 2.2, AA


def luminance(colour: str) -> float:
    """The relative luminance of sRGB, as WCAG has it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
