"""Published data as torch, pandas or Hugging Face data, after checking that they are what was published."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from augment._layout import (
    BLESSED,
    CACHE,
    CARD,
    CLASS_MASS_KEY,
    CONFIGS,
    MANIFEST,
    NOT_BLESSED,
    PARTS,
    PICTURE,
    REPORT,
    SPLITS,
    VERSIONS,
    Part,
)
from augment._manifest import Latest, Manifest, read_seal, resolve_version
from augment._seeding import numpy_generator
from augment._weights import class_weights, row_weights
from augment.errors import InputError, IntegrityError, did_you_mean
from augment.gates import GateResult
from augment.reader._contradictions import refuse_contradictions
from augment.schema import ClassValue, DatasetSchema, class_indices
from augment.versions import refuse_altered

if TYPE_CHECKING:
    import pandas as pd

    from augment.reader._torch_rows import TorchRows

Synthetic = Literal["all", "none", "only"]


def load_dataset(
    path: str | Path,
    version: str | None = None,
    cache_dir: str | Path | None = None,
    verify: bool = True,
) -> Dataset:
    """The latest version of the dataset in the folder ``path``, or the version that ``path`` itself is.

    ``version`` picks another by its name or the beginning of its hex digits. Every byte is compared with the manifest
    unless ``verify`` is false; what the rows say about themselves is compared always. Decoded rows for torch are kept
    in ``cache_dir``, by default beside the versions; those that were altered there are decoded anew.

    Raises:
        InputError: there is no such dataset or version.
        IntegrityError: the version is not blessed, is altered, or contradicts itself about what is synthetic.
    """
    place = Path(path).expanduser().absolute()
    folder = _find(place, version)
    read_seal(folder)
    if verify:
        inside = folder.parent.name == VERSIONS
        refuse_altered(folder, Latest.load(folder.parent.parent) if inside else None)
    schema = Manifest.load(folder).dataset_schema
    refuse_contradictions(folder, schema)
    cache = Path(cache_dir).expanduser().absolute() if cache_dir is not None else None
    return Dataset(folder, schema, cache, verify)


def open_staged_dataset(folder: Path, schema: DatasetSchema, cache_dir: Path | None = None) -> Dataset:
    """The dataset in a ``folder`` that has no manifest yet, for those who audit it before it is published.

    Raises:
        IntegrityError: the folder contradicts itself about what is synthetic.
    """
    refuse_contradictions(folder, schema)
    return Dataset(folder, schema, cache_dir)


@contextlib.contextmanager
def without_hub() -> Iterator[None]:
    """Keep Hugging Face `datasets`, which must be installed, from asking the hub; the caller's setting comes back."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _find(place: Path, version: str | None) -> Path:
    """The folder of a version from a dataset's folder or from its own."""
    if (place / VERSIONS).is_dir():
        return resolve_version(place, version)
    if any((place / name).exists() for name in (MANIFEST, BLESSED, NOT_BLESSED)):
        if version is not None and not (version == place.name or place.name.rpartition("-")[2].startswith(version)):
            raise InputError(f"{place} is not the version '{version}'; give the dataset's folder to choose one.")
        return place
    raise InputError(f"{place} is neither a dataset nor a version; give <store>/datasets/<name>.")


@dataclass(frozen=True)
class Selection:
    """The chosen rows of each part, and of all of them the class (int64, -1: no label) and the weight (mean 1)."""

    parts: tuple[tuple[Part, npt.NDArray[np.int64]], ...]
    y: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    @property
    def is_synthetic(self) -> npt.NDArray[np.bool_]:
        """Which rows are synthetic, of shape (rows,)."""
        return np.repeat([p.is_synthetic for p, _ in self.parts], [len(r) for _, r in self.parts]).astype(np.bool_)


