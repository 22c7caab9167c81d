"""Small versions of a dataset, with and without images, and the pages that are written about them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment._images import encode_png
from augment.gates import GateResult
from augment.report import write_report
from augment.schema import IMAGE_TYPE, ColumnSchema, DatasetSchema, KindName

HOSTILE = "<script>alert('x')</script>"
MEGABYTE = 1_000_000


def column(name: str, kind: KindName, type_: Any) -> ColumnSchema:
    return ColumnSchema(name=name, kind=kind, type=type_, reason="declared")


def gate(name: str, passed: bool | None, sentence: str = "Fine.", severity: Any = "critical") -> GateResult:
    return GateResult(gate=name, value=0.5, floor=None, limit=0.98, severity=severity, passed=passed, sentence=sentence)


GATES = [gate("lineage", True), gate("class_plan", True), gate("worth", None)]


def write_version(folder: Path, real: pa.Table, synthetic: pa.Table, test: pa.Table) -> None:
    for part, table in (("data/real/train", real), ("data/synthetic/train", synthetic), ("eval/test", test)):
        path = folder / f"{part}-00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=7)


def report(folder: Path, schema: DatasetSchema, counts: dict[str, dict[str, int]], **changed: Any) -> str:
    arguments: dict[str, Any] = {
        "gates": GATES,
        "lineage": {"split_seed": 4, "source": {"kind": "csv", "path": f"/data/{HOSTILE}.csv"}},
        "metrics_path": None,
        "rejects_path": None,
        "config": {"name": "tiny", "seed": 4},
        "seed": 4,
        "dataset": "tiny",
        "version": "20260101T000000Z-0123456789ab",
    }
    write_report(folder, schema=schema, counts=counts, **(arguments | changed))
    return (folder / "report" / "index.html").read_text()


IMAGE_SCHEMA = DatasetSchema(
    columns=(column("image", "image", "image"), column("label", "categorical", "string")),
    label="label",
    classes=(HOSTILE, "cat", "dog"),
)
IMAGE_COUNTS = {name: {"real": 6, "requested": 1234, "synthetic": 4} for name in (HOSTILE, "cat", "dog")}


def images(rows_per_class: int, seed: int, side: int = 8) -> pa.Table:
    rng = np.random.default_rng(seed)
    labels = [name for name in (HOSTILE, "cat", "dog") for _ in range(rows_per_class)]
    pixels = rng.integers(0, 256, (len(labels), side, side, 3), dtype=np.uint8)
    values = [{"bytes": encode_png(p), "path": None} for p in pixels]
    return pa.table({"image": pa.array(values, IMAGE_TYPE), "label": pa.array(labels, pa.string())})


TABLE_SCHEMA = DatasetSchema(
    columns=(
        column("acidity", "numeric", "float64"),
        column('quote " & <b>bold</b>', "integer", "int64"),
        column("$colour$", "categorical", "string"),
        column("organic", "boolean", "bool"),
        column("note", "ignore", "string"),
        column("label", "categorical", "int64"),
    ),
    label="label",
    classes=(0, 1),
)
TABLE_COUNTS = {"0": {"real": 30, "requested": 5, "synthetic": 5}, "1": {"real": 10, "requested": 25, "synthetic": 25}}


def rows(zeros: int, ones: int, seed: int, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = zeros + ones
    return pa.table(
        {
            "acidity": pa.array(rng.normal(shift, 1, n), mask=rng.random(n) < 0.2),
            'quote " & <b>bold</b>': pa.array(rng.integers(0, 9, n)),
            "$colour$": pa.array(rng.choice(["red", "white", HOSTILE], n), pa.string(), mask=rng.random(n) < 0.1),
            "organic": pa.array(rng.random(n) < 0.5),
            "note": pa.nulls(n, pa.string()),
            "label": pa.array([0] * zeros + [1] * ones, pa.int64()),
        }
    )


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def assert_nothing_from_outside(text: str) -> None:
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not {"script", "iframe", "object", "embed", "form"} & {tag for tag, _ in page.tags}


def write_images(folder: Path) -> Path:
    write_version(folder, images(6, 0), images(4, 1), images(3, 2))
    return folder


def write_table(folder: Path) -> Path:
    write_version(folder, rows(30, 10, 0), rows(5, 25, 1, shift=3.0), rows(12, 12, 2))
    return folder


def arm(name: str, role: str, score: float, lift: tuple[float, float, float] | None) -> dict[str, Any]:
    found = None if lift is None else {"mean": lift[0], "low": lift[1], "high": lift[2], "p": None}
    return {
        "name": name, "learner": "net", "method": "plain", "role": role, "validation": score,
        "test": {"balanced_accuracy": score}, "by_seed": [score, score], "lift": found,
    }  # fmt: skip


def worth(verdict: str | None = "helps", mean: float = 0.024, **changed: Any) -> dict[str, Any]:
    """A worth record as JSON values, with an arm of every role."""
    lift = (mean, mean - 0.02, mean + 0.02)
    return {
        "verdict": verdict,
        "sentence": "What a person reads.",
        "metric": "balanced_accuracy",
        "seeds": 2,
        "generators": 1,
        "rows": {"train": 40, "validation": 10, "test": 123, "synthetic": 30},
        "scarce": ["1"],
        "arms": [
            arm("real rows", "without", 0.9, None),
            arm("oversampling", "without", 0.88, (-0.02, -0.03, -0.01)),
            arm("synthetic", "with", 0.9 + mean, lift),
            arm("synthetic alone", "alone", 0.3, (-0.6, -0.9, -0.3)),
            arm("synthetic in scarce classes only", "scarce", 0.91, (0.01, -0.01, 0.03)),
            arm("more real rows", "more", 0.95, (0.05, 0.03, 0.07)),
        ],
        "best_with": "synthetic",
        "best_without": "real rows",
        "lift": {"mean": mean, "smallest_effect": 0.03, "measurable_at": 0.05},
        "by_metric": {"macro_f1": {"mean": 0.031, "low": 0.001, "high": 0.06, "p": None}},
        "recalls": {"0": {"with": 0.9, "without": 0.95}, "1": {"with": 0.8, "without": 0.7}},
        "equivalent": {"rows": 12.4, "low": 3.0, "high": 20.0, "sentence": "They do as much as 12 more real rows."},
        "curve": {"rows": [2, 5, 10], "scores": [0.7, 0.8, 0.9], "arm": "real rows"},
        "search": {
            "chosen": ["shift", "gain"],
            "fits": 3,
            "candidates": [
                {"policy": [], "balanced_accuracy": [0.8], "log_loss": [0.4]},
                {"policy": ["shift", "gain"], "balanced_accuracy": [0.9, 0.8], "log_loss": [0.3, 0.5]},
            ],
        },
        "notes": ["The seeds share one trained generator."],
    } | changed


def audited(folder: Path, **details: Any) -> Path:
    """The metrics of an audit whose gates kept these details."""
    path = folder / "audit.json"
    path.write_text(json.dumps({"details": details}))
    return path


def named(table: pa.Table, prefix: str) -> pa.Table:
    return table.append_column("sample_id", pa.array([f"{prefix}-{number}" for number in range(table.num_rows)]))


def pair(place: int, sample_id: str, distance: float, of_class: str = "1") -> dict[str, Any]:
    return {"class": of_class, "sample_id": sample_id, "train_row": place, "distance": distance, "from_held_out": 2.5}


DETAILS: dict[str, Any] = {
    "copying": {"nearest_pairs": [pair(33, "syn-7", 0.125), pair(3, "syn-29", 3.0), pair(12345, "syn-gone", 4.0)]},
    "marginals": {
        "columns": [
            {"name": "acidity", "distance": 0.4, "limit": 0.3, "low": 0, "high": 1, "real": [1], "synthetic": [1]},
            {"name": "blur", "distance": 0.1, "limit": 0.7, "low": 0, "high": 2, "real": [1, 1], "synthetic": [2, 0]},
        ]
    },
    "joint": {
        "c2st": {"auc": 0.625, "limit": 0.8},
        "pairs": [
            {
                "first": HOSTILE, "second": "acidity", "inside_classes": number == 0, "real": 0.5, "synthetic": -0.25,
                "change": 0.75, "limit": 0.3,
            }
            for number in range(14)
        ],
    },
    "coverage": {
        "map": {
            "explained": [0.5, 0.25],
            "classes": {
                "0": {"train": [[0.5, 0.5], [0.1, 0.2]], "held_out": [[-0.5, 0.0]], "synthetic": [[0.0, -0.25]]},
                "1": {"train": [[0.2, 0.2]], "held_out": [], "synthetic": []},
            },
        }
    },
}  # fmt: skip


def section_of(page: str, name: str) -> str:
    start = page.index(f'<section id="{name}">')
    return page[start : page.index("</section>", start)]
