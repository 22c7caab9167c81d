"""What a figure was measured on: the part that every benchmark's JSON begins with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
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
    """Versions of the libraries that decide speed."""
    return {name: version(name) for name in NAMED}
