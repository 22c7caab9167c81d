"""What every source keeps: order, fingerprint, row limit, rename, a test part; and the packaged ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from _made_sources import MAKERS, PACKAGED, SOURCES, make_csv, table
from pydantic import TypeAdapter, ValidationError

from augment._images import decode_image
from augment.config import RunConfig, absolute_paths, relative_paths
from augment.errors import InputError
from augment.sources._contract import Source


@pytest.fixture(params=sorted(SOURCES))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type[Source], dict[str, Any]]:
    """The class of each source there is, and settings of it that work."""
    kind = request.param
    folder = tmp_path / "here"
    folder.mkdir()
    return SOURCES[kind], {} if kind in PACKAGED else MAKERS[kind](folder)


def moved(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The same settings for a copy of the data elsewhere."""
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    return {
        name: tmp_path / "there" / value.relative_to(tmp_path / "here") if isinstance(value, Path) else value
        for name, value in settings.items()
    }


def test_every_kind_of_source_is_tried_here() -> None:
    assert set(SOURCES) == {*MAKERS, *PACKAGED}


def test_every_setting_is_described(made: tuple[type[Source], dict[str, Any]]) -> None:
    kind, _ = made
    assert kind.summary
    assert [name for name, field in kind.model_fields.items() if not field.description and name != "kind"] == []


def test_rows_come_in_the_same_order_twice(made: tuple[type[Source], dict[str, Any]]) -> None:
    source = made[0](**made[1])
    assert table(source).num_rows >= 12
    assert table(source).equals(table(source))


def test_a_source_survives_its_own_json(made: tuple[type[Source], dict[str, Any]]) -> None:
    source = made[0](**made[1])
    assert made[0].model_validate_json(source.model_dump_json()) == source


def test_the_fingerprint_follows_the_bytes_and_not_the_place(
    made: tuple[type[Source], dict[str, Any]], tmp_path: Path
) -> None:
    source = made[0](**made[1])
    other = made[0](**moved(made[1], tmp_path))
    assert other.fingerprint() == source.fingerprint()
    assert source.model_copy(update={"rows": 5}).fingerprint() != source.fingerprint()
    for path in other.files()[:1]:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        assert other.fingerprint() != source.fingerprint()


def test_a_row_limit_takes_the_first_rows(made: tuple[type[Source], dict[str, Any]]) -> None:
    whole = table(made[0](**made[1]))
    assert table(made[0](**made[1], rows=5)).equals(whole.slice(0, 5))
    assert table(made[0](**made[1], rows=10**9)).num_rows == whole.num_rows


@pytest.mark.parametrize("rows", [0, -1, float("nan"), float("inf"), 10**13, 1.5, "many"])
def test_an_absurd_row_limit_is_refused(rows: Any) -> None:
    with pytest.raises(ValidationError):
        SOURCES["digits"](rows=rows)


def test_rename_gives_columns_new_names(made: tuple[type[Source], dict[str, Any]]) -> None:
    settings = {**made[1], "rename": {"label": "species"}}
    if "label" in settings:
        settings["label"] = "species"
    source = made[0](**settings)
    assert "species" in table(source).column_names
    assert source.label_column == "species"


def test_rename_of_an_absent_column_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"source.rename names 'labl'.*did you mean 'label'"):
        table(made[0](**made[1], rename={"labl": "x"}))


def test_a_reserved_column_name_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"'split'.*source.rename"):
        table(made[0](**{**made[1], "label": None}, rename={"label": "split"}))


def test_a_missing_label_column_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"source.label names 'lable'.*did you mean 'label'"):
        table(made[0](**{**made[1], "label": "lable"}))


def test_a_declared_kind_of_an_absent_column_is_refused(made: tuple[type[Source], dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"source.columns names 'shade'"):
        table(made[0](**made[1], columns={"shade": "categorical"}))


def test_a_test_part_of_its_own_is_read(made: tuple[type[Source], dict[str, Any]], tmp_path: Path) -> None:
    kind, settings = made
    if not settings:
        with pytest.raises(ValidationError, match="the very rows"):
            kind(test={"rows": 3})
        return
    elsewhere = {name: str(value) for name, value in moved(settings, tmp_path).items() if isinstance(value, Path)}
    source = kind(**settings, rows=4, rename={"label": "y"}, test=elsewhere) if "label" not in settings else None
    source = source or kind(**settings, rows=4, test=elsewhere)
    test = source.test_source()
    assert test is not None
    assert table(source).num_rows == 4
    assert table(test).num_rows == 12
    assert test.label_column == source.label_column
    before = source.fingerprint()
    path = test.files()[-1]
    path.write_bytes(path.read_bytes() + b"x")
    assert source.fingerprint() != before


def test_relative_paths_of_the_test_part_start_at_the_run_file(tmp_path: Path) -> None:
    source = {"kind": "csv", "path": "a.csv", "test": {"path": "b.csv"}}
    config = TypeAdapter(RunConfig).validate_python({"source": source})
    assert relative_paths(config)[:2] == ["source.path", "source.test.path"]
    moved_source = absolute_paths(config, tmp_path).source
    assert moved_source.path == tmp_path / "a.csv"
    assert moved_source.test_source().path == tmp_path / "b.csv"
    assert relative_paths(moved_source) == []


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"pth": "b.csv"}, "test.pth is not a setting of csv; did you mean 'path'"),
        ({"path": "a.csv"}, "the very rows"),
        ({"rows": 3}, "the very rows"),
        ({"kind": "wine"}, "another kind"),
        ({"delimiter": "ab"}, "test.delimiter: the delimiter must be one"),
    ],
)
def test_a_test_part_that_cannot_be_is_refused(test: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SOURCES["csv"](path="a.csv", test=test)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = SOURCES["csv"](**make_csv(tmp_path))
    batches = source.read()
    next(batches)
    with (tmp_path / "data.csv").open("a") as file:
        file.write("1.5,red,c1\n")
    with pytest.raises(InputError, match="changed while it was read"):
        list(batches)


def test_digits_spread_their_grey_levels_over_a_byte() -> None:
    from sklearn.datasets import load_digits

    rows = table(SOURCES["digits"]())
    wanted = [[round(v * 255 / 16) for v in row] for row in load_digits().images[7].tolist()]
    assert decode_image(rows["image"][7].as_py()["bytes"], "x").tolist() == wanted
    assert rows["label"].type == pa.int64()
    assert rows.num_rows == 1797


def test_packaged_tables_have_named_columns_and_classes() -> None:
    wine = table(SOURCES["wine"]())
    assert wine.shape == (178, 14)
    assert wine.column_names[0] == "alcohol"
    assert set(wine["label"].to_pylist()) == {"class_0", "class_1", "class_2"}
    assert set(table(SOURCES["breast_cancer"]())["label"].to_pylist()) == {"malignant", "benign"}


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("parquet", "path"), ("image_folder", "path"), ("idx", "images"), ("csv", "path"), ("hugging_face", "path")],
)
def test_an_absent_path_is_refused(kind: str, setting: str, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", Path("a\0b"), Path("x" * 300)):
        with pytest.raises(InputError, match="does not exist"):
            table(SOURCES[kind](**{setting: path}))
        with pytest.raises(InputError, match="does not exist"):
            SOURCES[kind](**{setting: path}).fingerprint()
