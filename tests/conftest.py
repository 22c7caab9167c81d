"""What every test gets: no telemetry, no hub, no browser cache outside its own folder."""

from __future__ import annotations

import os

import torch

# Tests run side by side: threads that wait for a core that another test uses make each step tens of times slower.
torch.set_num_threads(1)

for name, value in {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(name, value)
