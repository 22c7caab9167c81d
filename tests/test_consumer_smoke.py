from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from _judged_sets import TABLE, Trial, table_rows
from _small_store import small_report

from augment import validation
from augment._manifest import Manifest
from augment.checks import consumer_smoke
from augment.checks.consumer_smoke import open_staged
from augment.gates import GateResult
from augment.progress import Progress
from augment.publishing import Publication, RunContext, publish
from augment.publishing._assembly import Assembly, write_parts

# Hugging Face datasets and torch take seconds to import.
pytestmark = pytest.mark.slow


def published(trial: Trial, run_id: str = "run-1") -> Publication:
    shard = trial.shard(table_rows(100, 50, synthetic=True))
    wanted = {"apple": 50, "pear": 50}
    reference, judged, checks = trial.judge([shard])
    audit = validation.conclude(trial.real, reference, trial.model, wanted, [shard], judged, checks, trial.store)
    context = RunContext(run_id=run_id, equal_class_mass=True)
    return publish(
        "fruit", trial.real, trial.model, [shard], judged, audit,
        context=context, store=trial.store, report_writer=small_report,
    )  # fmt: skip


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = published(Trial.of_tables(tmp_path_factory.mktemp("store")))
    smoke = next(gate for gate in result.gates if gate.gate == "consumer_smoke")
    assert smoke.sentence == (
        "pyarrow, pandas, torch, datasets, the card opened the staged folder and found all of its 500 rows."
    )
    assert result.status == "published"
    return Path(result.path)


@pytest.fixture
def folder(version: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(version, tmp_path / "staged"))


def opened(folder: Path) -> GateResult:
    return open_staged(folder, TABLE, Manifest.load(folder).counts)


def rewritten(path: Path, change: str) -> None:
    table = pq.read_table(path)
    if change == "column":
        table = table.drop_columns(["size"])
    elif change == "origin":
        place = table.schema.get_field_index("is_synthetic")
        table = table.set_column(place, table.schema.field(place), [[False] * table.num_rows])
    elif change == "rows":
        table = table.slice(1)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("column", "lacks the column 'size'"),
        ("origin", "the column is_synthetic says otherwise"),
        ("rows", "counts 99 rows in synthetic, which holds 100"),
    ],
)
def test_altered_rows_are_found(folder: Path, change: str, words: str) -> None:
    rewritten(folder / "data" / "synthetic" / "train-00000.parquet", change)
    result = opened(folder)
    assert result.passed is False
    assert words in result.sentence


def test_a_broken_file_is_a_sentence_and_no_exception(folder: Path) -> None:
    path = folder / "data" / "real" / "train-00000.parquet"
    path.write_bytes(path.read_bytes()[:200])
    result = opened(folder)
    assert result.passed is False
    assert result.sentence.startswith("pyarrow cannot open the staged folder: ")


def test_a_card_that_names_absent_files_is_found(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("data/synthetic/train-*", "data/synthetic/rows-*"))
    assert "which is not there" in opened(folder).sentence


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    assert open_staged(tmp_path / "absent", TABLE, {}).passed is False


def test_a_folder_that_differs_from_what_its_manifest_will_claim_is_found(folder: Path) -> None:
    claimed = Manifest.load(folder).counts
    claimed["train"]["pear"]["real"] += 1
    result = open_staged(folder, TABLE, claimed)
    assert result.passed is False
    assert "pyarrow counts 300 rows in real, which holds 301" in result.sentence


def test_a_publication_that_loses_a_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(assembly: Assembly, folder: Path, progress: Progress) -> None:
        write_parts(assembly, folder, progress)
        rewritten(folder / "data" / "synthetic" / "train-00000.parquet", "rows")

    monkeypatch.setattr("augment.publishing.write_parts", losing)
    result = published(Trial.of_tables(tmp_path))
    assert result.status == "refused"
    smoke = next(gate for gate in result.gates if gate.gate == "consumer_smoke")
    assert "counts 99 rows in synthetic, which holds 100" in smoke.sentence


def test_a_count_that_makes_no_sense_is_a_sentence(folder: Path) -> None:
    assert open_staged(folder, TABLE, {}).sentence == "The staged folder cannot be counted: KeyError: 'train'."


def test_a_large_folder_is_opened_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_smoke, "WHOLE_BYTES", 1)
    assert opened(folder).passed


def test_datasets_need_not_be_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = opened(folder)
    assert result.passed
    assert "datasets" not in result.sentence
