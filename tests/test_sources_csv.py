"""Delimited text: what is read as it stands, and what is refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment.errors import InputError
from augment.sources import _text
from augment.sources.csv_file import CsvFile

# Reads a file in a process of its own; says the refusal, and by how many KiB the peak of its memory grew.
MEASURED_READING = """
import pathlib, re, sys
from augment.errors import InputError
from augment.sources.csv_file import CsvFile

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

before = peak()
try:
    for batch in CsvFile(path=pathlib.Path(sys.argv[1])).read():
        pass
except InputError as error:
    print(error)
print(peak() - before)
"""


def source(folder: Path, content: str | bytes, **given_settings: Any) -> CsvFile:
    path = folder / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CsvFile(path=path, **given_settings)


def rows(of: CsvFile) -> list[dict[str, Any]]:
    return [row for batch in of.read() for row in batch.to_pylist()]


def refusal(of: CsvFile) -> str:
    """The one sentence in which the source is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        rows(of)
    sentence = str(caught.value)
    assert "data.csv" in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?")) or "known are" in sentence
    return sentence


def test_every_column_is_text_as_it_stands(tmp_path: Path) -> None:
    read = source(tmp_path, "code,country,id,x\n00123,NA,9007199254740993,1e999\n1,nan,,=2+3\n")
    assert rows(read) == [
        {"code": "00123", "country": "NA", "id": "9007199254740993", "x": "1e999"},
        {"code": "1", "country": "nan", "id": None, "x": "=2+3"},
    ]


def test_adult_is_read_as_it_is_published(tmp_path: Path) -> None:
    content = "39, State-gov, 77516, <=50K\n25, ?, 226802, >50K\n\n"
    read = source(tmp_path, content, header=False, names=["age", "work", "weight", "income"], label="income")
    assert rows(read) == [
        {"age": "39", "work": "State-gov", "weight": "77516", "income": "<=50K"},
        {"age": "25", "work": None, "weight": "226802", "income": ">50K"},
    ]


def test_without_header_and_names_columns_are_numbered(tmp_path: Path) -> None:
    assert rows(source(tmp_path, "a,b\n1,2\n", header=False))[0] == {"column_1": "a", "column_2": "b"}


def test_a_column_without_a_name_is_numbered(tmp_path: Path) -> None:
    assert rows(source(tmp_path, ",a, \n0,1,2\n")) == [{"column_1": "0", "a": "1", "column_3": "2"}]


def test_names_replace_the_header_where_that_is_said(tmp_path: Path) -> None:
    assert rows(source(tmp_path, "a,b\n1,2\n", header=True, names=["x", "y"])) == [{"x": "1", "y": "2"}]


def test_names_without_a_word_on_the_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="names needs header too"):
        source(tmp_path, "1,2\n", names=["x", "y"])


def test_names_of_another_count_are_refused(tmp_path: Path) -> None:
    assert "has 3 names and" in refusal(source(tmp_path, "1,2\n", header=False, names=["x", "y", "z"]))


def test_missing_marks_can_be_chosen(tmp_path: Path) -> None:
    read = source(tmp_path, "a,b\nNA,?\n-9,  \n", missing=["NA", " -9 "])
    assert rows(read) == [{"a": None, "b": "?"}, {"a": None, "b": ""}]
    assert rows(source(tmp_path, "a,b\nNA,?\n", missing=[])) == [{"a": "NA", "b": "?"}]


def test_quotes_delimiters_and_line_ends_are_read(tmp_path: Path) -> None:
    content = 'a;b\r\n"x;y";"say ""hi"""\r\n5" pipe;"two\nlines"\r\n'
    assert rows(source(tmp_path, content, delimiter=";")) == [
        {"a": "x;y", "b": 'say "hi"'},
        {"a": '5" pipe', "b": "two\nlines"},
    ]
    assert rows(source(tmp_path, "a\tb\n1\t2", delimiter="\t")) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_other_encodings_are_read_where_they_are_named(tmp_path: Path, encoding: str) -> None:
    read = source(tmp_path, "größe,b\nçà,2\n".encode(encoding), encoding=encoding)
    assert rows(read) == [{"größe": "çà", "b": "2"}]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert rows(source(tmp_path, "\ufeffa,b\n1,2\n")) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_a_wrong_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    assert "source.encoding" in refusal(source(tmp_path, "größe,b\nçà,2\n".encode(encoding)))


def test_the_place_of_a_wrong_byte_is_named(tmp_path: Path) -> None:
    assert "near byte 8," not in refusal(source(tmp_path, b"a,b\n1,2\n\xff,3\n"))
    assert "not text in utf-8 (near byte 8)" in refusal(source(tmp_path, b"a,b\n1,2\n\xff,3\n"))


def test_a_nul_byte_is_refused(tmp_path: Path) -> None:
    assert "holds a NUL" in refusal(source(tmp_path, "a,b\n1,2\0\n"))


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("\n \n"[:1], "is empty"), ("a,b\n", "holds no rows")]
)
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(source(tmp_path, content))


