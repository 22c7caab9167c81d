"""Finding the models, sources and checks that exist: one new file adds one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, reduce
from operator import or_
from types import ModuleType
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined

Plugin = TypeVar("Plugin", bound=BaseModel)


def kind_of(plugin: type[BaseModel]) -> str:
    """The name by which a run file asks for ``plugin``: the default of its ``kind`` field."""
    return str(plugin.model_fields["kind"].default)


@cache
def find_plugins(package: ModuleType, base: type[Plugin]) -> dict[str, type[Plugin]]:
    """The concrete subclasses of ``base`` in the modules of ``package`` without a leading underscore, by kind.

    Raises:
        TypeError: two classes have the same kind.
    """
    found: dict[str, type[Plugin]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__:
                field = value.model_fields.get("kind")
                if field is None or field.default is PydanticUndefined:
                    continue
                if kind_of(value) in found:
                    raise TypeError(f"two plugins of {package.__name__} are called '{kind_of(value)}'")
                found[kind_of(value)] = value
    return found


def modules_of(package: ModuleType) -> list[str]:
    """The names of the modules of ``package``, in order."""
    return sorted(f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__))


def one_of(plugins: dict[str, type[Any]]) -> Any:
    """The type of a config section that is any of ``plugins``, told apart by its ``kind``."""
    classes = list(plugins.values())
    union = reduce(or_, classes)
    return union if len(classes) == 1 else Annotated[union, Field(discriminator="kind")]
