from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _judged_sets import Trial, replaced, table_rows
from _reports import (
    HOSTILE,
    IMAGE_COUNTS,
    IMAGE_SCHEMA,
    MEGABYTE,
    TABLE_COUNTS,
    TABLE_SCHEMA,
    Page,
    assert_nothing_from_outside,
    column,
    gate,
    images,
    report,
    rows,
    write_images,
    write_table,
    write_version,
)  # fmt: skip

from augment._images import encode_png
from augment.checks.posterior_predictive import PosteriorPredictive
from augment.critique import LATENTS_FILE, TRAVERSALS_FILE, Latent, LatentRecord
from augment.gates import NO_CHECK, WORTH_NOT_MEASURED, with_all_gates
from augment.report import gate_table_markdown, summary_markdown
from augment.report.distances import kolmogorov_smirnov, total_variation
from augment.report.markdown import escaped
from augment.report.sampling import sample_rows
from augment.report.training import training_curves
from augment.report.wording import number, percent
from augment.schema import IMAGE_TYPE, DatasetSchema


@pytest.fixture
def image_version(tmp_path: Path) -> Path:
    return write_images(tmp_path)


@pytest.fixture
def table_version(tmp_path: Path) -> Path:
    return write_table(tmp_path)


def test_the_page_refers_to_nothing_outside_itself(image_version: Path) -> None:
    assert_nothing_from_outside(report(image_version, IMAGE_SCHEMA, IMAGE_COUNTS))
    style = (image_version / "report" / "index.html").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_class_names_are_text(image_version: Path) -> None:
    text = report(image_version, IMAGE_SCHEMA, IMAGE_COUNTS, gates=[gate("lineage", True, HOSTILE)], dataset=HOSTILE)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_hostile_column_names_and_values_are_text(table_version: Path) -> None:
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS)
    assert "<script" not in text
    assert "<b>bold" not in text
    assert "quote &#34; &amp; &lt;b&gt;bold&lt;/b&gt;" in text


def test_every_class_has_a_row_with_its_counts(image_version: Path) -> None:
    text = report(image_version, IMAGE_SCHEMA, {"cat": {"real": 6, "requested": 1234, "synthetic": 4}})
    table = re.search(r'<table class="counts".*?</table>', text, re.DOTALL)
    assert table is not None
    for name in ("&lt;script&gt;", "cat", "dog"):
        assert name in table[0]
    assert "1,234" in table[0]
    assert "(fewer than requested)" in table[0]


def test_a_refusal_is_said_first_with_its_worst_reasons(table_version: Path) -> None:
    gates = [
        gate("marginals", False, "A warning.", severity="warning"),
        gate("structure", True, "Sound."),
        gate("class_plan", False, "Class 1 is missing."),
    ]
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, gates=gates, version=None)
    main = text[text.index("<main") :]
    order = [main.index(part) for part in ("Refused", "Class 1 is missing.", "A warning.", "Sound.")]
    assert order == sorted(order)
    assert "Critical checks failed: 1 of 2" in main
    assert "Blessed" not in main


def test_worth_that_was_not_measured_is_said_plainly(table_version: Path) -> None:
    assert WORTH_NOT_MEASURED in report(table_version, TABLE_SCHEMA, TABLE_COUNTS)
    measured = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, gates=[gate("worth", True, "It helps.")])
    assert WORTH_NOT_MEASURED not in measured
    assert "It helps." in measured


def test_gates_without_a_verdict_are_one_line_a_reason_and_count_for_nothing(table_version: Path) -> None:
    gates = with_all_gates([gate("lineage", True), gate("duplicates", True), gate("marginals", None, "Left out.")])
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, gates=gates)
    section = text[text.index('id="gates"') : text.index('id="lineage"')]
    assert section.count('role="rowheader"') == 2
    assert section.count(NO_CHECK) == 1
    assert "<dt>Marginals</dt><dd>Left out.</dd>" in section
    assert "Joint distribution, Coverage, Copying, Shortcut" in section
    assert "Critical checks passed: 2 of 2." in text
    assert "<dd>2 <small>of 2 judged</small></dd>" in text
    table = gate_table_markdown(gates)
    assert table.count("\n| ") == 2
    assert table.count("\n- ") == 3
    assert escaped(NO_CHECK) in table


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_rows(image_version: Path) -> None:
    names = ("index.html", "samples.png", "metrics.json")

    def made(seed: int) -> list[bytes]:
        report(image_version, IMAGE_SCHEMA, IMAGE_COUNTS, seed=seed)
        return [(image_version / "report" / name).read_bytes() for name in names]

    first = made(4)
    assert made(4) == first
    assert made(5)[1] != first[1]


