"""The rounds in which rows are drawn: first all that the plan wants, then again those that were rejected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from augment.store import ArtifactRef, Store

if TYPE_CHECKING:
    from augment.config import GenerateSection
    from augment.generation import ShardRequest


def missing_rows(wanted: Mapping[str, int], accepted: Mapping[str, int]) -> dict[str, int]:
    """Rows that each class still lacks, in the order of ``wanted``; classes that lack none are left out."""
    return {name: rows - accepted.get(name, 0) for name, rows in wanted.items() if rows > accepted.get(name, 0)}


def round_requests(
    section: GenerateSection,
    model: ArtifactRef,
    wanted: Mapping[str, int],
    judged: Sequence[ArtifactRef],
    number: int,
    store: Store,
) -> list[ShardRequest]:
    """The shards of round ``number``: together the rows that ``wanted`` says and ``judged`` did not accept so far, or
    as many of them as are left where the rows are given and none can be drawn.

    Raises:
        StoreError: the model or a judgement is not in the store.
    """
    from augment.generation import default_shard_rows, shard_requests
    from augment.given.drawing import taken_requests
    from augment.given.taking import supply_of
    from augment.validation import accepted_counts
    from models._contract import TensorSpec

    missing = missing_rows(wanted, accepted_counts(list(judged), store) if judged else {})
    supply = supply_of(model, store)
    if supply is not None:
        return taken_requests(section, model, supply, missing, judged, number, store)
    shard_rows = section.shard_rows
    if shard_rows is None:
        record = json.loads((store.path(model) / "model.json").read_text())
        shard_rows = default_shard_rows(TensorSpec.from_json(record["spec"]))
    return shard_requests(missing, number, shard_rows)
