"""Where a version comes from, as rows of a table and as the run file that makes it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from augment.report.wording import number

LISTED = 12  # items of a list that are written out


class Fact(NamedTuple):
    """One thing that is known: its name and its value; ``code`` for hashes and paths."""

    name: str
    value: str
    code: bool


def facts_of(lineage: Mapping[str, Any]) -> dict[str, list[Fact]]:
    """The lineage by its first-level names, nested values flattened with dots; what is null is left out."""
    groups: dict[str, list[Fact]] = {}
    for key, value in lineage.items():
        nested = isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping))
        for path, text in _flat(value, (str(key),)):
            group, name = (_title(key), " \u203a ".join(path[1:])) if nested else ("Run", _title(key))
            groups.setdefault(group, []).append(Fact(name.replace("_", " "), text, _is_code(text)))
    return groups


def audit_details(path: Path | None) -> Mapping[str, Any]:
    """What the gates of an audit kept for a report, by gate; nothing without its ``metrics.json``."""
    if path is None or not path.is_file():
        return {}
    found: Mapping[str, Any] = json.loads(path.read_text()).get("details", {})
    return found


def run_file(config: Mapping[str, Any]) -> str:
    """The configuration as YAML that `augment run` reads; every value that says more than the default is in it."""
    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every value below ``value`` as text, with the names that lead to it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, (*path, str(key)))
    elif isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value):
        for item in value[:LISTED]:
            first, *rest = map(str, item.values())
            yield (*path, first), " ".join(rest)
    elif isinstance(value, list | tuple):
        yield path, "; ".join([str(item) for item in value[:LISTED]] + ["\u2026"] * (len(value) > LISTED))
    elif isinstance(value, bool):
        yield path, "yes" if value else "no"
    elif isinstance(value, int | float):
        yield path, str(value) if any("seed" in name for name in path) else number(value)
    elif value is not None and value != "":
        yield path, str(value)


def _title(key: Any) -> str:
    text = str(key).replace("_", " ")
    return text[:1].upper() + text[1:]


def _is_code(text: str) -> bool:
    """Whether a value is to be compared sign by sign, as hashes and paths are."""
    return " " not in text and (len(text) >= 12 or "/" in text)
