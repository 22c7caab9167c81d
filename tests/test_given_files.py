"""Files of given rows: what is read of them, which types values get, and what is refused as input in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _given_rows import Run, fruit_config, fruit_rows, refusal, with_values, write_csv, write_parquet

from augment.config import MODELS, RunConfig, relative_paths
from augment.errors import InputError
from augment.given._fitting import fit_column
from augment.given.taking import MODEL
from augment.runfile import load_run_config
from augment.schema import ColumnSchema
from flows.planning import describe_run, print_plan


def column(type_: str) -> ColumnSchema:
    return ColumnSchema(name="c", kind="ignore", type=type_, reason="declared")


@pytest.mark.parametrize(
    ("given", "type_", "fitted", "misfits"),
    [
        (["1", "-2", None, " 3 ", "+4"], "int64", [1, -2, None, 3, 4], []),
        (["1.0", "2e1", "9007199254740993"], "int64", [1, 20, 9007199254740993], []),
        (["1", "1.5", "x", ""], "int64", [1, None, None, None], [1, 2, 3]),
        ([1.0, 2.0, None], "int64", [1, 2, None], []),
        ([1.0, 2.5, float("nan")], "int64", [1, None, None], [1, 2]),
        ([True, False], "int64", [1, 0], []),
        (["1.5", "2", "1e3"], "float64", [1.5, 2.0, 1000.0], []),
        (["1,5", "2"], "float64", [None, 2.0], [0]),
        ([1, 2], "float64", [1.0, 2.0], []),
        ([2**53 + 1, 1], "float64", [None, 1.0], [0]),
        (["true", "False", None], "bool", [True, False, None], []),
        ([0, 1, 2], "bool", [False, True, None], [2]),
        ([0.0, 1.0], "bool", [False, True], []),
        ([1, 2], "string", ["1", "2"], []),
        ([True], "string", ["true"], []),
        ([["a"], None], "string", [None, None], [0]),
        ([{"a": 1}], "float64", [None], [0]),
        (["no file"], "image", [None], [0]),
        ([None, None], "int64", [None, None], []),
    ],
)
def test_a_value_fits_that_the_type_holds_as_it_is(
    given: list[Any], type_: str, fitted: list[Any], misfits: list[int]
) -> None:
    found = fit_column(pa.array(given), column(type_))
    assert found.values.type == column(type_).arrow_type
    assert found.values.to_pylist() == fitted
    assert np.flatnonzero(found.misfits).tolist() == misfits


def test_wrapped_columns_are_unwrapped_and_times_are_no_numbers() -> None:
    texts = pa.array(["a", "b", "a"])
    for wrapped in (texts.dictionary_encode(), texts.cast(pa.large_string()), texts.cast(pa.string_view())):
        assert fit_column(wrapped, column("string")).values.to_pylist() == ["a", "b", "a"]
    assert fit_column(pa.array([1], pa.timestamp("s")), column("int64")).misfits.tolist() == [True]


def test_texts_of_a_csv_file_get_the_types_of_the_real_data(tmp_path: Path) -> None:
    """Codes 1 and 2 are texts there and stay texts, though the file alone would make numbers of them."""
    made = fruit_rows(200, 2)
    made = with_values(made, "code", ["1", "2"] * 100)
    made = with_values(
        made, "ripe", [str(value) for value in made["ripe"].to_pylist()]
    )  # True and False, as pandas writes
    run = Run.of(fruit_config(tmp_path, {"path": write_csv(made, tmp_path / "made.csv")}))
    assert run.failed == []
    rows = run.rows()
    assert (rows["code"].type, rows["count"].type, rows["ripe"].type) == (pa.string(), pa.int64(), pa.bool_())
    assert set(rows["code"].to_pylist()) == {"1", "2"}
    assert rows["size"].null_count > 0


def test_csv_settings_and_other_names_are_followed(tmp_path: Path) -> None:
    made = fruit_rows(200, 2)
    text = ["fruit;Größe;count;code;ripe;extra"]
    for row in made.to_pylist():
        size = "NA" if row["size"] is None else row["size"]
        text.append(f"{row['fruit']};{size};{row['count']};{row['code']};{str(row['ripe']).lower()};e")
    (tmp_path / "made.csv").write_text("\n".join(text), encoding="latin-1")
    settings = {"delimiter": ";", "missing": ["NA"], "encoding": "latin-1", "rename": {"Größe": "size"}}
    run = Run.of(fruit_config(tmp_path, {"path": tmp_path / "made.csv", **settings}))
    assert run.failed == []
    record = json.loads((run.store.path(run.model) / MODEL).read_text())
    assert record["notes"] == [f"columns of {tmp_path / 'made.csv'} that are not read: extra"]
    assert record["rows"] == {"apple": 100, "pear": 100}


def test_columns_that_published_rows_have_besides_are_no_trouble(tmp_path: Path) -> None:
    first = Run.of(fruit_config(tmp_path, {"path": write_parquet(fruit_rows(200, 2), tmp_path / "made.parquet")}))
    published = Path(first.publish().path)
    again = Run.of(fruit_config(tmp_path, {"path": published / "data" / "synthetic"}))
    assert again.failed == []
    assert json.loads((again.store.path(again.model) / MODEL).read_text())["notes"] == []
    said = refusal(fruit_config(tmp_path, {"path": published / "data"}))
    assert said == (f"{published / 'data'} has rows whose is_synthetic is false; give a file of synthetic rows alone.")


def test_a_data_column_may_have_the_name_of_a_column_of_ours(tmp_path: Path) -> None:
    renamed = [name if name != "count" else "misfits" for name in fruit_rows(1, 0).column_names]
    write_parquet(fruit_rows(300, 1).rename_columns(renamed), tmp_path / "real.parquet")
    made = write_parquet(fruit_rows(200, 2).rename_columns(renamed), tmp_path / "made.parquet")
    assert Run.of(fruit_config(tmp_path, {"path": made})).failed == []


def text(made: pa.Table, folder: Path, **settings: Any) -> dict[str, Any]:
    """The settings of a CSV file of ``made``."""
    return {"path": write_csv(made, folder / "made.csv"), **settings}


def packed(made: pa.Table, folder: Path, cut: int = 0, **settings: Any) -> dict[str, Any]:
    """The settings of a Parquet file of ``made``, the last ``cut`` bytes of which are lost."""
    path = write_parquet(made, folder / "made.parquet")
    path.write_bytes(path.read_bytes()[: -cut or None])
    return {"path": path, **settings}


def in_latin(folder: Path) -> dict[str, Any]:
    """The settings of a file in another encoding than they say."""
    (folder / "made.csv").write_bytes("größe\n".encode("latin-1"))
    return {"path": folder / "made.csv"}


def empty_folder(folder: Path) -> dict[str, Any]:
    """The settings of a folder without anything in it."""
    (folder / "void").mkdir()
    return {"path": folder / "void"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (lambda _, folder: {"path": folder / "none.csv"}, "none.csv does not exist; check model.path."),
        (lambda _, folder: empty_folder(folder), "holds no class folder with PNG or JPEG images; check model.path."),
        (
            lambda made, folder: text(made.drop_columns(["count"]), folder),
            "lacks the column 'count' of the data; write it too, or say with model.rename which of its columns it is",
        ),
        (
            lambda made, folder: text(made.append_column("r", made["ripe"]), folder, rename={"r": "ripe"}),
            "has 2 columns called 'ripe'; leave one of them.",
        ),
        (
            lambda made, folder: text(made, folder, rename={"colour": "code"}),
            "model.rename names 'colour', which is no column of",
        ),
        (lambda made, folder: packed(made, folder, cut=50), "is no whole Parquet file"),
        (lambda _, folder: in_latin(folder), "give the file's own encoding in model.encoding"),
        (lambda made, folder: packed(made, folder, delimiter=";"), "model.delimiter is for CSV files, and"),
        (lambda made, folder: text(made, folder, delimiter=";;"), "model.delimiter: the delimiter must be one ASCII"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_about_a_setting_of_the_model(
    tmp_path: Path, written: Any, said: str
) -> None:
    sentence = refusal(fruit_config(tmp_path, written(fruit_rows(40, 2), tmp_path)))
    assert said in sentence
    assert "source." not in sentence
    assert sentence[-1] in ".?"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"generate": {"operator": "prior"}}, "generate.operator 'prior' draws from a model"),
        ({"placement": {"train": "train-stage/gpu"}}, "placement.train 'train-stage/gpu' is for models"),
        ({"placement": {"generate": "generate-stage/gpu"}}, "placement.generate 'generate-stage/gpu' is for models"),
        ({"model": {"kind": "from_files"}}, "model.path is missing"),
    ],
)
def test_settings_that_need_a_model_are_refused(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    from augment.runfile import parse_run_config

    content = {"model": {"kind": "from_files", "path": "/made.csv"}, **sections}
    with pytest.raises(InputError, match=said):
        parse_run_config(content, "run.yaml")


def test_relative_paths_start_at_the_run_file_and_are_known_to_be_relative(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: {kind: from_files, path: rows/made.csv}\n")
    config = load_run_config(tmp_path / "run.yaml")
    assert config.model.path == tmp_path / "rows/made.csv"
    assert relative_paths(RunConfig.model_validate({"model": {"kind": "from_files", "path": "made.csv"}})) == [
        "model.path"
    ]
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_the_form_of_a_run_offers_files_and_the_list_of_models_does_not() -> None:
    offered = RunConfig.model_json_schema()["properties"]["model"]["discriminator"]["mapping"]
    assert set(offered) == {*MODELS, "from_files"}
    assert "from_files" not in MODELS


def test_the_plan_shows_what_there_is_beside_what_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = pa.concat_tables([fruit_rows(60, 2), with_values(fruit_rows(2, 3), "fruit", ["mango", "mango"])])
    config = fruit_config(tmp_path, {"path": write_parquet(made, tmp_path / "made.parquet")})
    described = describe_run(config)
    assert {row["name"]: (row["synthetic"], row["available"]) for row in described["classes"]} == {
        "apple": (40, 30),
        "pear": (40, 30),
    }
    assert described["model"]["rows"] == 62
    assert described["cost"]["rows_drawn"] == 60
    assert "steps" not in described["cost"]
    print_plan(json.loads(json.dumps(described)))
    said = capsys.readouterr().out
    assert "for which the gate class_plan refuses: apple (30), pear (30)" in said
    assert "for which the gate structure refuses: 2" in said
    assert f"from_files, 62 rows in {tmp_path / 'made.parquet'} (Parquet)" in said
    assert not (tmp_path / "store/stages/encode").exists(), "nothing is learnt, so nothing is encoded"


def test_the_rows_are_copied_once_and_no_more_is_held_than_a_shard(tmp_path: Path) -> None:
    """A second run of the same files finds the first one's rows, and reads none of them anew."""
    path = write_parquet(fruit_rows(200, 2), tmp_path / "made.parquet")
    first = Run.of(fruit_config(tmp_path, {"path": path}))
    second = Run.of(fruit_config(tmp_path, {"path": path}, seed=3))
    assert first.model == second.model
    assert len(list((tmp_path / "store/stages/given").glob("[0-9a-f]*"))) == 1
    assert pq.read_metadata(first.store.path(first.shards[0]) / "shard.parquet").num_rows == 80