def test_a_shifted_column_is_far_and_comes_first(table_version: Path) -> None:
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS)
    figures = json.loads((table_version / "report" / "metrics.json").read_text())["columns"]
    acidity = next(f for f in figures if f["column"] == "acidity")
    assert acidity["value"] > 0.7
    assert acidity["held_out"] < 0.5
    assert set(acidity["by_class"]) == {"0", "1"}
    titles = re.findall(r'class="title">([^<]*)<', text)
    assert titles[0] == "acidity"
    assert len(titles) == 4, "the ignored column and the label are not drawn"


def test_missing_values_are_shown_as_shares(table_version: Path) -> None:
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS)
    missing = pq.read_table(table_version / "data/real/train-00000.parquet")["acidity"].null_count / 40
    assert f"missing: {percent(missing)} real" in text


def test_a_version_without_synthetic_rows_has_a_report(image_version: Path) -> None:
    write_version(image_version, images(6, 0), images(0, 1), images(3, 2))
    text = report(image_version, IMAGE_SCHEMA, {"cat": {"real": 6, "requested": 0, "synthetic": 0}})
    assert "0 synthetic rows" in text
    assert "no rows" in text
    figures = json.loads((image_version / "report" / "metrics.json").read_text())["columns"]
    assert [f["value"] for f in figures] == [None] * 3


def test_a_table_without_a_label_has_a_report(table_version: Path) -> None:
    schema = DatasetSchema(columns=TABLE_SCHEMA.columns[:4], label=None, classes=())
    text = report(table_version, schema, {"": {"real": 40, "requested": 30, "synthetic": 30}})
    assert "all rows" in text
    assert "acidity" in text
    figures = json.loads((table_version / "report" / "metrics.json").read_text())["columns"]
    assert all(f["value"] is not None for f in figures)


def test_refused_data_that_break_every_promise_still_have_a_report(tmp_path: Path) -> None:
    broken = pa.table(
        {
            "image": pa.array([{"bytes": b"not an image", "path": None}, None], IMAGE_TYPE),
            "label": pa.array(["nobody knows", None], pa.string()),
        }
    )
    write_version(tmp_path, images(2, 0), broken, images(0, 1))
    assert "cat" in report(tmp_path, IMAGE_SCHEMA, IMAGE_COUNTS)

    wrong = rows(3, 3, 0).drop_columns(["organic"]).set_column(0, "acidity", pa.array(["x", "1", "", "y", "z", "w"]))
    write_version(tmp_path, rows(3, 3, 1), wrong, rows(3, 3, 2))
    assert "acidity" in report(tmp_path, TABLE_SCHEMA, TABLE_COUNTS)
    infinite = rows(3, 3, 0).set_column(0, "acidity", pa.array([np.nan, np.inf, -np.inf, 0.0, 1.0, 2.0]))
    write_version(tmp_path, rows(3, 3, 1), infinite, rows(3, 3, 2))
    assert "acidity" in report(tmp_path, TABLE_SCHEMA, TABLE_COUNTS)


def test_rejects_are_counted_by_reason_with_examples(table_version: Path) -> None:
    rejects = rows(9, 0, 5).append_column("reject_reason", pa.array([f"too {HOSTILE}"] * 6 + ["a copy"] * 3))
    path = table_version / "rejects.parquet"
    pq.write_table(rejects, path)
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, rejects_path=path)
    section = text[text.index('id="rejects"') : text.index('id="training"')]
    assert "9 synthetic rows" in section
    assert "6 rows, 66.7" in section
    assert "3 rows, 33.3" in section
    assert section.count('class="examples"') == 2
    assert "<script" not in section


