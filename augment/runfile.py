"""Reading a run file: plain YAML and ``--set`` in, a whole and checked :class:`~augment.config.RunConfig` out."""

from __future__ import annotations

import importlib.resources
import re
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from augment._plugins import kind_of
from augment._yaml_text import parse_yaml, read_yaml
from augment.config import RunConfig, absolute_paths
from augment.errors import InputError, did_you_mean

EXAMPLE = "example.yaml"
SHOULD_BE = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a mapping of settings"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "a number"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list such as [a, b]"),
}
SHOWN_CHARACTERS = 60


def load_run_config(path: Path | None, overrides: Sequence[str] = (), store: str | None = None) -> RunConfig:
    """The run that the file ``path`` describes, changed by ``overrides`` (``a.b=value``); without a file the example.

    Relative paths are taken from the file's folder, without a file from the current one; ``store``, given on the
    command line, from the current one.

    Raises:
        InputError: the file or an override is wrong; one sentence with the file, the key and what to do.
    """
    if path is None:
        where = "the packaged example"
        content = parse_yaml(importlib.resources.files("augment").joinpath(EXAMPLE).read_text(), where)
        folder = Path.cwd()
    else:
        where, content, folder = str(path), read_yaml(path), path.absolute().parent
    if not isinstance(content, dict):
        kind = "empty" if content is None else f"a {_yaml_name(content)}"
        raise InputError(f"{where} is {kind} and not a mapping of settings; start it with a line such as 'name: mine'.")
    settings = [_parse_override(text) for text in overrides]
    _apply_overrides(content, settings)
    config = parse_run_config(content, where, [keys for keys, _ in settings])
    location = config.store if store is None else store
    if "://" not in location:
        location = str((folder if store is None else Path.cwd()) / Path(location).expanduser())
    return absolute_paths(config, folder).model_copy(update={"store": location})  # type: ignore[no-any-return]


def parse_run_config(content: dict[str, Any], where: str, overridden: Collection[tuple[str, ...]] = ()) -> RunConfig:
    """The run that ``content`` describes; ``overridden`` are the keys that did not come from ``where`` but ``--set``.

    Raises:
        InputError: a key or value is wrong.
    """
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        keys, sentence, more = _first_problem(error, content)
        if any(keys and (keys[: len(o)] == o or o[: len(keys)] == keys) for o in overridden):
            where = "--set"
        suffix = f" ({more} more problem{'s' if more > 1 else ''})" if more else ""
        raise InputError(f"{where}: {sentence}{suffix}") from None


def _parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """The keys and the value of ``a.b=value``."""
    dotted, equals, value = text.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        raise InputError(f"--set '{text}' is not of the form a.b=value; write for example --set train.steps=500.")
    return keys, parse_yaml(value, f"--set {dotted}")


def _apply_overrides(content: dict[str, Any], settings: list[tuple[tuple[str, ...], Any]]) -> None:
    """Change ``content`` in place; kinds first, because they decide which other keys there are."""
    for keys, value in sorted(settings, key=lambda setting: setting[0][-1] != "kind"):
        section: Any = content
        for depth, key in enumerate(keys[:-1]):
            if section.get(key) is None:
                section[key] = _default_kind(key, keys[1]) if not depth else {}
            section = section[key]
            if not isinstance(section, dict):
                inside = ".".join(keys[: depth + 1])
                kind = _yaml_name(section)
                raise InputError(f"--set {'.'.join(keys)}: {inside} is a {kind} without keys; set it whole.")
        if keys[-1] == "kind" and section.get("kind") != value:
            _keep_known(section, keys[:-1], str(value))
        section[keys[-1]] = value


def _default_kind(key: str, inside: str) -> dict[str, Any]:
    """The kind that a section has when a run file leaves it out; empty where that kind has no setting ``inside``."""
    field = RunConfig.model_fields.get(key)
    default = field.get_default(call_default_factory=True) if field else None
    kind = getattr(default, "kind", None)
    return {"kind": kind} if kind is not None and inside in getattr(type(default), "model_fields", {}) else {}


def _keep_known(section: dict[str, Any], keys: tuple[str, ...], kind: str) -> None:
    """Drop from ``section`` the settings that its new ``kind`` does not have."""
    classes = _classes_at(keys, {})
    chosen = next((c for c in classes if _kind(c) == kind), None)
    if chosen is not None:
        for name in [name for name in section if name not in chosen.model_fields]:
            del section[name]


