"""What the columns of a source are: kinds, types and classes, inferred from one pass over its rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from augment.columns import KINDS
from augment.columns._storage import natural_type, refuse_not_finite, stored
from augment.columns._summary import PLAIN_FAMILIES, ColumnSummary
from augment.columns.ignore import why_no_category
from augment.errors import InputError, did_you_mean
from augment.schema import ClassValue, ColumnSchema, DatasetSchema, KindName

MOST_CLASSES = 1_000
EXACT = 2**53  # up to here floating point holds every whole number


class Inferred(NamedTuple):
    """The schema of a source, and sentences about it that a person should read."""

    schema: DatasetSchema
    notes: list[str]


def infer_schema(
    batches: Iterable[pa.RecordBatch],
    *,
    label: str | None,
    declared: Mapping[str, KindName],
    where: str,
    set_aside: Mapping[str, str] | None = None,
    parse_text: bool = True,
) -> Inferred:
    """The schema that fits all rows of ``batches``, in bounded memory.

    ``declared`` kinds go before inferred ones; the columns in ``set_aside`` are ignored for the reason given there
    unless they are declared. With ``parse_text`` false, text is never taken for numbers.

    Raises:
        InputError: a named column is absent, a column or the label cannot be used, or there is nothing to learn from.
    """
    summaries = _summaries(batches, where, parse_text)
    _refuse_absent(summaries, label, declared, where)
    reasons = set_aside or {}
    columns, notes = [], []
    for name, summary in summaries.items():
        if name == label:
            column, classes, note = _label_column(summary, declared.get(name))
            notes += note
        else:
            column = _column(summary, declared.get(name), reasons.get(name))
            if column.kind == "ignore" and name not in declared and name not in reasons:
                notes.append(f"the column '{name}' is ignored: {column.reason}")
        columns.append(column)
    schema = DatasetSchema(columns=tuple(columns), label=label, classes=classes if label else ())
    _refuse_nothing_to_learn(schema, summaries, where)
    return Inferred(schema, notes)


def conform(batch: pa.RecordBatch, schema: DatasetSchema, where: str = "the data") -> pa.RecordBatch:
    """``batch`` with the columns of ``schema`` in its order and types; images as plain PNG.

    Raises:
        InputError: a column is absent, or a value cannot be stored in its type.
    """
    given = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays = []
    for column in schema.columns:
        if column.name not in given:
            raise InputError(f"{where} lacks the column '{column.name}'; give all parts of the data the same columns.")
        arrays.append(stored(given[column.name], column, where))
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow_schema)


def _summaries(batches: Iterable[pa.RecordBatch], where: str, parse_text: bool) -> dict[str, ColumnSummary]:
    summaries: dict[str, ColumnSummary] = {}
    for batch in batches:
        if not summaries:
            summaries = {f.name: ColumnSummary(f.name, f.type, where, parse_text) for f in batch.schema}
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name, summary in summaries.items():
            if name not in columns:
                raise InputError(f"{where} lacks the column '{name}' in some rows; give all parts the same columns.")
            summary.add(columns[name])
    if not any(summary.rows for summary in summaries.values()):
        raise InputError(f"{where} holds no rows; give a source with rows.")
    return summaries


def _refuse_absent(
    summaries: Mapping[str, ColumnSummary], label: str | None, declared: Mapping[str, KindName], where: str
) -> None:
    """Refuse a label or a declared column that is not there."""
    if label is not None and label not in summaries:
        raise InputError(f"the label column '{label}' is not in {where}{did_you_mean(label, summaries)}")
    for name in declared:
        if name not in summaries:
            hint = did_you_mean(name, summaries)
            raise InputError(f"source.columns names '{name}', which is no column of {where}{hint}")


def _column(summary: ColumnSummary, declared: KindName | None, reason: str | None) -> ColumnSchema:
    """The schema of a column that is not the label."""
    kind: str | None = declared
    if declared is not None:
        reason = "declared"
    elif reason is not None:
        kind = "ignore"
    else:
        offers = ((name, cls.recognise(summary)) for name, cls in KINDS.items())
        kind, reason = next(((name, why) for name, why in offers if why), ("ignore", None))
        reason = reason or why_no_category(summary)
    stored_type, decimals = KINDS[kind or "ignore"].storage(summary)
    values: dict[str, Any] = {"kind": kind, "type": stored_type, "decimals": decimals}
    return ColumnSchema(name=summary.name, reason=reason, **values)


def _label_column(
    summary: ColumnSummary, declared: KindName | None
) -> tuple[ColumnSchema, tuple[ClassValue, ...], list[str]]:
    """The label's schema, its classes (sorted), and what is to be said about it.

    Raises:
        InputError: its values are no classes.
    """
    name, where = summary.name, summary.where
    if declared is not None and not KINDS[declared].may_label:
        raise InputError(
            f"source.columns declares the label column '{name}' of {where} to be {declared}, and a label is a class; "
            "declare it categorical, or leave it out."
        )
    if summary.family not in PLAIN_FAMILIES or not summary.present:
        holds = f"{summary.family}s" if summary.present else "only missing values"
        raise InputError(f"the label column '{name}' of {where} holds {holds}; choose a column with classes.")
    notes = []
    stored_type = natural_type(summary)
    measures = summary.numbers and not summary.digits_only and declared not in ("categorical", "boolean")
    if measures or summary.family == "float":
        # Whole numbers with missing ones among them become floats in many a tool.
        refuse_not_finite(summary)
        if not all(float(value).is_integer() and abs(float(value)) <= EXACT for value in summary.distinct or (0.5,)):
            raise InputError(
                f"the label column '{name}' of {where} holds numbers with decimals, or beyond 2^53, and a label is a "
                "class; choose a column with classes, or make whole numbers or text of it."
            )
        stored_type = "int64"
        notes = [f"the label column '{name}' holds whole numbers as floating point and is stored as integers"]
    if summary.distinct is None or len(summary.distinct) > MOST_CLASSES:
        raise InputError(
            f"the label column '{name}' of {where} has {summary.counted} different values, more than the "
            f"{MOST_CLASSES} classes allowed; choose a column with classes."
        )
    classes = sorted({_as_class(value, stored_type) for value in summary.distinct})
    notes += _alike_notes(name, [value for value in classes if isinstance(value, str)])
    values: dict[str, Any] = {"kind": "categorical", "type": stored_type}
    return ColumnSchema(name=name, reason="the label", **values), tuple(classes), notes


def _alike_notes(name: str, classes: list[str]) -> list[str]:
    """Sentences about classes that a reader takes for one: those that differ in case, blanks, Unicode form alone."""
    alike: dict[str, list[str]] = {}
    for text in classes:
        folded = unicodedata.normalize("NFKC", text).casefold()
        seen = "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf")
        alike.setdefault(seen, []).append(text)
    return [
        f"the label column '{name}' has classes that read alike: {', '.join(map(ascii, texts))}; "
        "if they are one class, write them alike"
        for texts in alike.values()
        if len(texts) > 1
    ]


def _as_class(value: Any, stored_type: str) -> Any:
    """A label's value as its column stores it."""
    if stored_type == "int64":
        text = str(value)
        return int(text) if text.lstrip("-").isdigit() else int(float(text))  # 1.0 and 1e3 are written so
    if stored_type == "bool":
        return value if isinstance(value, bool) else value.strip() == "true"
    return str(value)


def _refuse_nothing_to_learn(schema: DatasetSchema, summaries: Mapping[str, ColumnSummary], where: str) -> None:
    """Refuse a table whose columns leave nothing for a model, or more than one tensor can hold."""
    features = schema.features
    if all(not summaries[c.name].present for c in schema.columns if c.name != schema.label):
        raise InputError(f"{where} holds only missing values beside the label; give columns with values.")
    if not features:
        raise InputError(
            f"{where} has no column to learn from: all are ignored ({', '.join(c.name for c in schema.ignored)}); "
            "declare the kinds of some with source.columns."
        )
    alone = [c for c in features if KINDS[c.kind].fills_tensor]
    if alone and len(features) > 1:
        others = [c.name for c in features if c.name != alone[0].name]
        raise InputError(
            f"the {alone[0].kind} column '{alone[0].name}' of {where} cannot be mixed with other features "
            f"({', '.join(others)}); leave those out with source.columns: {{{others[0]}: ignore}}."
        )
