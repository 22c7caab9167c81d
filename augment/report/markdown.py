"""The verdict, the counts and the gates as Markdown, for run summaries and dataset cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from augment.gates import GateResult, judged
from augment.report.wording import GATE_ICONS, GATE_TITLES, gate_word, number, silent_gates, verdict_of


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


def summary_markdown(
    dataset: str,
    version: str | None,
    gates: Sequence[GateResult],
    counts: Mapping[str, Mapping[str, int]],
    path: str | None = None,
) -> str:
    """The verdict with its reasons, the counts of each class and the gates.

    ``counts`` are ``{class: {real, requested, synthetic}}``; ``path`` is where the data were published or set aside.
    """
    verdict = verdict_of(gates, counts)
    title = f"## {escaped(dataset)}: {verdict.word.lower()}"
    parts = [title, f"**{verdict.headline}**"]
    parts += ["\n".join(f"- {escaped(sentence)}" for sentence in verdict.reasons + verdict.warnings)]
    parts += [escaped(verdict.worth)]
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
