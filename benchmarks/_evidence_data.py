"""Made rows for the benchmark of what evidence costs: correlated numbers around the centres of three classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment._seeding import numpy_generator

CLASSES, COLUMNS, SHARED = 3, 20, 4
LABEL = "label"
BATCH_ROWS = 50_000


def write_rows(path: Path, rows: int, seed: int) -> None:
    """``rows`` rows of 20 decimals and a label, about as many of each class, in a Parquet file.

    A row is the centre of its class, four shared factors with loadings of the class, and noise of its own. Centres and
    loadings are the same for all seeds, so that rows of two seeds are of one distribution.
    """
    shape = numpy_generator("evidence cost", "shape")
    centres = shape.normal(0, 0.6, (CLASSES, COLUMNS))
    loadings = shape.normal(0, 0.5, (CLASSES, SHARED, COLUMNS))
    draw = numpy_generator(seed, "evidence cost", "rows")
    names = np.array([f"class {y}" for y in range(CLASSES)])
    schema = pa.schema([*((f"x{place}", pa.float64()) for place in range(COLUMNS)), (LABEL, pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, BATCH_ROWS):
            y = draw.integers(0, CLASSES, min(BATCH_ROWS, rows - start))
            values = centres[y] + draw.normal(0, 0.7, (len(y), COLUMNS))
            for label in range(CLASSES):
                here = y == label
                values[here] += draw.normal(size=(int(here.sum()), SHARED)) @ loadings[label]
            writer.write_batch(pa.record_batch([*map(pa.array, values.T.round(4)), pa.array(names[y])], schema=schema))
