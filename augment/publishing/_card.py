"""The dataset card: how to read a version, what in it is synthetic, how that was made, what was checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from augment._layout import CARD, CONFIGS, PARTS, PICTURE, REPORT, SPLITS, Part
from augment._manifest import Manifest
from augment.gates import WORTH_NOT_MEASURED, GateResult, judged, not_judged, plural
from augment.operators import OPERATORS
from augment.report.markdown import worth_markdown
from augment.report.worth_words import said_of
from augment.worth.record import WorthRecord

REAL, SYNTHETIC, VALIDATION, TEST = PARTS


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write ``README.md`` with the ``configs:`` by which Hugging Face `datasets` loads the folder."""
    sections = [
        _front_matter(manifest),
        f"# {manifest.dataset}",
        _summary(manifest),
        _usage(manifest),
        _worth(manifest),
        _synthetic(manifest),
        _counts(manifest),
        _gates(manifest.gates),
        _columns(manifest),
        _limits(manifest),
        _lineage(manifest),
    ]
    (folder / CARD).write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")


def part_rows(manifest: Manifest, part: Part) -> int:
    """The rows of one part of a version."""
    origin = "synthetic" if part.is_synthetic else "real"
    return sum(counts[origin] for counts in manifest.counts[part.split].values())


def _front_matter(manifest: Manifest) -> str:
    """The YAML that tells Hugging Face which files are which; JSON texts are YAML texts, whatever is in them."""
    lines = ["---", f"pretty_name: {json.dumps(manifest.dataset)}", "tags: [synthetic, augmented]", "configs:"]
    for config, parts in CONFIGS.items():
        filled = [part for part in parts if part_rows(manifest, part)]  # Hugging Face refuses a split without rows
        if not filled:
            continue
        lines += [f"- config_name: {config}"]
        lines += ["  default: true"] * (config == "augmented")
        lines += ["  data_files:"]
        for split in SPLITS:
            patterns = [part.pattern for part in filled if part.split == split]
            if patterns:
                lines += [f"  - split: {split}", f"    path: {json.dumps(patterns)}"]
    return "\n".join([*lines, "---"])


def _summary(manifest: Manifest) -> str:
    real, synthetic = part_rows(manifest, REAL), part_rows(manifest, SYNTHETIC)
    verdict = {
        "blessed": "It passed every critical gate below.",
        "not blessed": "**It was refused and must not be used**: critical gates below failed.",
    }[manifest.verdict]
    return (
        f"{real:,} real and {synthetic:,} **synthetic** training rows, with {part_rows(manifest, VALIDATION):,} real "
        f"rows for validation and {part_rows(manifest, TEST):,} for the test. {verdict} {_worth_word(manifest)}"
    )


def _worth(manifest: Manifest) -> str:
    """Whether the synthetic rows help, and every arm that this rests on."""
    return "" if manifest.worth is None else f"## Worth\n\n{worth_markdown(manifest.worth).rstrip()}"


def _worth_word(manifest: Manifest) -> str:
    if manifest.worth is None:
        return WORTH_NOT_MEASURED
    record = WorthRecord.model_validate(manifest.worth)
    if record.verdict is None:
        return record.sentence
    word = said_of(record).word
    return f"Tested on held-out real rows: **{word[0].lower()}{word[1:]}**, see [Worth](#worth)."


def _usage(manifest: Manifest) -> str:
    label = manifest.dataset_schema.label
    frame = f'train["{label}"]' if label is not None else "train"
    balanced = "every class is drawn equally often" if manifest.equal_class_mass else "classes are drawn by their rows"
    return f"""## Use

Run these in this folder. Draw training rows by `sample_weight`: then {balanced}, and within each
class that has both, real and synthetic rows are drawn equally often, so that looking generated tells a learner nothing
about the label.

```python
from augment import load_dataset

train = load_dataset(".").torch("train")
for x, y in train.loader(batch_size=64, seed=0):  # rows are drawn by sample_weight
    break
```

With scikit-learn, and with no library of ours:

```python
import pandas

train = pandas.read_parquet("data")
labels, weights = {frame}, train["sample_weight"]  # model.fit(features, labels, sample_weight=weights)
```

```python
import os
import datasets

train = datasets.load_dataset(os.getcwd(), "augmented", split="train")  # the full path; or "real", or "synthetic"
```"""


def _synthetic(manifest: Manifest) -> str:
    given = _given(manifest)
    origin = _drawn(manifest.lineage) if given is None else _taken(given)
    saw = "neither the generator nor any" if given is None else "no"
    return f"""## What is synthetic

{origin}{_selected(manifest.lineage)}
They are marked five ways: the folder, the configuration's name, the column `is_synthetic`, `sample_id` beginning with
`syn-`, and `aug.is_synthetic` in the Parquet metadata. Rows for validation and test are always real;
{saw} limit of the gates saw the test rows."""


def _selected(lineage: Mapping[str, Any]) -> str:
    """How many of the drawn rows were selected, and by what; nothing where they were not."""
    found = lineage.get("selection")
    if found is None:
        return ""
    criteria = (f"{name.replace('_', ' ')} (all but {100 * share:.3g} %)" for name, share in found["shares"].items())
    return f"""
{found["acceptance"]:.1%} of the {found["asked"]:,} drawn rows that the gates accepted were selected by
{", ".join(criteria)}: a selected row scores no less than all but that share of real validation rows."""


