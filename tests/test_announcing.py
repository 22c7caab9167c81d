"""What others see of a run that ended, and that nobody has to see it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from _small_store import gate

from augment.publishing import Publication
from flows import announcing

SAID = ("create_markdown_artifact", "create_table_artifact", "create_image_artifact", "_materialise", "emit_event")


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    (tmp_path / "MANIFEST.json").write_text("{}")
    (tmp_path / "samples.png").write_bytes(b"picture")
    return Publication(
        status="published", dataset="wine", version="1-abc", path=str(tmp_path), verdict="blessed",
        rows={"red": {"real": 8, "synthetic": 5}}, gates=[gate("lineage"), gate("structure", passed=None)],
        report=None, picture=str(tmp_path / "samples.png"), seconds=1.0,
    )  # fmt: skip


def test_what_prefect_does_not_take_is_logged_and_the_rest_is_told(
    publication: Publication, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def refuse(name: str) -> Any:
        def call(*_: Any, **__: Any) -> None:
            told.append(name)
            raise ConnectionError("gone")

        return call

    monkeypatch.setattr(announcing, "get_run_logger", lambda: logging.getLogger("told"))
    for name in SAID:
        monkeypatch.setattr(announcing, name, refuse(name))
    announcing.announce(publication, {"red": 6})
    assert told == list(SAID)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * len(SAID)


def test_the_summary_says_what_was_wanted_and_what_came(publication: Publication) -> None:
    text = announcing.summary(publication, {"red": 6})
    assert "| red | 8 | 6 | 5 | 13 |" in text
    assert "blessed" in text
    assert publication.path in text


def test_the_gate_table_uses_the_words_of_the_report(publication: Publication) -> None:
    assert [row["verdict"] for row in announcing.gate_rows(publication)] == ["passed", "not judged"]