def test_duplicate_names_are_refused(tmp_path: Path) -> None:
    assert "has 2 columns called 'a'" in refusal(source(tmp_path, "a, a,b\n1,2,3\n"))
    assert "has 2 columns called 'a'" in refusal(source(tmp_path, "1,2\n", header=False, names=["a", "a"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", "has 3 fields in row 3 (blank lines not counted) and 2 in the header"),
        ("a,b\n1,2\n3\n", "has 1 fields in row 3 (blank lines not counted) and 2 in the header"),
        ("a,b\n1,2,3\n4,5,6\n", "has 3 fields in row 2 (blank lines not counted) and 2 in the header"),
        ("a,b\n" + "1,2\n" * 400_000 + "1\n", "has 1 fields in row 400,002"),
    ],
    ids=["long", "short", "all long", "late"],
)
def test_ragged_rows_are_refused_by_number(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(source(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    ['a,b\n1,"x\n2,y\n', 'a,b\n1,"x', 'a,b\n1,"', 'a,b\n1,"x\n2,"y"\n3,4\n', 'a,b\n1,"x"y\n', '"a,b\n1,2\n'],
)
def test_a_quote_that_is_not_closed_is_refused(tmp_path: Path, content: str) -> None:
    assert "quoted field that ends wrongly before line" in refusal(source(tmp_path, content))


@pytest.mark.parametrize(
    "content", ["a,b\n1,{}\n1,2\n", "a{},b\n1,2\n", 'a,b\n1,"{}\n'], ids=["row", "header", "quoted"]
)
def test_an_absurdly_long_row_is_refused_in_bounded_memory(tmp_path: Path, content: str) -> None:
    source(tmp_path, content.format("x" * 80 * _text.ROW_BYTES))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED_READING, str(tmp_path / "data.csv")], capture_output=True, text=True, check=True
    )
    sentence, growth = done.stdout.splitlines()
    assert "row of more than 4 MiB" in sentence or "quoted field" in sentence
    assert int(growth) * 1024 < 64 * _text.ROW_BYTES  # pyarrow reads 32 blocks ahead, of 80


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").mkdir()
    assert "is a folder" in refusal(CsvFile(path=tmp_path / "data.csv"))


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    assert "is not a regular file" in refusal(CsvFile(path=tmp_path / "data.csv"))


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = source(tmp_path, "a,b\n1,2\n")

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:  # permissions do not stop the superuser
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read (Permission denied)" in refusal(read)


@pytest.mark.parametrize(
    "wrong",
    [{"delimiter": ""}, {"delimiter": ",,"}, {"delimiter": '"'}, {"delimiter": "\n"}, {"delimiter": "§"},
     {"encoding": "klingon"}, {"encoding": "base64"}, {"names": []}, {"names": [""]}, {"missing": [1]}, {"rows": -4}],
    ids=str,
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, InputError)):
        rows(source(tmp_path, "a,b\n1,2\n", header=False, **wrong))


def test_a_limit_stops_before_what_is_wrong_further_on(tmp_path: Path) -> None:
    content = "a,b\n" + f"1,{'x' * 60}\n" * 200_000 + '1,2,3\n1,"x\n'
    assert len(rows(source(tmp_path, content, rows=10))) == 10


def test_batches_are_bounded_and_wide_tables_are_read(tmp_path: Path) -> None:
    tall = source(tmp_path, "a\n" + "1\n" * 25_000)
    assert max(batch.num_rows for batch in tall.read()) == 10_000
    names = ",".join(f"c{i}" for i in range(3_000))
    wide = source(tmp_path, f"{names}\n" + f"{','.join('1' * 3_000)}\n" * 3, label="d")
    assert len(refusal(wide)) < 1_000
    assert len(rows(wide.model_copy(update={"label": "c7"}))) == 3


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_what_a_strict_writer_writes_is_read_back(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    text = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in cells)
    read = pa.Table.from_batches(source(tmp_path, "a,b\n" + text, missing=[]).read()).to_pylist()
    assert read == [{"a": trimmed(a), "b": trimmed(b)} for a, b in cells]


def trimmed(text: str) -> str:
    return text.strip(" \t\n\r\v\f")


def test_a_header_without_a_line_end_holds_no_rows(tmp_path: Path) -> None:
    assert "holds no rows" in refusal(source(tmp_path, "a,b"))


def test_the_place_of_a_nul_is_named(tmp_path: Path) -> None:
    assert "near byte 10," in refusal(source(tmp_path, b"a,b\n1,2\n3,\0\n"))


def test_a_quoted_text_that_is_too_long_is_refused_for_its_length(tmp_path: Path) -> None:
    sentence = refusal(source(tmp_path, 'a,b\n"' + "word " * 40_000 + '",2\n'))
    assert "quoted field of more than 128 KiB" in sentence


def test_a_name_with_a_line_end_stays_on_the_one_line_of_a_refusal(tmp_path: Path) -> None:
    assert r"'a\nb'" in refusal(source(tmp_path, '"a\nb","a\nb"\n1,2\n'))
