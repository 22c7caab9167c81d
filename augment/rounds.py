"""The rounds in which rows are drawn: first all that the plan wants, then again those that were rejected.

Where rows are selected most may be left out, and as many again would leave the same share missing, round after round.
Later rounds then draw what is missing over the share that was accepted so far, and somewhat more: what is selected
beyond the plan is left out, and the number of rounds stays what it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from augment.store import ArtifactRef, Store

if TYPE_CHECKING:
    from augment.config import GenerateSection
    from augment.generation import ShardRequest

LEAST_RATE = 0.05  # of acceptance that is reckoned with: a round draws at most about 20 times what is missing


def missing_rows(wanted: Mapping[str, int], accepted: Mapping[str, int]) -> dict[str, int]:
    """Rows that each class still lacks, in the order of ``wanted``; classes that lack none are left out."""
    return {name: rows - accepted.get(name, 0) for name, rows in wanted.items() if rows > accepted.get(name, 0)}


def rows_to_ask(missing: Mapping[str, int], drawn: Mapping[str, int], accepted: Mapping[str, int]) -> dict[str, int]:
    """Rows of each class to draw so that the ``missing`` ones are probably among those accepted.

    ``drawn`` and ``accepted`` are rows so far. With p the share that is accepted, n draws hold m accepted ones or more
    where n p exceeds m by two standard deviations, about sqrt(m (1 - p)) each.
    """
    asked = {}
    for name, rows in missing.items():
        rate = max(LEAST_RATE, (accepted.get(name, 0) + 1) / (drawn.get(name, 0) + 2))  # of no draws, one half
        asked[name] = math.ceil((rows + 2 * math.sqrt(rows * (1 - rate))) / rate)
    return asked


def round_requests(
    section: GenerateSection,
    model: ArtifactRef,
    wanted: Mapping[str, int],
    judged: Sequence[ArtifactRef],
    number: int,
    store: Store,
) -> list[ShardRequest]:
    """The shards of round ``number``: together the rows that ``wanted`` says and ``judged`` did not accept so far, more
    of them where rows are selected, or as many as are left where the rows are given and none can be drawn.

    Raises:
        StoreError: the model or a judgement is not in the store.
    """
    from augment.generation import default_shard_rows, shard_requests
    from augment.given.drawing import taken_requests
    from augment.given.taking import supply_of
    from augment.validation import accepted_counts, drawn_counts
    from models._contract import TensorSpec

    accepted = accepted_counts(judged, store)
    missing = missing_rows(wanted, accepted)
    if section.select.shares and judged:
        missing = rows_to_ask(missing, drawn_counts(judged, store), accepted)
    supply = supply_of(model, store)
    if supply is not None:
        return taken_requests(section, model, supply, missing, judged, number, store)
    shard_rows = section.shard_rows
    if shard_rows is None:
        record = json.loads((store.path(model) / "model.json").read_text())
        shard_rows = default_shard_rows(TensorSpec.from_json(record["spec"]))
    return shard_requests(missing, number, shard_rows)