def _first_problem(
    error: ValidationError, content: Any, prefix: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], str, int]:
    """The keys and the sentence of the first problem, and how many other keys have one.

    Unknown keys come first, because they cause others; of the types that one value could have been, that of the value.
    """

    def rank(detail: ErrorDetails) -> tuple[bool, bool]:
        unknown = detail["type"] in ("extra_forbidden", "union_tag_invalid")
        return not unknown, detail["type"] == "literal_error" and not isinstance(detail["input"], str)

    details = sorted(error.errors(), key=rank)
    places = [(*prefix, *_keys(detail["loc"], content, prefix)) for detail in details]
    detail, keys = details[0], places[0]
    inner = detail.get("ctx", {}).get("error")
    if isinstance(inner, ValidationError):  # a section that checks another one, such as source.test
        return _first_problem(inner, content, (*keys, "test"))
    if not keys:  # the sentence of the whole run's own check begins with the key
        keys = tuple(str(inner).split(" ", 1)[0].split("."))
        return keys, f"{inner}.", len(set(places)) - 1
    same = [d["type"] for d, place in zip(details, places, strict=True) if place == keys]
    numbers = any(kind.startswith(("float", "int", "greater", "less")) for kind in same)
    sentence = _sentence(detail, keys, content)
    if detail["type"] == "literal_error" and numbers:
        sentence = sentence.rstrip(".") + ", or a number."
    return keys, sentence, len(set(places)) - 1


def _keys(location: tuple[int | str, ...], content: Any, prefix: tuple[str, ...]) -> tuple[str, ...]:
    """``location`` as the run file writes it: without the kinds that pydantic puts between."""
    section: Any = _at(content, prefix)
    keys: list[str] = []
    for item in location:
        if item == "[key]":
            continue
        if isinstance(section, dict) and item not in section and section.get("kind", item) == item and keys:
            continue
        if keys and isinstance(section, str | int | float):  # a type that a plain value could have had
            continue
        keys.append(str(item))
        section = _at(section, (str(item),))
    return tuple(keys)


def _at(content: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if isinstance(content, dict):
            content = content.get(key)
        elif isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        else:
            return None
    return content


def _sentence(detail: ErrorDetails, keys: tuple[str, ...], content: Any) -> str:
    """What is wrong at ``keys``, and what to do."""
    dotted, context, value = ".".join(keys), detail.get("ctx", {}), _shown(detail["input"])
    match detail["type"]:
        case "extra_forbidden":
            known = {name for cls in _classes_at(keys[:-1], content) for name in cls.model_fields}
            sentence = f"{dotted} is not a known key{did_you_mean(keys[-1], known)}"
        case "missing":
            sentence = f"{dotted} is missing; add it."
        case "union_tag_not_found":
            kinds = sorted(_kind(c) for c in _classes_at(keys, content, narrow=False))
            sentence = f"{dotted}.kind is missing; known are: {', '.join(kinds)}"
        case "union_tag_invalid":
            kinds = sorted(_kind(c) for c in _classes_at(keys, content, narrow=False))
            sentence = f"{dotted}.kind '{context['tag']}' is not known{did_you_mean(str(context['tag']), kinds)}"
        case "literal_error":
            allowed = re.findall("'([^']*)'", context["expected"])
            sentence = f"{dotted} {value} is not known{did_you_mean(str(detail['input']), allowed)}"
        case "value_error":
            sentence = f"{dotted}: {context['error']}." if dotted else f"{context['error']}."
        case "string_pattern_mismatch":
            sections = _classes_at(keys[:-1], content)
            texts = [c.model_fields[keys[-1]].description or "" for c in sections if keys[-1] in c.model_fields]
            sentence = f"{dotted} {value} is not allowed ({''.join(texts[:1]).rstrip('.')})."
        case "too_short":
            sentence = f"{dotted} has {context['actual_length']} entries; give it {context['min_length']} at least."
        case kind if kind in SHOULD_BE:
            sentence = f"{dotted} is {value}, and should be {SHOULD_BE[kind]}."
        case _:
            sentence = f"{dotted} is {value}: {detail['msg'].replace('Input should', 'it should')}."
    return sentence


def _classes_at(keys: Sequence[str], content: Any, narrow: bool = True) -> list[type[BaseModel]]:
    """The sections that may stand at ``keys``; with ``narrow`` only the one of the kind that ``content`` gives."""
    classes: list[type[BaseModel]] = [RunConfig]
    for depth, key in enumerate(keys):
        if key.isdigit():
            continue  # a place in a list: its classes are those of the list
        if key == "test" and depth == 1:
            continue  # a test part has its source's settings
        sections = _narrowed(classes, _at(content, tuple(keys[:depth])))
        fields = [c.model_fields[key] for c in sections if key in c.model_fields]
        classes = [c for field in fields for c in _sections(field.annotation)]
    return _narrowed(classes, _at(content, tuple(keys))) if narrow else classes


def _narrowed(classes: list[type[BaseModel]], section: Any) -> list[type[BaseModel]]:
    kind = section.get("kind") if isinstance(section, dict) else None
    return [c for c in classes if kind is not None and _kind(c) == kind] or classes


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic classes in a type such as ``list[A | B]``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [c for argument in typing.get_args(annotation) for c in _sections(argument)]


def _kind(section: type[BaseModel]) -> str:
    field = section.model_fields.get("kind")
    if field is None:
        return ""
    return kind_of(section) if isinstance(field.default, str) else str(typing.get_args(field.annotation)[0])


def _yaml_name(value: Any) -> str:
    names = {list: "list", str: "text", bool: "truth value", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "value")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
