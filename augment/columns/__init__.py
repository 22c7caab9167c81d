"""The kinds of columns, one file each: everything that depends on what a column holds is in them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from augment._plugins import find_plugins, one_of
from augment.columns._contract import ColumnKind
from augment.columns._types import StoredType

_FOUND = find_plugins(sys.modules[__name__], ColumnKind)

# By name, in the order in which a column is offered to them.
KINDS: dict[str, type[ColumnKind]] = dict(sorted(_FOUND.items(), key=lambda found: (found[1].order, found[0])))
# By name; which kind brings a type says nothing about which kinds use it.
STORED_TYPES: dict[str, StoredType] = {stored.name: stored for kind in KINDS.values() for stored in kind.types}

if TYPE_CHECKING:
    AnyColumn = ColumnKind
else:
    AnyColumn = one_of(KINDS)

__all__ = ["KINDS", "STORED_TYPES", "AnyColumn", "ColumnKind"]