class Dataset:
    """One version of a dataset; ``path`` is its folder, ``schema`` its columns.

    ``split`` is ``train``, ``validation`` or ``test``, and only ``train`` has synthetic rows: ``synthetic="none"``
    leaves them out, ``"only"`` leaves out the real ones, and ``ratio`` keeps that share of the synthetic rows of each
    class, always the same ones. The sample weights of what is left are made anew by the same rule, so that real and
    synthetic rows of a class share its mass again.
    """

    def __init__(self, path: Path, schema: DatasetSchema, cache_dir: Path | None = None, verify: bool = True) -> None:
        self.path = path
        self.schema = schema
        self._cache_dir = cache_dir
        self._verify = verify

    @property
    def manifest(self) -> Manifest:
        """Everything that the version says about itself."""
        return Manifest.load(self.path)

    @property
    def version(self) -> str:
        """The name of the version."""
        return self.manifest.version or self.path.name

    @property
    def classes(self) -> tuple[ClassValue, ...]:
        """The classes in the order of ``y``."""
        return self.schema.classes

    @property
    def report_path(self) -> Path:
        """The page that a person opens."""
        return self.path / REPORT

    @property
    def picture_path(self) -> Path:
        """Real rows beside synthetic ones, as a picture."""
        return self.path / PICTURE

    def card(self) -> str:
        """The dataset card, as Markdown."""
        return (self.path / CARD).read_text(encoding="utf-8")

    def lineage(self) -> dict[str, Any]:
        """Where the version comes from."""
        return self.manifest.lineage

    def gates(self) -> list[GateResult]:
        """What each gate measured and allowed."""
        return self.manifest.gates

    def arrow(self, split: str = "train", synthetic: Synthetic = "all", ratio: float = 1.0) -> pa.Table:
        """The rows as an Arrow table with the published columns.

        Raises:
            InputError: the split or the choice of synthetic rows is none of those there are.
        """
        chosen = self._select(split, synthetic, ratio)
        tables = [self._table(part).take(rows) for part, rows in chosen.parts]
        table = pa.concat_tables([t.replace_schema_metadata(None) for t in tables])
        position = table.schema.get_field_index("sample_weight")
        return table.set_column(position, "sample_weight", pa.array(chosen.weights))

    def pandas(self, split: str = "train", synthetic: Synthetic = "all", ratio: float = 1.0) -> pd.DataFrame:
        """The rows as a data frame with the published columns; an image is a dictionary of ``bytes`` and ``path``.

        Raises:
            InputError: the split or the choice of synthetic rows is none of those there are.
        """
        frame: pd.DataFrame = self.arrow(split, synthetic, ratio).to_pandas()
        return frame

    def torch(
        self,
        split: str = "train",
        synthetic: Synthetic = "all",
        ratio: float = 1.0,
        transform: Callable[[Any], Any] | None = None,
    ) -> TorchRows:
        """The rows as a torch data set of ``(x, y)``; train from its ``loader``, which draws by ``sample_weight``.

        Raises:
            InputError: the split or the choice of synthetic rows is none of those there are, or the cache cannot be
                written.
        """
        from augment.reader._torch_rows import TorchRows

        chosen = self._select(split, synthetic, ratio)
        return TorchRows(self.path, self._cache(), self.schema, chosen, transform, self._verify)

    def hf(self, config: str = "augmented") -> Any:
        """The Hugging Face ``DatasetDict`` of ``augmented``, ``real`` or ``synthetic``, without asking the hub.

        Raises:
            InputError: there is no such configuration, or `datasets` is not installed.
        """
        if config not in CONFIGS:
            raise InputError(f"there is no configuration '{config}'{did_you_mean(config, CONFIGS)}")
        if not any(pq.read_metadata(file).num_rows for part in CONFIGS[config] for file in part.files(self.path)):
            raise InputError(f"{self.path} has no rows for the configuration '{config}'; load 'augmented'.")
        try:
            import datasets
        except ImportError:
            raise InputError("Hugging Face `datasets` is not installed; run `pip install datasets`.") from None
        with without_hub():
            return datasets.load_dataset(str(self.path), config, cache_dir=str(self._cache() / "hf"))

    def _cache(self) -> Path:
        """Where decoded rows of this version are kept."""
        if not (self.path / MANIFEST).exists():  # staged: it has no name yet under which to keep them
            if self._cache_dir is not None:
                return self._cache_dir
            return self._temporary
        if self._cache_dir is not None:
            return self._cache_dir / self.manifest.dataset / self.version
        beside = self.path.parent.parent if self.path.parent.name == VERSIONS else self.path.parent
        return beside / CACHE / self.version

    @cached_property
    def _temporary(self) -> Path:
        """A folder that goes with this object."""
        folder = tempfile.mkdtemp(prefix="augment-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _table(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        files = part.files(self.path)
        if not files:
            raise IntegrityError(f"{self.path / part.file(0)} is missing; use another version.")
        return pa.concat_tables([pq.read_table(file, columns=columns) for file in files])

    @cached_property
    def _equal_class_mass(self) -> bool:
        metadata = pq.read_schema(PARTS[0].files(self.path)[0]).metadata or {}
        return bool(metadata.get(CLASS_MASS_KEY) == b"equal")

    def _classes_of(self, part: Part) -> npt.NDArray[np.int64]:
        """The class of each row of a part."""
        table = self._table(part, [self.schema.label or "sample_weight"])
        return class_indices(table.column(0), self.schema, table.num_rows)

    def _select(self, split: str, synthetic: str, ratio: float) -> Selection:
        if split not in SPLITS:
            raise InputError(f"there is no split '{split}'{did_you_mean(split, SPLITS)}")
        if synthetic not in ("all", "none", "only"):
            raise InputError(f"synthetic='{synthetic}' is none of 'all', 'none' and 'only'.")
        if not 0 <= ratio <= 1:
            raise InputError(f"ratio={ratio} is no share of the synthetic rows; give a number from 0 to 1.")
        if split != "train":
            return self._select_held_out(split, synthetic)
        real, drawn = PARTS[:2]
        y = {part: self._classes_of(part) for part in (real, drawn)}
        rows = {part: np.arange(len(indices)) for part, indices in y.items()}
        if synthetic == "only":
            rows[real] = rows[real][:0]
        if synthetic == "none" or ratio < 1:
            rows[drawn] = _share(y[drawn], 0.0 if synthetic == "none" else ratio)
        chosen = {part: y[part][rows[part]] for part in rows}
        classes = max(len(self.schema.classes), 1)
        counts = [np.bincount(indices[indices >= 0], minlength=classes) for indices in chosen.values()]
        weights = class_weights(counts[0].tolist(), counts[1].tolist(), self._equal_class_mass)
        return Selection(
            tuple(rows.items()),
            np.concatenate(list(chosen.values())),
            np.concatenate([row_weights(chosen[part], w) for part, w in zip(rows, weights, strict=True)]),
        )

    def _select_held_out(self, split: str, synthetic: str) -> Selection:
        if synthetic == "only":
            raise InputError(f"the rows of '{split}' are always real; synthetic rows are only in 'train'.")
        part = next(p for p in PARTS if p.split == split)
        y = self._classes_of(part)
        return Selection(((part, np.arange(len(y))),), y, np.ones(len(y)))


def _share(y: npt.NDArray[np.int64], ratio: float) -> npt.NDArray[np.int64]:
    """The positions of ``ratio`` of the rows of each class; those of a smaller ratio are among those of a larger."""
    kept = []
    for value in np.unique(y):
        rows = np.flatnonzero(y == value)
        order = numpy_generator("reader", "ratio", int(value)).permutation(len(rows))
        kept.append(rows[order[: int(np.floor(ratio * len(rows) + 0.5))]])
    return np.sort(np.concatenate(kept)) if kept else np.arange(0)