def test_data_with_a_column_called_reason_have_their_rejects_shown(table_version: Path) -> None:
    rejects = rows(4, 0, 5).append_column("reason", pa.array(["theirs"] * 4))
    pq.write_table(rejects.append_column("reject_reason", pa.array(["ours"] * 4)), table_version / "rejects.parquet")
    schema = TABLE_SCHEMA.model_copy(
        update={"columns": (*TABLE_SCHEMA.columns, column("reason", "categorical", "string"))}
    )
    text = report(table_version, schema, TABLE_COUNTS, rejects_path=table_version / "rejects.parquet")
    assert "ours <small>4 rows" in text
    assert "<td>theirs</td>" in text


def test_the_training_curve_draws_losses_and_passes_over_a_cut_line(table_version: Path) -> None:
    path = table_version / "metrics.jsonl"
    lines = [json.dumps({"step": s, "seconds": 1.0, "loss": 100.4 - s, "active_units": 3}) for s in range(0, 50, 10)]
    path.write_text("\n".join([*lines, '{"step": 60, "lo']))
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, metrics_path=path)
    assert "loss: 100 to 60.4" in text
    assert "step 40" in text
    assert "active_units" not in text
    assert "Gradient norms" not in text


def test_each_sort_of_training_figure_is_drawn_on_axes_of_its_own(table_version: Path) -> None:
    path = table_version / "metrics.jsonl"
    usual = {"critic.loss": 1.4, "critic.accuracy_real": 0.75, "critic.gradient_norm": 250.0, "generator.loss": 0.7}
    spots = {40: {"coverage": 0.25, "coverage_of_real": 0.875, "near_copies": 0.0}}
    spots[80] = {**spots[40], "coverage": 0.75, "near_copies": 0.125}
    lines = [{"step": s, "seconds": 1.0, **usual, **spots.get(s, {})} for s in range(10, 91, 10)]
    path.write_text("\n".join(map(json.dumps, lines)))
    losses, rows_drawn, told, norms = training_curves(path)
    assert [line.name for line in losses.lines] == ["critic.loss", "generator.loss"]
    assert [(line.name, line.first, line.last) for line in rows_drawn.lines] == [
        ("coverage", "0.25", "0.75"), ("coverage of real", "0.875", "0.875"), ("near copies", "0", "0.125"),
    ]  # fmt: skip
    assert rows_drawn.lines[0].path == "M284.4,70L568.9,26"  # of an axis from 0 at 92 to 1 at 4, up to step 90
    assert (told.low, told.high, norms.high) == ("0", "1", "250")
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, metrics_path=path)
    for title in ("Losses", "Rows drawn in training", "What a critic tells apart", "Gradient norms"):
        assert f"<h3>{title}</h3>" in text
    found = json.loads((table_version / "report/metrics.json").read_text())
    assert found["last_spot_check"] == {"step": 80, **spots[80]}


def test_no_figure_of_a_training_is_left_out_however_many_there_are(table_version: Path) -> None:
    path = table_version / "metrics.jsonl"
    told = ("accuracy_real", "accuracy_synthetic", "told")
    figures = [f"{critic}.{name}" for critic in ("critic", "code_critic") for name in told]
    figures += [f"generator.loss_{part}" for part in "abcdefg"]
    path.write_text("\n".join(json.dumps({"step": s, **dict.fromkeys(figures, 0.5)}) for s in (10, 20)))
    curves = training_curves(path)
    assert {line.name for curve in curves for line in curve.lines} == {name.replace("_", " ") for name in figures}
    assert [(curve.title, len(curve.lines)) for curve in curves] == [
        ("Losses", 5), ("Losses, continued", 2),
        ("What a critic tells apart: critic", 3), ("What a critic tells apart: code critic", 3),
    ]  # fmt: skip
    assert [bool(curve.note) for curve in curves] == [False, False, False, True]


def test_lineage_and_the_run_file_are_on_the_page(table_version: Path) -> None:
    lineage = {"code_commit": "abc", "source": {"rows": 1797}, "artifacts": [{"stage": "real", "sha256": "f" * 64}]}
    config = {"name": "tiny", "split": {"train_per_class": {"1": 10}}, "path": Path("/a/b")}
    text = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, lineage=lineage, config=config)
    for part in ("abc", "1,797", "f" * 64, "augment run run.yaml", "train_per_class:", "&#39;1&#39;: 10", "path: /a/b"):
        assert part in text, part


