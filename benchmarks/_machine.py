"""What a figure was measured on: the part that every benchmark's JSON begins with."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NAMED = ("torch", "lightning-fabric", "pyarrow", "pandas", "numpy", "great_expectations", "prefect")


def machine() -> dict[str, Any]:
    """The processor, its cores, the memory in GiB, and the system."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that decide speed, of those that are installed."""
    found = {}
    for name in NAMED:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
