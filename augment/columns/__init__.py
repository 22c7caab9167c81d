"""The kinds of columns, one file each: everything that depends on what a column holds is in them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, get_args

from augment.columns._contract import ColumnKind
from augment.plugins import find_plugins, one_of
from augment.schema import KindName

_FOUND = find_plugins(sys.modules[__name__], ColumnKind)

# By name, in the order in which a column is offered to them.
KINDS: dict[str, type[ColumnKind]] = {name: _FOUND[name] for name in get_args(KindName)}

if TYPE_CHECKING:
    AnyColumn = ColumnKind
else:
    AnyColumn = one_of(KINDS)

__all__ = ["KINDS", "AnyColumn", "ColumnKind"]
