"""Drawing value by value: by caches of what layers have heard, beside a pass over the whole image for every value.

    python benchmarks/sampling.py [--quick] [--json] [--kinds pixelcnn] [--device cpu] [--threads 1]

Both draw from the same weights in the same process. The plain way is timed on some places, spread over the image, and
multiplied (`extrapolated`): a pass costs the same wherever the value lies. `ratio` is its time over that of the caches.
Cases: 28x28 grey and 32x32 in colour in batches of 64, with as many blocks or layers as published; and other sides,
which show the growth: the plain way's with the square of the pixels, the caches' with the pixels. Nets are as wide as
by default, a diagonal_bilstm as a row_lstm. On a GPU batches are larger. `memory_gib` is the most that drawing by
caches took: on a GPU by tensors, on a CPU by the process beside what it had before the net was made. Each case has a
process of its own. Times are CPU seconds of it on a CPU, else by the clock, the best of --repeats for the caches.
Weights are not trained: no cost depends on them. Each case is kept in benchmarks/results/sampling.json when it is done,
in the place of an earlier one of the same device, those of a quick run, of small images, in build/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from _cells import RESULTS, UNFINISHED
from _machine import machine, versions

from augment._devices import choose_device, device_title
from augment.config import MODELS
from augment.store import write_atomically
from models._contract import GenerativeModel, Span, TensorSpec
from models._raster import WholePasses

PLACES = 4  # at which the plain way is timed
SIZES = {"diagonal_bilstm": {"width": 24}}  # as wide as a row_lstm, where its default is 64


class Case(NamedTuple):
    """Images of a shape and so many grey levels, drawn in batches, by a net of so many blocks."""

    kind: str
    shape: tuple[int, int, int]
    levels: int
    rows: int
    blocks: int

    @property
    def title(self) -> str:
        """As the results name it."""
        channels, height, width = self.shape
        return f"{self.kind} {height}x{width}{'x3' if channels == 3 else ''}, batch {self.rows}"


CASES = [
    Case("pixelcnn", (1, 14, 14), 256, 64, 15),
    Case("pixelcnn", (1, 28, 28), 256, 64, 15),
    Case("pixelcnn", (1, 56, 56), 256, 64, 15),
    Case("pixelcnn", (1, 28, 28), 256, 1, 15),
    Case("pixelcnn", (3, 32, 32), 256, 64, 15),
    Case("gated_pixelcnn", (1, 28, 28), 256, 64, 15),
    Case("gated_pixelcnn", (3, 32, 32), 256, 64, 15),
    Case("gated_pixelcnn", (1, 14, 14), 256, 64, 15),
    Case("row_lstm", (1, 14, 14), 256, 64, 7),
    Case("row_lstm", (1, 28, 28), 256, 64, 7),
    Case("row_lstm", (3, 32, 32), 256, 64, 12),
    Case("diagonal_bilstm", (1, 14, 14), 256, 64, 7),
    Case("diagonal_bilstm", (1, 28, 28), 256, 64, 7),
    Case("diagonal_bilstm", (3, 32, 32), 256, 64, 12),
]
QUICK = [
    Case("pixelcnn", (1, 8, 8), 17, 16, 15),
    Case("pixelcnn", (1, 16, 16), 17, 16, 15),
    Case("gated_pixelcnn", (1, 16, 16), 17, 16, 15),
    Case("row_lstm", (1, 8, 8), 17, 16, 7),
    Case("diagonal_bilstm", (1, 8, 8), 17, 16, 7),
]
ON_GPU = [  # where one image costs about as much time as thousands
    Case("pixelcnn", (1, 28, 28), 256, 64, 15),
    Case("pixelcnn", (1, 28, 28), 256, 1024, 15),
    Case("pixelcnn", (1, 28, 28), 256, 8192, 15),
    Case("pixelcnn", (3, 32, 32), 256, 64, 15),
    Case("pixelcnn", (3, 32, 32), 256, 4096, 15),
    Case("gated_pixelcnn", (1, 28, 28), 256, 1024, 15),
    Case("gated_pixelcnn", (3, 32, 32), 256, 4096, 15),
    Case("row_lstm", (1, 28, 28), 256, 1024, 7),
    Case("row_lstm", (3, 32, 32), 256, 1024, 12),
    Case("diagonal_bilstm", (1, 28, 28), 256, 1024, 7),
    Case("diagonal_bilstm", (3, 32, 32), 256, 1024, 12),
]
KINDS = sorted({case.kind for case in CASES})


def built(case: Case, device: torch.device) -> GenerativeModel:
    channels, height, width = case.shape
    spec = TensorSpec(case.shape, (Span("continuous", channels * height * width, case.levels),), 10)
    config = MODELS[case.kind].model_validate({"kind": case.kind, "depth": case.blocks, **SIZES.get(case.kind, {})})
    return config.build(spec, torch.Generator().manual_seed(0)).to(device).eval()


def seconds_of(device: torch.device) -> float:
    """CPU seconds of this process, or the clock where a GPU does the work."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def resident_gib(line: Literal["VmRSS", "VmHWM"]) -> float:
    """The memory of this process, now or at most so far; `ru_maxrss` would be that of the process which started it."""
    found = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith(line))
    return int(found.split()[1]) / 2**20  # KiB


