"""Consumer smoke: the folder about to be published opens with the tools its readers have."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow.parquet as pq

from augment._layout import CARD, ORIGIN, PARTS
from augment._manifest import Counts
from augment.checks._contract import Check, Evidence, Finding, Learned
from augment.errors import AugmentError
from augment.gates import GateResult, plural
from augment.schema import DatasetSchema

if TYPE_CHECKING:
    from augment.reader import Dataset

WHOLE_BYTES = 16 * 1024**2  # larger folders are opened in part by the readers that would load all of them
BATCH_ROWS = 10_000

Rows = dict[str, int]  # rows by part: real, synthetic, validation, test


@dataclass(frozen=True)
class _Staged:
    """A folder before it has a manifest; ``whole`` says whether it is small enough to be loaded whole."""

    folder: Path
    schema: DatasetSchema
    whole: bool
    cache: Path  # for what readers unpack; goes when the audit ends

    def dataset(self) -> Dataset:
        """The folder through our own reader, in audit mode."""
        from augment.reader import open_staged_dataset

        return open_staged_dataset(self.folder, self.schema, cache_dir=self.cache)


class ConsumerSmoke(Check):
    """Refuses a folder that a reader cannot open, or that counts differently from its manifest."""

    kind: Literal["consumer_smoke"] = "consumer_smoke"
    summary: ClassVar[str] = "the staged folder opens with its readers, which all count the same rows"
    mandatory: ClassVar[bool] = True
    at_publication: ClassVar[bool] = True

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """Nothing: the folder is there only once it is staged; see :func:`open_staged`."""
        return Finding("The staged folder has not been opened.", applies=False)


def open_staged(folder: Path, schema: DatasetSchema, counts: Counts) -> GateResult:
    """Whether every reader opens the staged ``folder`` and counts the rows that its manifest will claim, ``counts``.

    pyarrow reads all columns in a stream. The others load all of a folder up to 64 MiB, and of a larger one a file of
    each part or the first row, so that publishing stays within its memory. Whatever a reader raises becomes the
    sentence.
    """
    opened, troubles = [], []
    try:
        expected = _expected(counts)
        whole = sum(path.stat().st_size for part in PARTS for path in part.files(folder)) <= WHOLE_BYTES
    except Exception as error:  # noqa: BLE001 - a folder that cannot even be counted is what this gate is for
        return _result(1, f"The staged folder cannot be counted: {_said(error)}.")
    with tempfile.TemporaryDirectory(prefix="augment-") as cache:
        staged = _Staged(folder, schema, whole, Path(cache))
        for name, read in READERS.items():
            try:
                counted = read(staged)
            except Exception as error:  # noqa: BLE001 - whatever a reader raises is the finding
                troubles.append(f"{name} cannot open the staged folder: {_said(error)}")
                continue
            if counted is None:
                continue
            opened.append(name)
            wrong = {part: rows for part, rows in counted.items() if rows != expected[part]}
            for part, rows in wrong.items():
                troubles.append(f"{name} counts {plural(rows, 'row')} in {part}, which holds {expected[part]:,}")
    if troubles:
        return _result(len(troubles), f"{'; '.join(troubles)}.")
    total = plural(sum(expected.values()), "row")
    return _result(0, f"{', '.join(opened)} opened the staged folder and found all of its {total}.")


def _result(troubles: int, sentence: str) -> GateResult:
    return GateResult(
        gate="consumer_smoke",
        value=troubles,
        floor=None,
        limit=0,
        severity="critical",
        passed=troubles == 0,
        sentence=sentence,
    )


def _said(error: Exception) -> str:
    """What an error says, on one line and without the last full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    said = lines[0].rstrip(".")
    return said if isinstance(error, AugmentError) else f"{type(error).__name__}: {said}"


def _expected(counts: Counts) -> Rows:
    """The rows of each part, all classes together."""
    return {part.name: sum(rows[ORIGIN[part.is_synthetic]] for rows in counts[part.split].values()) for part in PARTS}


def _with_pyarrow(staged: _Staged) -> Rows | None:
    """Every column of every file, a batch at a time."""
    rows: Counter[str] = Counter({part.name: 0 for part in PARTS})
    for part in PARTS:
        for path in part.files(staged.folder):
            with pq.ParquetFile(path) as file:
                lacking = set(staged.schema.arrow_schema.names) - set(file.schema_arrow.names)
                if lacking:
                    raise ValueError(f"{path.name} lacks the column '{min(lacking)}'")
                for batch in file.iter_batches(BATCH_ROWS):
                    rows[part.name] += batch.num_rows
    return dict(rows)


def _with_pandas(staged: _Staged) -> Rows | None:
    """The training rows as the card reads them: ``pandas.read_parquet("data")``."""
    import pandas as pd

    if not staged.whole:
        for part in PARTS[:2]:
            for path in sorted(part.files(staged.folder), key=lambda path: path.stat().st_size)[:1]:
                pd.read_parquet(path, columns=["is_synthetic", "sample_weight"])  # images would become objects
        return {}
    synthetic = pd.read_parquet(staged.folder / "data")["is_synthetic"]
    return {"real": int((~synthetic).sum()), "synthetic": int(synthetic.sum())}


def _with_torch(staged: _Staged) -> Rows | None:
    """Our reader in audit mode, and a batch drawn by sample weight as the card draws it."""
    dataset = staged.dataset()
    if not staged.whole:
        return {}
    train = dataset.torch("train")
    next(iter(train.loader(batch_size=64, seed=0)))
    synthetic = int(train.is_synthetic.sum())
    return {"real": len(train) - synthetic, "synthetic": synthetic}


def _with_datasets(staged: _Staged) -> Rows | None:
    """The configurations of the card through Hugging Face ``datasets``; null where it is not installed."""
    if importlib.util.find_spec("datasets") is None:
        return None
    import datasets

    from augment.reader import without_hub

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        if not staged.whole:
            with without_hub():
                next(iter(datasets.load_dataset(str(staged.folder), "augmented", split="train", streaming=True)))
            return {}
        loaded = staged.dataset().hf("augmented")
        synthetic = sum(loaded["train"].with_format("arrow")["is_synthetic"][:].to_pylist())
        rows = {"real": loaded["train"].num_rows - synthetic, "synthetic": synthetic}
        return rows | {name: loaded[name].num_rows for name in ("validation", "test") if name in loaded}
    finally:
        if shown:
            datasets.enable_progress_bars()


def _with_card(staged: _Staged) -> Rows | None:
    """The files that the card's configurations name are there."""
    import yaml

    head = (staged.folder / CARD).read_text(encoding="utf-8").split("---\n")[1]
    for config in yaml.safe_load(head)["configs"]:
        for entry in config["data_files"]:
            for pattern in [entry["path"]] if isinstance(entry["path"], str) else entry["path"]:
                if not any(staged.folder.glob(pattern)):
                    raise ValueError(f"the configuration {config['config_name']} names {pattern}, which is not there")
    return {}


READERS: dict[str, Callable[[_Staged], Rows | None]] = {
    "pyarrow": _with_pyarrow,
    "pandas": _with_pandas,
    "torch": _with_torch,
    "datasets": _with_datasets,
    "the card": _with_card,
}
