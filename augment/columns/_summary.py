"""What is noted of a column while its source streams by, in bounded memory: enough to tell its kind and type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augment.columns._types import stored_types
from augment.errors import InputError

DISTINCT_LIMIT = 2_000  # different values that are kept one by one
MOST_DECIMALS = 12  # of binary numbers; those that need more are written with as many as it takes
NOT_PLAIN_NUMBER = r"^-?0[0-9]|^[+]"  # codes and telephone numbers are written so
DATE = (
    r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))"
    r"([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?$"
)

# The families whose values have a text of their own, which may be classes; others come with a stored type.
PLAIN_FAMILIES = ("text", "integer", "float", "boolean", "nothing")


class ColumnSummary:
    """The facts about one column; :meth:`add` takes them from its arrays one after another.

    With ``parse_text`` false, text is what it is and never numbers: the source has types of its own.
    """

    def __init__(self, name: str, arrow_type: pa.DataType, where: str, parse_text: bool) -> None:
        self.name = name
        self.where = where
        self.parse_text = parse_text
        self.family = family_of(arrow_type, name, where)
        self.rows = 0
        self.missing = 0
        self.distinct: set[Any] | None = set()  # null once there are more than are kept
        self.distinct_share = 0.0  # of the present values; where there are many, of the first of them
        self.not_finite: tuple[int, str] | None = None  # row and text of the first
        self.decimals: int | None = 0
        self.whole = True  # every value is a whole number of 64 bits, written without leading zeros or plus signs
        self.numbers = self.family in ("text", "integer", "float")  # every value is a number, perhaps not finite
        self.digits_only = True  # every value is written as a whole number, perhaps one of more than 64 bits
        self.dates = True
        self.rising = self.falling = True
        self.characters = 0
        self.facts: dict[str, Any] = {}  # what the note of a stored type has taken
        self._last: int | None = None
        self._note = next((stored.note for stored in stored_types().values() if stored.family == self.family), None)

    @property
    def present(self) -> int:
        """Rows that have a value."""
        return self.rows - self.missing

    @property
    def num_distinct(self) -> int:
        """Different values; more than the limit where there are more than are kept."""
        return DISTINCT_LIMIT + 1 if self.distinct is None else len(self.distinct)

    @property
    def counted(self) -> str:
        """The number of different values, for a sentence."""
        return f"more than {DISTINCT_LIMIT}" if self.distinct is None else str(len(self.distinct))

    def add(self, array: pa.Array) -> None:
        """Take note of the next rows.

        Raises:
            InputError: an image is broken or of another size than the first, or the values are of another family than
                those of the earlier rows.
        """
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        first_row = self.rows
        self.rows += len(array)
        self.missing += array.null_count
        if array.null_count == len(array):
            return
        self._refuse_other_family(array)
        if self._note is not None:
            self._note(self, array, first_row)
            return
        if self.family == "text":
            array = pc.cast(array, pa.string())
            self._add_text(array, first_row)
        elif self.family == "float":
            array = pc.cast(array, pa.float64())
            self._add_floats(array, first_row)
        elif self.family == "integer":
            self._add_integers(array)
        elif self.family == "time":
            array = pc.cast(pc.cast(array, pa.timestamp("us")), pa.int64())  # Python's dates end with the year 9999
        self._add_distinct(array)

    def _refuse_other_family(self, array: pa.Array) -> None:
        """Refuse rows whose type has nothing to do with that of the first: two files may disagree."""
        family = family_of(array.type, self.name, self.where)
        if family != self.family and (family, self.family) != ("integer", "float"):
            raise InputError(
                f"the column '{self.name}' of {self.where} holds values of the type {family} after others of the type "
                f"{self.family}; give all parts of the data the same types."
            )

    def _add_distinct(self, array: pa.Array) -> None:
        if self.distinct is None:
            return
        self.distinct.update(value for value in pc.unique(array).to_pylist() if value is not None)
        self.distinct_share = len(self.distinct) / self.present
        if len(self.distinct) > DISTINCT_LIMIT:
            self.distinct = None

    def _add_text(self, array: pa.Array, first_row: int) -> None:
        self.characters += pc.sum(pc.utf8_length(array)).as_py()
        array = pc.ascii_trim_whitespace(array)
        self.dates = self.dates and _all_match(array, DATE)
        if not self.parse_text or not self.numbers:
            self.numbers = self.whole = self.digits_only = False
            return
        integers = self._as_integers(array) if self.whole else None
        if integers is not None:
            self._follow(integers)
            return
        self.whole = False
        self.digits_only = self.digits_only and _all_match(array, r"^(0|-?[1-9][0-9]*)$")
        try:
            values = pc.cast(array, pa.float64())
        except pa.ArrowInvalid:
            self.numbers = False
            return
        if pc.any(pc.match_substring_regex(array, NOT_PLAIN_NUMBER)).as_py():
            self.numbers = False
            return
        self._note_not_finite(values, array, first_row)
        self._note_written_decimals(array)

    def _as_integers(self, array: pa.Array) -> pa.Array | None:
        """The texts as whole numbers where each is written exactly as that number is, else null."""
        try:
            integers = pc.cast(array, pa.int64())
        except pa.ArrowInvalid:
            return None
        return integers if pc.cast(integers, pa.string()).equals(array) else None

    def _note_written_decimals(self, array: pa.Array) -> None:
        if self.decimals is None:
            return
        if pc.any(pc.match_substring(array, "e", ignore_case=True)).as_py():
            self.decimals = None
            return
        point = pc.find_substring(array, ".")
        after = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(pc.utf8_length(array), point), 1))
        decimals = max(self.decimals, pc.max(after).as_py())
        self.decimals = decimals if decimals <= MOST_DECIMALS else None

    def _add_floats(self, array: pa.Array, first_row: int) -> None:
        self.digits_only = False
        self._note_not_finite(array, pc.cast(array, pa.string()), first_row)
        values = pc.drop_null(array).to_numpy()
        values = values[np.isfinite(values)]
        while self.decimals is not None and not np.array_equal(np.round(values, self.decimals), values):
            self.decimals = self.decimals + 1 if self.decimals < MOST_DECIMALS else None
        self.whole = self.whole and self.decimals == 0 and bool((np.abs(values) < 2**53).all())

    def _add_integers(self, array: pa.Array) -> None:
        try:
            integers = pc.cast(array, pa.int64())
        except pa.ArrowInvalid:
            self.whole = self.numbers = False  # unsigned numbers that 64 bits with a sign cannot hold
            return
        if self.whole:
            self._follow(integers)

    def _follow(self, integers: pa.Array) -> None:
        """Note whether the numbers still rise, or fall, from row to row."""
        if not (self.rising or self.falling):
            return
        values = pc.drop_null(integers).to_numpy()
        if self._last is not None:
            values = np.concatenate([[self._last], values])
        self.rising = self.rising and bool((values[1:] > values[:-1]).all())
        self.falling = self.falling and bool((values[1:] < values[:-1]).all())
        self._last = int(values[-1])

    def _note_not_finite(self, values: pa.Array, texts: pa.Array, first_row: int) -> None:
        if self.not_finite is not None:
            return
        bad = pc.fill_null(pc.invert(pc.is_finite(values)), False)
        if pc.any(bad).as_py():
            row = pc.index(bad, True).as_py()
            self.not_finite = (first_row + row + 1, texts[row].as_py())


def family_of(arrow_type: pa.DataType, name: str, where: str) -> str:
    """The family of an Arrow type.

    Raises:
        InputError: tables of this project cannot store the type.
    """
    if pa.types.is_dictionary(arrow_type):
        return family_of(arrow_type.value_type, name, where)
    if pa.types.is_null(arrow_type):
        return "nothing"
    for stored in stored_types().values():
        if stored.holds(arrow_type):
            return stored.family
    raise InputError(
        f"the column '{name}' of {where} has the type {arrow_type}, which cannot be stored; "
        "remove it, or make text or numbers of it."
    )


def _all_match(array: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(array, pattern, ignore_case=True)).as_py() is not False)
