"""One new file in augment/columns is a new kind of column, everywhere."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]

# Another process with torch, and the readers of a publication: seconds.
pytestmark = pytest.mark.slow


def test_a_kind_is_one_new_file_from_the_source_to_the_reader(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "augment", tmp_path / "augment", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "tests/duration_kind.py", tmp_path / "augment/columns/duration.py")
    waits = [None if i % 7 == 3 else dt.timedelta(seconds=(i * 37) % 13, milliseconds=250) for i in range(90)]
    sizes = [(i * 53 % 11) / 100 for i in range(90)]
    table = {"wait": pa.array(waits, pa.duration("ms")), "size": sizes, "species": ["ant", "bee", "cow"] * 30}
    pq.write_table(pa.table(table), tmp_path / "waits.parquet")
    command = [sys.executable, str(ROOT / "tests/kind_line.py"), str(tmp_path), "waits.parquet", "duration"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=300
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert (found["column"], found["type"], found["reason"]) == ("wait", "duration", "it holds durations")
    assert (found["came_back"], found["same_hashes"]) == (True, True)
    assert found["other_hashes"] > 1
    assert found["measures"] == ["feature.wait", "feature.size"]
    assert found["faults"] == ["not_finite"]
    assert found["status"] == "published"
    assert found["consumer"].startswith("pyarrow, pandas, torch, datasets, the card opened the staged folder")
    assert sorted(found["drawn"]) == ["size", "wait"]
    assert len(found["rows"]) == 63
    seconds = [np.nan if (wait := waits[row]) is None else wait.total_seconds() for row in found["rows"]]
    assert found["torch"] == pytest.approx(seconds, nan_ok=True)
    assert (found["pandas"], found["hf"]) == ("timedelta64[us]", "Value('duration[us]')")
    assert found["croissant"] == "sc:Duration"
