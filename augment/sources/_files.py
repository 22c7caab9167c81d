"""Paths that a run file names, checked before anything is read from them."""

from __future__ import annotations

import os
from pathlib import Path

from augment.errors import InputError


def shown(path: Path) -> str:
    """``path`` as text that can be printed, also where the file system holds bytes that are no text."""
    return os.fsencode(path).decode("utf-8", "replace")


def readable_file(path: Path, setting: str) -> Path:
    """``path``, which is a file that can be opened; ``setting`` is the setting that names it.

    Raises:
        InputError: it is absent, a folder, no regular file, or not readable.
    """
    _refuse_absent(path, setting)
    if path.is_dir():
        raise InputError(f"{shown(path)} is a folder, not a file; name a file in {setting}.")
    if not path.is_file():
        raise InputError(f"{shown(path)} is not a regular file; name a file in {setting}.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise cannot_read(path, error) from None
    return path


def readable_folder(path: Path, setting: str) -> Path:
    """``path``, which is a folder that can be listed; ``setting`` is the setting that names it.

    Raises:
        InputError: it is absent, a file, or not readable.
    """
    _refuse_absent(path, setting)
    if not path.is_dir():
        raise InputError(f"{shown(path)} is a file, not a folder; name a folder in {setting}.")
    try:
        os.scandir(path).close()
    except OSError as error:
        raise cannot_read(path, error) from None
    return path


def cannot_read(path: Path, error: OSError) -> InputError:
    """The refusal of a file or folder that the operating system does not give."""
    return InputError(f"{shown(path)} cannot be read ({error.strerror or error}); check its permissions and its disk.")


def cause(error: Exception) -> str:
    """What a library says of a failure, on one line and without a full stop, to stand in brackets."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def exists(path: Path) -> bool:
    """Whether there is anything at ``path``; not where its name cannot be one, too long or with a NUL in it."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _refuse_absent(path: Path, setting: str) -> None:
    """Refuse a path at which there is nothing."""
    if not exists(path):
        raise InputError(f"{shown(path)} does not exist; check {setting}.")


def data_files(folder: Path, suffix: str) -> list[Path]:
    """The files below ``folder`` whose names end in ``suffix``, in the order of their paths.

    Names that start with a dot or an underscore are markers of other tools and left out, links are not followed.

    Raises:
        InputError: a folder cannot be listed.
    """
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise cannot_read(folder, error) from None
    for entry in listed:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            found += data_files(Path(entry.path), suffix)
        elif entry.name.lower().endswith(suffix) and entry.is_file():
            found.append(Path(entry.path))
    return found
