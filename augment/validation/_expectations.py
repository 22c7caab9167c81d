"""Great Expectations, kept at arm's length: plain expectations and a frame in, one plain verdict each out.

The library is started once a process with an ephemeral context, without progress bars and without reporting home. It
has one global project, so a lock stands around every use. Each call hashes the whole frame; therefore one call judges
all expectations of a table, and only the columns that an expectation names are handed over.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from augment.checks._contract import Expect, Judged

if TYPE_CHECKING:
    import pandas as pd

GateExpect = tuple[str, Expect]  # the gate that an expectation belongs to, and the expectation

_LOCK = threading.Lock()
ROW_COUNT = "ExpectTableRowCountToBeBetween"


def judge(table: str, frame: pd.DataFrame, expectations: Sequence[GateExpect]) -> list[Judged]:
    """The verdict on each expectation, in the same order.

    An expectation that cannot be judged (a column is missing, a value has the wrong type) has not passed, and says
    why. A frame without rows passes no expectation: the library itself would pass all that look at values.

    Raises:
        RuntimeError: the library did not answer for every expectation.
    """
    if not expectations:
        return []
    named = {expectation.column for _, expectation in expectations}
    given = frame[[column for column in frame.columns if column in named]].reset_index(drop=True)
    if not len(given.columns):
        given = frame.iloc[:, :1].reset_index(drop=True)  # a table-wide expectation alone still counts the rows
    with _LOCK:
        suite = _suite(table, expectations)
        batch = _frames().get_batch(batch_parameters={"dataframe": given})
        results = batch.validate(suite, result_format="BASIC").results
    by_place = {result.expectation_config.meta["place"]: result for result in results}
    if len(results) != len(expectations) or len(by_place) != len(expectations):
        raise RuntimeError(f"{len(expectations)} expectations of {table} got {len(results)} answers")
    return [_judged(gate, e, by_place[place], len(frame)) for place, (gate, e) in enumerate(expectations)]


def resolved_suite(table: str, expectations: Sequence[GateExpect]) -> dict[str, Any]:
    """The suite as Great Expectations writes it, with every limit filled in and without ids, ready for JSON."""
    with _LOCK:
        written: dict[str, Any] = _suite(table, expectations).to_json_dict()
    return _without_ids(written)  # type: ignore[no-any-return]


@cache
def _frames() -> Any:
    """The batch definition that takes any frame; called under the lock."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import; versions before 1.24 sent events by default
    with warnings.catch_warnings():
        # The library still imports modules of Python that are on their way out.
        warnings.filterwarnings("ignore", "module 'sre_(constants|parse)' is deprecated", DeprecationWarning)
        import great_expectations as gx
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

    # Without its own settings the context makes a folder for pages outside of the store.
    settings = DataContextConfig(store_backend_defaults=InMemoryStoreBackendDefaults())
    context = gx.get_context(mode="ephemeral", project_config=settings)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("augment").add_dataframe_asset("tables")
    return asset.add_batch_definition_whole_dataframe("table")


def _suite(table: str, expectations: Sequence[GateExpect]) -> Any:
    """The suite of ``table``; the place in ``meta`` tells equal expectations of two gates apart."""
    _frames()
    import great_expectations as gx

    built = [
        getattr(gx.expectations, expectation.type)(
            **expectation.arguments, meta={"gate": gate, "place": place}, severity="critical"
        )
        for place, (gate, expectation) in enumerate(expectations)
    ]
    return gx.ExpectationSuite(table, expectations=built)


def _judged(gate: str, expectation: Expect, result: Any, num_rows: int) -> Judged:
    """The plain form of a result of the library."""
    counts = result.result
    trouble = _trouble(result.exception_info)
    if trouble is None and num_rows == 0 and expectation.type != ROW_COUNT:
        trouble = "there are no rows"
    return Judged(
        gate=gate,
        type=expectation.type,
        column=expectation.column,
        passed=bool(result.success) and trouble is None,
        trouble=trouble,
        rows=_count(counts.get("element_count")),
        missing=_count(counts.get("missing_count")),
        unexpected=_count(counts.get("unexpected_count")),
    )


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _trouble(info: Any) -> str | None:
    """The message of the exception in a result; it lies directly in ``info``, or one level down by metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry["raised_exception"]:
            return str(entry["exception_message"]).strip().partition("\n")[0]
    return None


def _without_ids(value: Any) -> Any:
    """JSON values without the keys whose content is random."""
    if isinstance(value, dict):
        return {key: _without_ids(content) for key, content in value.items() if key not in ("id", "place")}
    if isinstance(value, list):
        return [_without_ids(content) for content in value]
    return value