@torch.no_grad()
def measured(case: Case, device: torch.device, threads: int, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    before = resident_gib("VmRSS")
    model: Any = built(case, device)
    labels = torch.arange(case.rows, device=device) % 10
    drawn = []
    for repeat in range(repeats):
        generator = torch.Generator(device=device).manual_seed(repeat)
        began = seconds_of(device)
        rows = model.sample(labels, generator)
        drawn.append(seconds_of(device) - began)
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else resident_gib("VmHWM") - before
    plain = WholePasses(lambda x: model.net(x, labels), rows)
    channels, height, width = case.shape
    places = [(2 * i + 1) * height * width // (2 * PLACES) for i in range(PLACES)]
    plain.begin_row(0, torch.tensor(0))
    plain.logits(0, 0)  # not counted: the first pass makes ready what later ones find
    began = seconds_of(device)
    for place in places:
        plain.begin_row(0, torch.tensor(place // width))
        plain.logits(place % width, 0)
    passes = (seconds_of(device) - began) / PLACES * channels * height * width
    cached = min(drawn)
    return {
        "case": case.title,
        "kind": case.kind,
        "shape": list(case.shape),
        "batch": case.rows,
        "blocks": case.blocks,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cached_seconds": round(cached, 3),
        "plain_seconds": round(passes, 1),
        "extrapolated": f"the plain way was timed at {PLACES} of {channels * height * width:,} values",
        "warmed_up": True,
        "images_per_second": round(case.rows / cached, 3),
        "plain_images_per_second": round(case.rows / passes, 5),
        "memory_gib": round(memory, 2),
        "ratio": round(passes / cached, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small images; kept in build/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="not needed: no cost depends on data")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    device = choose_device(args.device, "--device")
    path = (UNFINISHED if args.quick else RESULTS) / "sampling.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {(row["case"], row["device"]): row for row in earlier}
    cases = QUICK if args.quick else ON_GPU if device.type == "cuda" else CASES
    for case in (case for case in cases if case.kind in args.kinds):
        with multiprocessing.get_context("spawn").Pool(1) as process:
            found = process.apply(measured, (case, device, args.threads, args.repeats))
        row = {**found, "device": device_title(device), "threads": args.threads}
        print(row, file=sys.stderr)
        rows[row["case"], row["device"]] = row
        document = {"machine": machine(), "versions": versions(), "rows": list(rows.values())}
        write_atomically(path, json.dumps(document, indent=1) + "\n")
    print(path.read_text() if not args.json else json.dumps(json.loads(path.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