def _given(manifest: Manifest) -> dict[str, Any] | None:
    """What is known of the files from which the synthetic rows were taken, or null where a model drew them."""
    files: dict[str, Any] | None = manifest.lineage.get("given_files")
    return files


def _drawn(lineage: Mapping[str, Any]) -> str:
    model = lineage.get("model") or {}
    weights = (lineage.get("weights_sha256") or "unknown")[:12]
    operator = lineage.get("operator") or "unknown"
    kind = model.get("kind", "unknown")
    more = _parents(operator) + _order(lineage.get("order"))
    return f"""The rows in `data/synthetic/` were drawn from a generative model (kind `{kind}`, operator
`{operator}`, weights `{weights}`) that was trained on the rows in `data/real/` alone.{more}"""


def _taken(files: Mapping[str, Any]) -> str:
    return f"""The rows in `data/synthetic/` were generated elsewhere and taken from {plural(files["number"], "file")}
({files["form"]}, SHA-256 `{files["sha256"]}`),
a seeded choice of each class.
**The training rows of their generator are not known**: it may have seen validation and test rows. What was compared
with these are the rows themselves."""


def _parents(operator: str) -> str:
    """What rows are drawn from, where they are drawn from real ones."""
    known = OPERATORS.get(operator)
    if known is None or not known.parents:
        return ""
    return f" {known.sentence.capitalize()}; `parent_ids` names {'both' if known.parents > 1 else 'that row'}."


def _order(order: str | None) -> str:
    """In which order the values of a row were drawn, where one came after the other."""
    return f" The values of a row were drawn one after the other: {order}." if order else ""


def _counts(manifest: Manifest) -> str:
    header = ["class", "real", "synthetic", *(s for s in SPLITS[1:])]
    names = list(dict.fromkeys(name for split in SPLITS for name in manifest.counts[split]))
    rows = []
    for name in names:
        of = {split: manifest.counts[split].get(name, {"real": 0, "synthetic": 0}) for split in SPLITS}
        shown = _cell(name) if name else "(no label)"
        sizes = [of["train"]["real"], of["train"]["synthetic"], of["validation"]["real"], of["test"]["real"]]
        rows.append([shown, *(f"{size:,}" for size in sizes)])
    return f"## Rows of each class\n\n`real` and `synthetic` are rows to train on.\n\n{_table(header, rows)}"


def _gates(gates: Sequence[GateResult]) -> str:
    verdicts = {True: "passed", False: "**failed**"}
    rows = [
        [g.gate, verdicts[g.passed is True], *map(_figure, (g.value, g.limit, g.floor)), g.severity, _cell(g.sentence)]
        for g in judged(gates)
    ]
    silent = [f"- {', '.join(names)}: {_cell(why)}" for why, names in not_judged(gates).items()]
    header = ["gate", "verdict", "value", "limit", "floor", "severity", "in words"]
    said = ["## Gates", "`floor` is what real rows score against real rows.", _table(header, rows), "\n".join(silent)]
    return "\n\n".join(part for part in said if part)


def _columns(manifest: Manifest) -> str:
    schema = manifest.dataset_schema
    rows = [[_cell(c.name), c.kind, c.type, "the label" if c.name == schema.label else ""] for c in schema.columns]
    return f"""## Columns

{_table(["column", "kind", "type", ""], rows)}

Added to them: `sample_id`, `is_synthetic`, `split`, `source_row_id` (real rows), `parent_ids` (synthetic rows drawn
from real ones), `generator_id`, `gen_seed`, `gen_index` (synthetic rows), `content_hash` and `sample_weight`."""


def _limits(manifest: Manifest) -> str:
    learned = "the training rows" if _given(manifest) is None else "rows that are not known"
    limits = [
        f"Synthetic rows repeat what the generator learned from {learned}, their mistakes and gaps included; they "
        "are no observations and no basis for statements about the population.",
        "The generator gives no formal promise of privacy: do not take synthetic rows for anonymous ones.",
        "Measure on the real validation and test rows only.",
    ]
    ignored = [c.name for c in manifest.dataset_schema.ignored]
    if ignored:
        names = ", ".join(f"`{_cell(name)}`" for name in ignored)
        limits.append(f"These columns are kept in real rows and null in synthetic ones: {names}.")
    if any(name == "" for name in manifest.rows) and manifest.dataset_schema.label is not None:
        limits.append("Rows without a label are among the training rows, with `sample_weight` 0.")
    limits += [g.sentence for g in manifest.gates if g.passed is False and g.severity == "warning"]
    return "## Known limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _lineage(manifest: Manifest) -> str:
    known = {
        "dataset": manifest.dataset,
        "created": manifest.created,
        "source": json.dumps(manifest.lineage.get("source"), ensure_ascii=False),
        "source fingerprint": manifest.lineage.get("source_fingerprint"),
        "configuration": manifest.lineage.get("config_sha256"),
        "seed": manifest.lineage.get("seed"),
        "code commit": manifest.lineage.get("code_commit"),
    }
    rows = [[name, f"`{_cell(str(value))}`"] for name, value in known.items() if value not in (None, "null")]
    return f"""## Where it comes from

{_table(["", ""], rows)}

`MANIFEST.json` has all of it with the hash of every file. The [report]({REPORT}) shows the data, the
[picture]({PICTURE}) real rows beside synthetic ones."""


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    """``text`` as it may stand in a table: data decide it, and must not break out of its cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _table(header: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
