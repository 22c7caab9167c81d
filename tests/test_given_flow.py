"""`augment run` with rows from files, as a process of its own: its exit status, and what it says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from _given_rows import fruit_config, fruit_rows, write_csv
from _processes import LENIENT, augment, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def test_a_run_of_files_is_published_refused_or_told_what_is_wrong(tmp_path: Path) -> None:
    write_csv(fruit_rows(200, 2), tmp_path / "made.csv")
    content = fruit_config(tmp_path, {"path": "made.csv"}).model_dump(mode="json", exclude={"store"})
    content |= {"store": "store", "checks": LENIENT, "worth": {"seeds": 2, "gate": "report"}}
    (tmp_path / "run.yaml").write_text(json.dumps(content))

    def run(*more: str) -> tuple[int, dict[str, Any]]:
        command = augment("run", tmp_path / "run.yaml", "--json", *more)
        env = environment(tmp_path / "prefect")
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    status, published = run()
    assert (status, published["status"]) == (0, "published")
    assert published["rows"] == {name: {"real": 105, "synthetic": 40} for name in ("apple", "pear")}
    assert Path(published["report"]).is_file()
    assert run()[1]["status"] == "unchanged"
    status, refused = run("--set", "plan.counts={apple: 120, pear: 10}")
    assert (status, refused["status"]) == (3, "refused")
    failed = [g["gate"] for g in refused["gates"] if g["passed"] is False and g["severity"] == "critical"]
    assert failed == ["class_plan"]
    status, said = run("--set", "model.path=none.csv")
    assert (status, said["error"]["kind"]) == (2, "InputError")
    assert said["error"]["message"] == f"{tmp_path}/none.csv does not exist; check model.path."
