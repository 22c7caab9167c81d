"""Lineage: the synthetic rows come from this model, and the model from these training rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, bounded
from augment.checks._hashes import contained, save_sorted
from augment.checks._real import HELD_OUT, RealRows
from augment.store import ArtifactRef


class Lineage(Check):
    """Refuses rows whose origin is not what the artifacts say, and a model that may have seen held-out rows.

    Artifacts are compared by what they contain. Their keys may differ: a setting that changes nothing gives equal bytes
    another key, and a model or judgement from the cache still names the first one.
    """

    kind: Literal["lineage"] = "lineage"
    summary: ClassVar[str] = "every synthetic row comes from this model, which was trained on these training rows only"
    mandatory: ClassVar[bool] = True
    stops: ClassVar[bool] = True

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """How many training rows have the content of a held-out row."""
        ordered = folder / "held_out.npy"
        save_sorted(ordered, real.hashes(*HELD_OUT), real.num_rows(*HELD_OUT))
        held_out = np.load(ordered, mmap_mode="r")
        shared = sum(int(contained(hashes, held_out).sum()) for hashes in real.hashes("train"))
        del held_out
        ordered.unlink()
        return {"train_rows_held_out": shared}

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The number of broken links from the synthetic rows back to the training rows; none is allowed."""
        broken = [*self._model_links(evidence), *self._shard_links(evidence)]
        shared = int(learned.figures["train_rows_held_out"])
        if shared:
            broken.append(f"{shared:,} training rows have the same content as a validation or test row")
        sentence = (
            f"The lineage is broken: {'; '.join(broken)}."
            if broken
            else f"Every synthetic row comes from generator {evidence.model.sha256[:12]}, which saw training rows only."
        )
        return Finding(
            sentence,
            value=len(broken),
            limit=0,
            metrics={"broken_links": len(broken)},
            set_expectations=bounded("lineage.broken_links", 0, 0),
        )

    def _model_links(self, evidence: Evidence) -> Iterator[str]:
        """What does not fit between the model and the real data."""
        model = json.loads((evidence.model_path / "model.json").read_text())
        ingested = json.loads((evidence.real_path / "ingest.json").read_text())
        if _content(ArtifactRef.model_validate(model["real"])) != _content(evidence.real):
            yield "the model was trained on other real data"
        if not model.get("train_rows_sha256") or model["train_rows_sha256"] != ingested["train_rows_sha256"]:
            yield "the model's training rows are not the training part"

    def _shard_links(self, evidence: Evidence) -> Iterator[str]:
        """What does not fit between the shards, what was judged, and the model."""
        if [_content(record.shard) for record in evidence.records] != [_content(shard) for shard in evidence.shards]:
            yield "the shards that were judged are not the shards that were drawn"
        expected = evidence.model.sha256[:12]
        others = {name for record in evidence.records for name in record.generator_ids} - {expected}
        if others:
            yield f"rows name another generator ({', '.join(sorted(others)[:3])}) than {expected}"


def _content(ref: ArtifactRef) -> tuple[str, str]:
    """What tells one artifact's content from another's."""
    return ref.stage, ref.sha256