def test_pages_and_posters_stay_small_with_many_classes_of_large_images(tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(120)]
    rng = np.random.default_rng(0)
    values = [
        {"bytes": encode_png(rng.integers(0, 256, (150, 150, 3), dtype=np.uint8)), "path": None} for _ in range(8)
    ]
    table = pa.table(
        {"image": pa.array([values[i % 8] for i in range(480)], IMAGE_TYPE), "label": pa.array(sorted(names * 4))}
    )
    write_version(tmp_path, table, table, table.slice(0, 0))
    schema = IMAGE_SCHEMA.model_copy(update={"classes": tuple(sorted(names))})
    text = report(tmp_path, schema, {})
    assert len(text) < 5 * MEGABYTE
    assert (tmp_path / "report" / "samples.png").stat().st_size < 1.5 * MEGABYTE
    assert all(f">{name}</th>" in text for name in names)


def test_tables_have_captions_and_images_have_words(image_version: Path) -> None:
    text = report(image_version, IMAGE_SCHEMA, IMAGE_COUNTS)
    page = Page(text)
    assert text.count("<table") == text.count("<caption")
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if attributes.get("role") == "img")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_rows_are_drawn_from_the_whole_file_and_equally_from_classes(tmp_path: Path) -> None:
    labels = ["a"] * 990 + ["b"] * 10
    pq.write_table(pa.table({"x": np.arange(1000), "label": labels}), tmp_path / "t.parquet", row_group_size=10)
    sample, counts = sample_rows([tmp_path / "t.parquet"], ["x"], "label", 50, 1)
    x = sample.table["x"].to_numpy()
    assert counts == {"a": 990, "b": 10}
    assert (sample.classes == "a").sum() == 50
    assert (sample.classes == "b").sum() == 10
    assert all((name == "b") == (value >= 990) for name, value in zip(sample.classes, x, strict=True))
    assert x[sample.classes == "a"].max() > 800
    assert x.tolist() != sorted(x.tolist())


