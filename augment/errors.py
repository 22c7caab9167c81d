"""What can go wrong, and the exit status that says so.

::

    AugmentError                 exit 1   anything that is not the user's to mend
    +-- InputError               exit 2   the run file, the input data or the arguments are wrong
    +-- IntegrityError           exit 3   published data differ from their manifest
    +-- NotBlessedError          exit 3   the data were audited and refused
    +-- StoreError               exit 1   a stage artifact is missing or altered
    +-- TrainingError            exit 1   a generator comes to nothing (a loss that is not finite, no memory left)

Every message is one sentence: what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class AugmentError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line and without control characters: names of columns and files come from anybody."""
        text = super().__str__()
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(AugmentError):
    """The run file, the input data or the arguments are wrong."""

    exit_code = 2


class IntegrityError(AugmentError):
    """Something published differs from its manifest."""

    exit_code = 3


class NotBlessedError(AugmentError):
    """The data were audited and refused; ``path`` is the quarantine folder."""

    exit_code = 3

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class StoreError(AugmentError):
    """A stage artifact is missing or differs from its manifest; running again makes it anew."""


class TrainingError(AugmentError):
    """A generator cannot be trained or draws nothing of use; the last good checkpoint is kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known name, else the list of known names, ready to end a sentence."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if nearest:
        return f"; did you mean '{nearest[0]}'?"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"; known are: {', '.join(names[:20])}{more}" if names else ""
