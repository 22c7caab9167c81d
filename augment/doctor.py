"""What is known to break a run on this machine, each a finding with what to do."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from augment.errors import InputError
from augment.store import Store

LOW_DISK_BYTES = 2 << 30
SECONDS = 5.0


class Finding(NamedTuple):
    """One thing that was looked at; only ``broken`` makes a run fail."""

    subject: str
    verdict: Literal["ok", "warn", "broken"]
    sentence: str


def examine(store: str, home: Path, api: str | None, database: str | None) -> list[Finding]:
    """The findings for a store folder, the Prefect home, the configured API and the URL of its database, if known."""
    return [
        *examine_versions(),
        examine_device(),
        examine_folder("store", Path(store).expanduser().absolute()),
        examine_folder("prefect home", home),
        *examine_api(api, database),
    ]


def examine_versions() -> list[Finding]:
    """Whether the installed versions are among those that are known to fail together."""
    findings = []
    prefect, sqlalchemy, fastapi = (_version(name) for name in ("prefect", "sqlalchemy", "fastapi"))
    if prefect is None:
        findings.append(Finding("prefect", "broken", "Prefect is not installed; run `make install`."))
    elif prefect < (3, 9, 1) and sqlalchemy is not None and sqlalchemy >= (2, 1):
        findings.append(
            Finding(
                "sqlalchemy", "broken", "with SQLAlchemy 2.1 no cron run is ever created; install 'sqlalchemy<2.1'."
            )
        )
    if fastapi is not None and fastapi >= (0, 151):
        findings.append(
            Finding("fastapi", "broken", "Prefect's server needs fastapi below 0.151; install 'fastapi>=0.139,<0.151'.")
        )
    findings.append(examine_torchvision())
    if not any(finding.verdict == "broken" for finding in findings):
        names = ("prefect", "sqlalchemy", "fastapi", "torch", "torchvision", "great-expectations", "pyarrow")
        installed = ", ".join(f"{name} {metadata.version(name)}" for name in names if _version(name) is not None)
        findings.insert(0, Finding("versions", "ok", f"{installed}."))
    return findings


def examine_torchvision() -> Finding:
    """Whether torchvision was built for the torch that is installed."""
    if _version("torch") is None:
        return Finding("torch", "broken", "torch is not installed; run `make install`.")
    if _version("torchvision") is None:
        return Finding("torchvision", "warn", "torchvision is not installed; sources of that kind cannot be read.")
    installed = metadata.version("torch").partition("+")[0]
    wanted = [r for r in metadata.requires("torchvision") or [] if re.match(r"torch\b\s*==", r)]
    advice = "install both from the same index, as constraints.txt has them."
    if wanted and re.sub(r".*==\s*", "", wanted[0]).partition(";")[0].strip() != installed:
        return Finding("torchvision", "broken", f"torchvision asks for {wanted[0]}, and torch is {installed}; {advice}")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        return Finding("torchvision", "broken", f"torchvision does not load ({str(error).splitlines()[0]}); {advice}")
    return Finding("torchvision", "ok", f"torchvision loads with torch {installed}.")


def examine_device() -> Finding:
    """What training would run on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("device", "broken", f"torch does not load ({str(error).splitlines()[0]}); install it again.")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return Finding(
            "device", "ok", f"{count} GPU{'s' if count > 1 else ''}, the first a {torch.cuda.get_device_name(0)}."
        )
    if torch.backends.mps.is_available():
        return Finding("device", "ok", "an Apple GPU (train.device: mps).")
    return Finding("device", "warn", "no GPU is visible; training runs on the CPU, which small data sets do not mind.")


def examine_folder(subject: str, folder: Path) -> Finding:
    """Whether a folder, or the nearest one above it that exists, can be written and has room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        if existing == folder:
            Store.open(str(folder))
        else:
            _probe(existing)
    except (InputError, OSError) as error:
        return Finding(subject, "broken", f"{folder} cannot be written ({error}); choose another folder.")
    free = shutil.disk_usage(existing).free
    if free < LOW_DISK_BYTES:
        return Finding(subject, "warn", f"{folder} has {free / 2**30:.1f} GiB left; make room.")
    return Finding(subject, "ok", f"{folder} can be written, {free / 2**30:.0f} GiB free.")


def examine_api(api: str | None, database: str | None) -> list[Finding]:
    """Whether the configured Prefect API answers, and whether its database suits automations."""
    if api is None:
        return [
            Finding("prefect api", "ok", "none is configured: `augment run` starts its own for as long as it runs.")
        ]
    try:
        urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        return [
            Finding("prefect api", "warn", f"{api} answers with status {error.code}; check PREFECT_API_AUTH_STRING.")
        ]
    except (OSError, ValueError) as error:
        return [
            Finding("prefect api", "broken", f"{api} does not answer ({error}); start it or unset PREFECT_API_URL.")
        ]
    return [Finding("prefect api", "ok", f"{api} answers."), _examine_database(api, database)]


def _examine_database(api: str, database: str | None) -> Finding:
    if database is not None and database.startswith("postgresql"):
        return Finding("database", "ok", "PostgreSQL.")
    request = urllib.request.Request(
        f"{api.rstrip('/')}/automations/count", b"{}", {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            automations = int(json.load(answer))
    except (OSError, ValueError, TypeError):
        automations = 0
    kind = "SQLite" if database is None or database.startswith("sqlite") else "unknown to this project"
    advice = "automations act several times on SQLite; use PostgreSQL wherever they act."
    if automations:
        return Finding(
            "database", "warn", f"{automations} automations, and the database is {kind} as far as known; {advice}"
        )
    return Finding("database", "ok", f"{kind} as far as known, and no automations ({advice})")


def _probe(folder: Path) -> None:
    """Raise OSError if no file can be made in ``folder``."""
    import tempfile

    with tempfile.TemporaryFile(dir=folder):
        pass


def _version(name: str) -> tuple[int, ...] | None:
    """The numbers of an installed package's version, or null."""
    try:
        return tuple(int(part) for part in re.findall(r"\d+", metadata.version(name))[:3])
    except metadata.PackageNotFoundError:
        return None
