"""Text files as a stream of checked UTF-8, and the quoting of delimited rows checked strictly."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from augment.errors import InputError
from augment.sources._files import cannot_read, shown

ROW_BYTES = 4 * 1024**2  # the longest row: what a parser must hold at once, and far more than any real row
ENCODING_HINT = "give the file's own encoding in source.encoding, such as latin-1 or utf-16"


def codec_name(encoding: str) -> str:
    """The codec for ``encoding``, in the variant that drops a byte order mark.

    Raises:
        ValueError: there is no such encoding of text.
    """
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise ValueError(
            f"'{encoding}' is no encoding of text; known are utf-8, latin-1, cp1252, utf-16 and more"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


class Utf8Stream(io.RawIOBase):
    """The bytes of a text file turned into UTF-8 while they are read, in memory bounded by what is asked for.

    Raises (from ``read``):
        InputError: the bytes are not text in ``encoding``, or hold a NUL.
    """

    def __init__(self, file: BinaryIO, path: Path, encoding: str) -> None:
        """``file`` is open and closed with the stream; ``path`` names it in messages."""
        self._file = file
        self._path = path
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(codec_name(encoding))("strict")
        self._ready = memoryview(b"")
        self._offset = 0
        self._ended = False

    def readable(self) -> bool:
        """True: it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` with UTF-8 and say how many bytes; 0 at the end."""
        while not self._ready and not self._ended:
            raw = self._file.read(len(buffer))
            self._ended = not raw
            self._ready = memoryview(self._decoded(raw).encode())
            self._offset += len(raw)
        part = self._ready[: len(buffer)]
        buffer[: len(part)] = part
        self._ready = self._ready[len(part) :]
        return len(part)

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()

    def _decoded(self, raw: bytes) -> str:
        """The text of the next bytes of the file."""
        name = shown(self._path)
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeError as error:
            at = self._offset + max(0, getattr(error, "start", 0))
            raise InputError(f"{name} is not text in {self._encoding} (near byte {at:,}); {ENCODING_HINT}.") from None
        if "\0" in text:
            at = self._offset + text.index("\0")
            raise InputError(
                f"{name} holds a NUL near byte {at:,}, so it is no text in {self._encoding}; {ENCODING_HINT}."
            )
        return text


def strict_rows(path: Path, encoding: str, delimiter: str) -> Iterator[list[str]]:
    """The rows of a delimited file without the blank ones, where quotes must be closed and end their field.

    Raises:
        InputError: a quote is not closed, text follows a closing quote, a row is absurdly long, or the bytes are no
            text in ``encoding``.
    """
    with open_text(path, encoding) as stream:
        lines = _bounded_lines(io.TextIOWrapper(io.BufferedReader(stream), "utf-8", newline=""), path)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                if row:
                    yield row
        except csv.Error as error:
            if "field limit" in str(error):
                limit = csv.field_size_limit() // 1024
                raise InputError(
                    f"{shown(path)} has a quoted field of more than {limit} KiB that ends near line "
                    f"{reader.line_num:,}; close every quote, or leave such long texts out of the file."
                ) from None
            raise InputError(
                f"{shown(path)} has a quoted field that ends wrongly before line {reader.line_num + 1:,} ({error}); "
                "close the quote, and double a quote that belongs to the text."
            ) from None


def has_quotes(path: Path) -> bool:
    """Whether there is a double quote anywhere in the file; read in pieces."""
    with path.open("rb") as file:
        return any(b'"' in piece for piece in iter(lambda: file.read(1 << 20), b""))


def open_text(path: Path, encoding: str) -> Utf8Stream:
    """The file at ``path`` as a stream of UTF-8.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        return Utf8Stream(path.open("rb"), path, encoding)
    except OSError as error:
        raise cannot_read(path, error) from None


def _bounded_lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """The lines of ``text`` with their ends, refusing one that would not fit into memory."""
    for number, line in enumerate(iter(lambda: text.readline(ROW_BYTES + 1), ""), start=1):
        if len(line) > ROW_BYTES:
            raise too_long(path, f"line {number:,}")
        yield line


def too_long(path: Path, where: str) -> InputError:
    """The refusal of a row that is absurdly long."""
    limit = ROW_BYTES // 1024**2
    return InputError(
        f"{shown(path)} has a row of more than {limit} MiB ({where}); "
        "check source.delimiter, the file's line ends and that every quote is closed."
    )
