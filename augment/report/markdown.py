"""The verdict, the worth, the counts and the gates as Markdown, for run summaries and dataset cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from augment.gates import GateResult, judged
from augment.report.wording import DASH, GATE_ICONS, GATE_TITLES, gate_word, number, silent_gates, verdict_of
from augment.report.worth_words import METRICS, basis_of, by_role, interval_of, said_of, score_of, signed
from augment.worth.record import WorthRecord


def gate_table_markdown(gates: Sequence[GateResult]) -> str:
    """A Markdown table with one line for each gate that was judged, in order; below it the others, by reason."""
    lines = ["| Gate | Verdict | Value | Limit | Floor | Severity | Finding |", "|---|---|--:|--:|--:|---|---|"]
    for gate in judged(gates):
        word = gate_word(gate)
        cells = [
            GATE_TITLES[gate.gate],
            f"{GATE_ICONS[word]} {word}",
            *map(number, (gate.value, gate.limit, gate.floor)),
            gate.severity,
            gate.sentence,
        ]
        lines.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    silent = [f"- {escaped(titles)}: {escaped(sentence)}" for titles, sentence in silent_gates(gates)]
    lines += ["", *silent] if silent else []
    return "\n".join(lines) + "\n"


def counts_table_markdown(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A Markdown table with the rows of each class before and after; ``counts`` as in :func:`summary_markdown`."""
    lines = ["| Class | Real | Requested | Delivered | After |", "|---|--:|--:|--:|--:|"]
    for name, count in counts.items():
        figures = (count["real"], count["requested"], count["synthetic"], count["real"] + count["synthetic"])
        lines.append(f"| {escaped(name or 'no label')} | " + " | ".join(f"{figure:,}" for figure in figures) + " |")
    return "\n".join(lines) + "\n"


def worth_markdown(worth: Mapping[str, Any]) -> str:
    """What a worth record, given as JSON values, says: the verdict, the arms best first, the unit that people buy."""
    record = WorthRecord.model_validate(worth)
    said = said_of(record)
    loud = "\u26a0 " if said.tone == "bad" else ""
    parts = [f"**{loud}{said.word}.** {escaped(said.text)}"]
    if record.arms:
        parts += [escaped(record.sentence), _arms(record), f"{escaped(basis_of(record))} Lifts are in points."]
    parts += [escaped(text) for text in (record.equivalent.get("sentence"),) if text]
    parts += ["\n".join(f"- {escaped(note)}" for note in record.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _arms(record: WorthRecord) -> str:
    lines = [f"| Trained with | {METRICS[record.metric].capitalize()} | Lift | 95 % interval |", "|---|--:|--:|--:|"]
    for arms in by_role(record).values():
        for arm in arms:
            lift = signed(arm.lift.mean) if arm.lift else "reference"
            name = escaped(arm.name)
            name = f"**{name}**" if arm.name in (record.best_with, record.best_without) else name
            interval = interval_of(arm.lift) if arm.lift else DASH
            lines.append(f"| {name} | {100 * score_of(arm):.1f} | {lift} | {interval} |")
    return "\n".join(lines)


def summary_markdown(
    dataset: str,
    version: str | None,
    gates: Sequence[GateResult],
    counts: Mapping[str, Mapping[str, int]],
    path: str | None = None,
    worth: Mapping[str, Any] | None = None,
) -> str:
    """The verdict with its reasons, the counts of each class and the gates.

    ``counts`` are ``{class: {real, requested, synthetic}}``; ``path`` is where the data were published or set aside;
    ``worth`` is a worth record as JSON values, null where worth was not looked at.
    """
    verdict = verdict_of(gates, counts)
    title = f"## {escaped(dataset)}: {verdict.word.lower()}"
    parts = [title, f"**{verdict.headline}**"]
    parts += ["\n".join(f"- {escaped(sentence)}" for sentence in verdict.reasons + verdict.warnings)]
    parts += [escaped(verdict.worth) if worth is None else worth_markdown(worth).rstrip()]
    places = [f"version {_code(version)}" if version else "", f"in {_code(path)}" if path else ""]
    parts += [" ".join(place for place in places if place).capitalize()]
    parts += ["### Rows of each class", counts_table_markdown(counts).rstrip()]
    parts += ["### Gates", gate_table_markdown(gates).rstrip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """``text`` on one line, with everything that Markdown or HTML would take for more than text made harmless."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'") + "`"