def test_distances_are_those_of_the_weighted_shares() -> None:
    a, b = np.array([0.0, 1.0, 1.0, 2.0]), np.array([1.0, 2.0])
    assert kolmogorov_smirnov(a, np.full(4, 0.25), b, np.full(2, 0.5)) == pytest.approx(0.25)
    assert kolmogorov_smirnov(a, np.array([0.5, 0.5, 0.0, 0.0]), a, np.array([0.5, 0.0, 0.5, 0.0])) == 0
    u, v = np.array(["x", "y"]), np.array(["y", "z"])
    assert total_variation(u, np.array([0.3, 0.7]), v, np.array([0.6, 0.4])) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (100.4, "100"),
        (0.98, "0.98"),
        (0.00123, "0.00123"),
        (-3.5, "−3.5"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert [percent(s).split("\u202f")[0] for s in (0, 0.0001, 0.5, 0.9999, 1)] == ["0", "<0.1", "50", ">99.9", "100"]


def test_markdown_cells_hold_whatever_they_are_given() -> None:
    hostile = "a | b\n<img src=x> `c` *d* [e](f)"
    table = gate_table_markdown([gate("lineage", False, hostile)])
    assert table.count("\n") == 3
    assert "<img" not in table
    assert r"a \| b &lt;img src=x&gt; \`c\` \*d\*" in table
    summary = summary_markdown(hostile, "v1", [gate("lineage", False, hostile)], {hostile: TABLE_COUNTS["0"]}, "/q")
    assert "refused" in summary
    assert "<img" not in summary
    assert "Worth not measured" in summary
    assert "`/q`" in summary


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metrics of an audit whose pears are too large, and which has too few apples to judge."""
    trial = Trial.of_tables(tmp_path_factory.mktemp("audit"))
    drawn = table_rows(160, 50, synthetic=True).slice(75)
    shifted = replaced(drawn, "size", [None if v is None else v + 0.8 for v in drawn["size"].to_pylist()])
    check = PosteriorPredictive(replicates=200)
    return trial.audit([trial.shard(shifted)], checks=[check]) / "metrics.json"


def test_surprises_are_drawn_most_surprising_first(table_version: Path, audit: Path) -> None:
    details = json.loads(audit.read_text())["details"]["posterior_predictive"]
    page = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, audit_metrics_path=audit)
    assert_nothing_from_outside(page)
    section = page[page.index('<section id="critique">') : page.index('<section id="training">')]
    assert '<a href="#critique">' in page
    titles = re.findall(r'<figure class="panel surprise">\s*<figcaption><span class="title">(.*?)</span>', section)
    assert titles == [pair["discrepancy"] for pair in details["most_surprising"][: len(titles)]]
    assert titles[0] == "mean of size"
    assert "Not judged, for want of rows: apple." in section
    lines = [float(x) for x in re.findall(r'class="observed" d="M([-\d.e]+),2', section)]
    bars = re.findall(r'class="sets" d="M([-\d.e]+),.*?H([-\d.e]+)V', section)
    assert len(lines) == len(bars) == len(titles)
    assert all(0 <= x <= 320 for x in lines)
    assert float(bars[0][0]) > lines[0]  # pears are smaller in the real rows than in any replicated set
    assert section.count("<tr>") - 1 == details["discrepancies"]


def test_a_page_without_the_check_or_latents_does_not_mention_them(table_version: Path) -> None:
    none = table_version / "metrics.json"
    none.write_text("{}")
    page = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, audit_metrics_path=none, latents_path=none.with_name("no"))
    assert 'id="critique"' not in page
    assert 'id="latents"' not in page
    assert "latents" not in json.loads((table_version / "report" / "metrics.json").read_text())


def latents_beside(folder: Path, rows: pa.Table, schema: DatasetSchema, classes: list[str]) -> Path:
    """The files that training leaves: two of three latents moved in each class, three positions each."""
    pq.write_table(rows.slice(0, 6 * len(classes)).select(schema.arrow_schema.names), folder / TRAVERSALS_FILE)
    found = [Latent(index=i, variance=v, within_classes=v / 2) for i, v in ((2, 0.9), (0, 0.5), (1, 0.001))]
    record = LatentRecord(
        rows=99, latents=3, active=2, active_within_classes=2, most_active=found, classes=classes, shown=[2, 0],
        positions=[-2.0, 0.0, 2.0],
    )  # fmt: skip
    (folder / LATENTS_FILE).write_text(record.model_dump_json())
    return folder / LATENTS_FILE


def test_latents_of_images_are_strips_of_pictures(image_version: Path, tmp_path: Path) -> None:
    path = latents_beside(tmp_path, images(6, 3), IMAGE_SCHEMA, [HOSTILE, "cat"])
    page = report(image_version, IMAGE_SCHEMA, IMAGE_COUNTS, latents_path=path)
    assert_nothing_from_outside(page)
    section = page[page.index('<section id="latents">') : page.index('<section id="lineage">')]
    assert "2 of 3 latents are active" in section
    assert "z2 (variance 0.45)" in section
    assert section.count('<div class="strip"') == 4
    assert section.count("<img ") == 12
    assert section.count('class="within"') == 3
    assert HOSTILE not in section
    assert "Class cat" in section
    assert json.loads((image_version / "report" / "metrics.json").read_text())["latents"]["active"] == 2


def test_latents_of_tables_are_lines_and_names(table_version: Path, tmp_path: Path) -> None:
    path = latents_beside(tmp_path, rows(6, 6, 3), TABLE_SCHEMA, ["0", "1"])
    page = report(table_version, TABLE_SCHEMA, TABLE_COUNTS, latents_path=path)
    assert_nothing_from_outside(page)
    section = page[page.index('<section id="latents">') : page.index('<section id="lineage">')]
    assert section.count('<div class="plot small">') == 2 * 2  # two classes, two columns of numbers
    assert section.count('<div class="runs">') == 2 * 2 * 2  # and two of names, a row for each latent
    assert HOSTILE not in section


def test_the_critique_is_the_same_bytes_each_time(table_version: Path, audit: Path, tmp_path: Path) -> None:
    path = latents_beside(tmp_path, rows(6, 6, 3), TABLE_SCHEMA, ["0", "1"])
    changed = {"audit_metrics_path": audit, "latents_path": path}
    pages = [report(table_version, TABLE_SCHEMA, TABLE_COUNTS, **changed) for _ in range(2)]
    assert pages[0] == pages[1]
