"""Names, paths and columns of a published dataset; nothing here reads or writes.

::

    <store>/datasets/<name>/
      _latest.json  _pins.json
      versions/<time>-<12 hex>/
        README.md  MANIFEST.json  croissant.json  BLESSED  rejects.parquet
        data/real/train-00000.parquet  data/synthetic/train-00000.parquet
        eval/validation-00000.parquet  eval/test-00000.parquet
        suites/*.json  report/{index.html,samples.png,gates.json,metrics.json}
      quarantine/<run>/ ... NOT_BLESSED
      .staging/  .cache/  .lock
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from augment.errors import InputError
from augment.schema import DatasetSchema

MANIFEST = "MANIFEST.json"
BLESSED = "BLESSED"
NOT_BLESSED = "NOT_BLESSED"
CARD = "README.md"
CROISSANT = "croissant.json"
REJECTS = "rejects.parquet"
REPORT = "report/index.html"
PICTURE = "report/samples.png"
GATES_FILE = "report/gates.json"
METRICS_FILE = "report/metrics.json"
SEALS = (MANIFEST, BLESSED, NOT_BLESSED)  # the files that a manifest does not list

LATEST = "_latest.json"
PINS = "_pins.json"
LOCK = ".lock"
STAGING = ".staging"
CACHE = ".cache"
VERSIONS = "versions"
QUARANTINE = "quarantine"

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
ORIGIN = {False: "real", True: "synthetic"}
ID_PREFIX = {False: "real-", True: "syn-"}
# In the metadata of each Parquet file, beside the features for Hugging Face.
IS_SYNTHETIC_KEY = b"aug.is_synthetic"  # true or false
CLASS_MASS_KEY = b"aug.class_mass"  # equal, or rows: what the sample weights of a class sum to

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")

ADDED_FIELDS = (
    pa.field("sample_id", pa.string()),
    pa.field("is_synthetic", pa.bool_()),
    pa.field("split", pa.string()),
    pa.field("source_row_id", pa.int64()),
    pa.field("parent_ids", pa.list_(pa.string())),
    pa.field("generator_id", pa.string()),
    pa.field("gen_seed", pa.int64()),
    pa.field("gen_index", pa.int64()),
    pa.field("content_hash", pa.string()),
    pa.field("sample_weight", pa.float64()),
)


@dataclass(frozen=True)
class Part:
    """One kind of published rows: a split, and whether its rows are synthetic."""

    split: SplitName
    is_synthetic: bool

    @property
    def name(self) -> str:
        """A name for caches and record sets: ``real``, ``synthetic``, ``validation`` or ``test``."""
        return ORIGIN[self.is_synthetic] if self.split == "train" else self.split

    @property
    def folder(self) -> str:
        """The folder of its files, from the version's folder."""
        return f"data/{ORIGIN[self.is_synthetic]}" if self.split == "train" else "eval"

    @property
    def pattern(self) -> str:
        """The glob of its files, from the version's folder."""
        return f"{self.folder}/{self.split}-*.parquet"

    def file(self, number: int) -> str:
        """The path of its file ``number``, from the version's folder."""
        return f"{self.folder}/{self.split}-{number:05d}.parquet"

    def files(self, folder: Path) -> list[Path]:
        """Its files in a version's folder, in order."""
        return sorted(folder.glob(self.pattern))


PARTS = (Part("train", False), Part("train", True), Part("validation", False), Part("test", False))
# The Hugging Face configurations, and what each loads; a part without rows is left out.
CONFIGS = {"augmented": PARTS, "real": (PARTS[0], *PARTS[2:]), "synthetic": PARTS[1:2]}


def dataset_folder(root: Path, name: str) -> Path:
    """The folder of the dataset called ``name`` below the store's ``root``.

    Raises:
        InputError: ``name`` cannot be a dataset's name.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise InputError(
            f"'{name}' cannot be the name of a dataset; use small letters, digits, dot, dash and underscore, "
            "up to 100 of them and no sign first."
        )
    return root / "datasets" / name


def published_schema(schema: DatasetSchema, part: Part, equal_class_mass: bool = False) -> pa.Schema:
    """The Arrow schema of the part's files, with the metadata that say what they are."""
    fields = [*schema.arrow_schema, *ADDED_FIELDS]
    features: dict[str, Any] = {c.name: c.stored.hugging_face() for c in schema.columns}
    features |= {f.name: {"dtype": str(f.type), "_type": "Value"} for f in ADDED_FIELDS}
    features["parent_ids"] = [{"dtype": "string", "_type": "Value"}]
    metadata = {
        IS_SYNTHETIC_KEY: str(part.is_synthetic).lower().encode(),
        CLASS_MASS_KEY: b"equal" if equal_class_mass else b"rows",
        b"huggingface": json.dumps({"info": {"features": features}}).encode(),
    }
    return pa.schema(fields, metadata=metadata)
