"""Bits per dimension of grey MNIST at equal CPU minutes: our trainer beside pythae 0.1.2, with the same PixelCNN.

    python benchmarks/likelihood_beside_pythae.py --data DIR [--quick] [--json] [--minutes 1 2 4]

Both train the net of our pixelcnn on 59,000 images of MNIST in DIR/mnist, of 256 levels and without labels, with the
same optimiser, constant rate, batch and one thread, each in a process of its own; `models_vs_peers.py` says how, and
makes pythae's environment. Ours clips gradients at a norm of 1 and averages the weights (decay .999), so that a
difference is not of speed alone. How many steps fit into the minutes follows from the images per CPU second that a
short training of each side had in the same run; `cpu_minutes` are those that were taken. Then 500 other images are
judged: by our averaged weights, by the weights that pythae's trainer ends with. `ours, bf16` is ours with
`train.precision: bf16-mixed`; theirs stays in 32 bits. `ratio` is pythae's bits over ours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _cells import RESULTS, UNFINISHED
from _images import idx_part
from _machine import machine, versions
from _markdown import table
from _training_cases import CASES, HELD_OUT, Request
from models_vs_peers import PEERS, environment, prepare, train

from augment.store import write_atomically

CASE, FILE = "pixelcnn pythae", "likelihood_beside_pythae.json"
ROWS, JUDGED = 59_000, 500
SPEED_STEPS = 70
SIDES: Mapping[str, Mapping[str, Any]] = {"ours": {}, "ours, bf16": {"precision": "bf16-mixed"}, "theirs": {}}


def measure(data: Path, minutes: list[float], python: Path) -> list[dict[str, Any]]:
    """A row for each of the minutes, with the bits per dimension and the steps of each side."""

    def trained(side: str, asked: Request) -> dict[str, Any]:
        if side == "theirs":
            return train(python, CASES[CASE].script, asked)
        return train(Path(sys.executable), "_our_training.py", replace(asked, **SIDES[side]))

    with tempfile.TemporaryDirectory(prefix="beside-pythae-") as folder:
        prepare(data, ROWS, Path(folder))
        pixels, _ = idx_part(data / "mnist", "train")
        np.save(Path(folder) / HELD_OUT, pixels[ROWS : ROWS + JUDGED, None])
        request = Request(CASE, folder, SPEED_STEPS, CASES[CASE].batch_size, 1, "cpu")
        speeds = {side: trained(side, request)["images_per_cpu_second"] for side in SIDES}
        rows = []
        for budget in minutes:
            row: dict[str, Any] = {
                "minutes": budget,
                "judged": JUDGED,
                "bits_per_dim": {},
                "steps": {},
                "cpu_minutes": {},
            }
            for side in SIDES:
                steps = round(budget * 60 * speeds[side] / request.batch_size / 10) * 10
                row["steps"][side] = steps
                found = trained(side, replace(request, steps=steps, judged=True))
                taken = steps * request.batch_size / found["images_per_cpu_second"] / 60
                row["cpu_minutes"][side] = round(taken, 3)
                row["bits_per_dim"][side] = round(found["bits_per_dim"], 4)
            row["images_per_cpu_second"] = speeds
            row["ratio"] = round(row["bits_per_dim"]["theirs"] / row["bits_per_dim"]["ours"], 3)
            rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of a minute; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, required=True, help="a folder with mnist/ in it")
    parser.add_argument("--minutes", type=float, nargs="+", help="CPU minutes of a training; 1, 2 and 4 by default")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--environments", type=Path, default=cache / "augment-benchmarks")
    args = parser.parse_args()
    minutes = args.minutes or ([0.25] if args.quick else [1.0, 2.0, 4.0])
    if not (args.data / "mnist").is_dir():
        rows: list[dict[str, Any]] = [{"absent": f"{args.data / 'mnist'} is not there", "ratio": None}]
    else:
        rows = measure(args.data, minutes, environment(args.environments.expanduser().absolute()))
        peers = dict(peer.split("==") for peer in PEERS)
        document = {"machine": machine(), "versions": versions() | peers, "rows": rows}
        folder = UNFINISHED if args.quick else RESULTS
        folder.mkdir(exist_ok=True)
        write_atomically(folder / FILE, json.dumps(document, indent=1) + "\n")
    if args.json:
        print(json.dumps({"rows": rows}))
    elif "absent" in rows[0]:
        print(rows[0]["absent"])
    else:
        lines = [[f"{r['minutes']:g}", *(f"{r['bits_per_dim'][s]:.3f} ({r['steps'][s]})" for s in SIDES)] for r in rows]
        print(table(["CPU minutes", *(f"{side}: bits/dim (steps)" for side in SIDES)], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
