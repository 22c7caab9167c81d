"""Faults on the command line: exit status 3, where the rows are kept, and the gate's name with its sentence."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from _fault_rows import Rows, digits, orchard
from _faults import OF_IMAGES, OF_TABLES, Case, Court, clean
from _processes import augment, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def said_by(folder: Path, *arguments: str | Path) -> tuple[int, str]:
    """The exit status of `augment run` and what it prints."""
    env = environment(folder / "prefect")
    command = augment("run", *arguments)
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def run_file(folder: Path, rows: Rows, case: Case) -> Path:
    """The run file that audits what a fault makes of the rows."""
    court = Court(folder, rows)
    content = court.config(court.made(case.make)).model_dump(mode="json", exclude={"store"})
    path = folder / "run.yaml"
    path.write_text(json.dumps(content | {"store": str(folder / "store")}))
    return path


def refused_by(printed: str) -> dict[str, str]:
    """The sentence of each gate that failed critically."""
    return dict(re.findall(r"^ +(\w+) \(critical\): (.+)$", printed, re.MULTILINE))


@pytest.mark.parametrize(
    ("rows", "case"),
    [
        pytest.param(lambda: digits(classes=5), OF_IMAGES["noisy copies"], id="noisy copies of images"),
        pytest.param(lambda: digits(classes=5), OF_IMAGES["wrong labels"], id="wrong labels of images"),
        pytest.param(orchard, OF_TABLES["shuffled column"], id="shuffled column"),
        pytest.param(orchard, OF_TABLES["test rows"], id="test rows"),
    ],
)
def test_a_faulty_set_is_refused_by_name_and_kept_in_quarantine(rows: object, case: Case, tmp_path: Path) -> None:
    status, printed = said_by(tmp_path, run_file(tmp_path, rows(), case))  # type: ignore[operator]
    assert status == 3
    assert case.gate in refused_by(printed)
    assert refused_by(printed)[case.gate].endswith(".")
    assert "not blessed, nothing is published" in printed
    quarantine = Path(re.search(r"^kept at +(.+)$", printed, re.MULTILINE)[1])  # type: ignore[index]
    assert quarantine.parent.name == "quarantine"
    assert (quarantine / "NOT_BLESSED").exists()
    assert not (tmp_path / "store/datasets/judged/_latest.json").exists()


def test_fresh_real_rows_are_published(tmp_path: Path) -> None:
    status, printed = said_by(tmp_path, run_file(tmp_path, orchard(), Case(clean, "")))
    assert status == 0
    assert refused_by(printed) == {}
    assert (tmp_path / "store/datasets/judged/_latest.json").exists()


def test_a_generator_of_fifty_steps_is_refused(tmp_path: Path) -> None:
    """The packaged example with a thirtieth of its training."""
    status, printed = said_by(
        tmp_path, "--store", tmp_path / "store", "--set", "train.steps=50", "--set", "worth.seeds=0"
    )
    assert status == 3
    assert set(refused_by(printed)) & {"sample_quality", "label_agreement", "marginals", "coverage"}
    assert re.search(r"^kept at +.+/quarantine/.+$", printed, re.MULTILINE)
