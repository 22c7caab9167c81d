"""The card and the Croissant file, and reading what was published with none of our code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from _small_store import IMAGES, TABLE, Stages, column, displeased, gate, passing, write_stages

from augment.errors import InputError
from augment.gates import NO_CHECK, with_all_gates
from augment.reader import load_dataset


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return write_stages(tmp_path)


@pytest.fixture
def folder(stages: Stages) -> Path:
    return Path(stages.publish().path)


def front_matter(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return found


def configs(folder: Path) -> dict[str, dict[str, list[str]]]:
    return {c["config_name"]: {d["split"]: d["path"] for d in c["data_files"]} for c in front_matter(folder)["configs"]}


def test_the_configurations_name_the_files(folder: Path) -> None:
    found = configs(folder)
    assert list(found) == ["augmented", "real", "synthetic"]
    assert set(found["augmented"]) == set(found["real"]) == {"train", "validation", "test"}
    assert set(found["synthetic"]) == {"train"}
    assert front_matter(folder)["configs"][0]["default"] is True
    assert all(list(folder.glob(p)) for of_config in found.values() for paths in of_config.values() for p in paths)
    assert not any("synthetic" in p for p in found["real"]["train"])


def test_parts_without_rows_are_left_out(tmp_path: Path) -> None:
    real = {"train": ["ant", "bee", "cow"], "validation": [], "test": ["ant"]}
    folder = Path(write_stages(tmp_path, real=real, drawn=[]).publish().path)
    assert {name: set(splits) for name, splits in configs(folder).items()} == {
        "augmented": {"train", "test"}, "real": {"train", "test"}
    }  # fmt: skip
    with pytest.raises(InputError, match="no rows for the configuration 'synthetic'"):
        load_dataset(folder).hf("synthetic")


def test_the_first_snippet_draws_by_sample_weight(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    first = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert first is not None
    assert "sample_weight" in first[1]


@pytest.mark.slow
def test_every_snippet_runs_in_the_folder_of_the_card(folder: Path, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    environment = {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    for snippet in snippets:
        subprocess.run(
            [sys.executable, "-c", snippet], cwd=folder, check=True, capture_output=True,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip


def test_the_card_says_what_a_reader_must_know(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "20 real and 12 **synthetic** training rows" in card
    assert "Worth not measured" in card
    assert "| bee | 5 | 4 | 1 | 2 |" in card
    assert "| consumer_smoke | passed |" in card
    assert "null in synthetic ones: `note`" in card
    assert all(g.sentence in card for g in load_dataset(folder).gates())


def test_the_card_lists_gates_without_a_verdict_in_one_line_a_reason(tmp_path: Path) -> None:
    gates = with_all_gates([gate("lineage"), gate("structure")])
    card = (Path(write_stages(tmp_path, TABLE).with_audit("few", gates).publish().path) / "README.md").read_text()
    assert card.count(NO_CHECK) == 1
    assert "\n\n- test_leak, duplicates, class_plan, sample_quality, label_agreement" in card
    assert "| lineage | passed |" in card
    assert "| worth |" not in card


def test_a_refused_card_says_so(stages: Stages) -> None:
    card = (Path(stages.publish(consumer=displeased).path) / "README.md").read_text()
    assert "must not be used" in card
    assert "| consumer_smoke | **failed** |" in card


def test_hostile_names_and_sentences_stay_in_their_cells(tmp_path: Path) -> None:
    evil = "x|y\n---\n<script>alert(1)</script>"
    columns = (column(evil, "ignore", "string"), column("species", "categorical", "string"))
    schema = TABLE.model_copy(update={"columns": columns, "classes": ("a|b", 'c"\n# d', "<b>")})
    stages = write_stages(tmp_path, schema)
    gates = [g if g.gate != "joint" else gate("joint").model_copy(update={"sentence": evil}) for g in passing()]
    folder = Path(stages.with_audit("evil", gates).publish().path)
    card = (folder / "README.md").read_text()
    assert "<script>" not in card
    assert "\n# d" not in card
    assert list(configs(folder)) == ["augmented", "real", "synthetic"]
    json.loads((folder / "croissant.json").read_text())


def test_the_croissant_file_has_the_hash_of_each_data_file(folder: Path) -> None:
    document = json.loads((folder / "croissant.json").read_text())
    manifest = load_dataset(folder).manifest
    assert {f["contentUrl"]: f["sha256"] for f in document["distribution"]} == {
        name: entry.sha256 for name, entry in manifest.files.items() if name.startswith(("data/", "eval/"))
    }
    assert document["rai:hasSyntheticData"] is True
    assert "Synthetic" in document["rai:dataCollectionType"]


@pytest.mark.slow
@pytest.mark.parametrize("schema", [TABLE, IMAGES], ids=["table", "images"])
def test_croissant_tools_accept_and_read_the_file(tmp_path: Path, schema: Any) -> None:
    folder = Path(write_stages(tmp_path, schema).publish().path)
    # In a process of its own: mlcroissant warns of its own dependencies when it is imported.
    code = (
        "import mlcroissant, json; d = mlcroissant.Dataset(jsonld='croissant.json')\n"
        "print(json.dumps({r.uuid: len(list(d.records(r.uuid))) for r in d.metadata.record_sets}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {"real": 20, "synthetic": 12, "validation": 3, "test": 6}
    assert "not standard" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("schema", [TABLE, IMAGES], ids=["table", "images"])
def test_hugging_face_loads_every_configuration(tmp_path: Path, schema: Any) -> None:
    folder = Path(write_stages(tmp_path / "store", schema).publish().path)
    opened = load_dataset(folder)
    rows = {name: {split: len(part) for split, part in opened.hf(name).items()} for name in configs(folder)}
    assert rows == {
        "augmented": {"train": 32, "validation": 3, "test": 6},
        "real": {"train": 20, "validation": 3, "test": 6},
        "synthetic": {"train": 12},
    }
    features = opened.hf("synthetic")["train"].features
    assert features.arrow_schema.names == pq.read_schema(next(folder.glob("data/real/*.parquet"))).names
    if schema is IMAGES:
        assert opened.hf("synthetic")["train"][0]["image"].size == (5, 6)


@pytest.mark.slow
def test_pandas_polars_and_duckdb_read_the_folder(folder: Path) -> None:
    import duckdb
    import pandas as pd
    import polars as pl

    assert len(pd.read_parquet(folder / "data")) == 32
    assert pl.read_parquet(folder / "data/**/*.parquet").filter(pl.col("is_synthetic")).height == 12
    counted = duckdb.sql(f"select is_synthetic, count(*) from '{folder}/data/**/*.parquet' group by 1 order by 1")
    assert counted.fetchall() == [(False, 20), (True, 12)]
    weights = duckdb.sql(f"select avg(sample_weight) from '{folder}/data/**/*.parquet'").fetchall()
    assert weights[0][0] == pytest.approx(1)


@pytest.mark.slow
def test_polars_and_duckdb_reach_the_bytes_of_an_image(tmp_path: Path) -> None:
    import duckdb
    import polars as pl

    folder = Path(write_stages(tmp_path, IMAGES).publish().path)
    first = duckdb.sql(f"select image.bytes from '{folder}/data/real/*.parquet' limit 1").fetchall()
    assert first[0][0].startswith(b"\x89PNG")
    images = pl.read_parquet(folder / "data/real/*.parquet")["image"].struct.field("bytes")
    assert images[0].startswith(b"\x89PNG")
