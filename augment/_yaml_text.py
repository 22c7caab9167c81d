"""YAML text read as plain values only: no objects, no duplicate keys, no bombs, no words taken for truth values."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from augment.errors import InputError

MAX_BYTES = 1 << 20
FOREIGN_TAG = "tags that ask for objects (!...) are not allowed; write plain values"
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
MAX_NODES = 100_000  # values after every alias is followed; a bomb of nine lines asks for 10^9


class PlainLoader(yaml.SafeLoader):
    """The values of YAML 1.2's core schema; keys stay as they are written, so that class ``1`` is the text ``1``."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML declares it of the instance)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of ``node``, its keys as text.

        Raises:
            yaml.constructor.ConstructorError: a key is there twice, or is no scalar.
        """
        self.flatten_mapping(node)
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key_node.start_mark)
            key = key_node.value
            if key in mapping:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is twice", key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


for _tag, _pattern, _first in [
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
    ("merge", r"^<<$", ["<"]),
]:
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse_yaml(text: str, where: str) -> Any:
    """The plain value that ``text`` describes; ``where`` names it in messages.

    Raises:
        InputError: it is no YAML, has a key twice, asks for objects or expands to too many values.
    """
    try:
        loader = PlainLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded_size(node, {}) > MAX_NODES:
                raise InputError(f"{where} expands to more than {MAX_NODES:,} values; write them without aliases.")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InputError(f"{where} cannot be read as YAML{line}: {_problem(error)}.") from None
    except (yaml.YAMLError, ValueError, KeyError, OverflowError) as error:
        raise InputError(
            f"{where} cannot be read as YAML: {(str(error) or 'it is malformed').splitlines()[0]}."
        ) from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply; write it with fewer levels.") from None


def read_yaml(path: Path) -> Any:
    """The plain value in the file ``path``.

    Raises:
        InputError: it cannot be read, is larger than 1 MiB, is not UTF-8, or is not plain YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of a run file.") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than 1 MiB, so it is no run file; give the path of a run file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    return parse_yaml(text, str(path))


def _problem(error: yaml.MarkedYAMLError) -> str:
    return (error.problem or error.context or "it is malformed").splitlines()[0]


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values below ``node`` with every alias counted where it is used; ``known`` sizes of nodes by id.

    Raises:
        yaml.constructor.ConstructorError: a value has a tag that no plain value has.
    """
    if id(node) in known:
        return known[id(node)]
    if node.tag not in PLAIN_TAGS:
        raise yaml.constructor.ConstructorError(None, None, FOREIGN_TAG, node.start_mark)
    known[id(node)] = MAX_NODES + 1  # what is met again inside itself is endless
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[id(node)] = min(1 + sum(_expanded_size(child, known) for child in children), MAX_NODES + 1)
    return known[id(node)]
