"""Generation: shards of synthetic rows, each a function of the model, the settings, the seed and its own number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

import models
from augment._devices import choose_device, cpu_threads, device_title, is_out_of_memory
from augment._hashing import content_hashes
from augment._plugins import find_plugins
from augment._seeding import derive_seed
from augment.codec import Codec
from augment.errors import AugmentError, InputError, did_you_mean
from augment.progress import Progress, silent
from augment.schema import DatasetSchema, class_name
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.training import CODEC, MODEL, TORCH, WEIGHTS, model_code
from models._contract import GenerativeModel, ModelConfig, TensorSpec

if TYPE_CHECKING:
    from augment.config import GenerateSection

STAGE = "generate"
SHARD = "shard.parquet"
RECORD = "shard.json"
SHARD_BYTES = 64 << 20  # of the rows as 32-bit floats
MIN_SHARD_ROWS, MAX_SHARD_ROWS = 1_000, 50_000
ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 32 << 20
CODE = (
    "augment.generation",
    "augment._seeding",
    "augment._devices",
    "augment.codec",
    "augment.columns",
    "augment._hashing",
    "augment._png",
)

# What generation adds to the data's own columns.
ADDED_COLUMNS = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("generator_id", pa.string()),
        pa.field("gen_seed", pa.int64()),
        pa.field("gen_index", pa.int64()),
        pa.field("parent_ids", pa.list_(pa.string())),
        pa.field("content_hash", pa.string()),
    ]
)
Draw = Callable[[Tensor, torch.Generator], Tensor]


class ShardRequest(BaseModel):
    """Which rows a shard holds: ``counts`` rows of each class, in class order, numbered from ``first_index``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int = Field(ge=0)
    shard: int = Field(ge=0)
    first_index: int = Field(ge=0)
    counts: dict[str, int]

    @property
    def rows(self) -> int:
        """Rows in the shard."""
        return sum(self.counts.values())


def default_shard_rows(spec: TensorSpec) -> int:
    """As many rows as 64 MiB hold as 32-bit floats, between 1,000 and 50,000."""
    return min(MAX_SHARD_ROWS, max(MIN_SHARD_ROWS, SHARD_BYTES // (4 * spec.size)))


def shard_requests(wanted: dict[str, int], round: int, shard_rows: int) -> list[ShardRequest]:  # noqa: A002
    """The shards of a round, each of ``shard_rows`` rows but the last, that together hold ``wanted`` rows.

    ``wanted`` says rows by class name, in class order; so do the shards, one class after the other.
    """
    requests: list[ShardRequest] = []
    counts: dict[str, int] = {}
    first, free = 0, shard_rows
    for name, rows in wanted.items():
        missing = rows
        while missing > 0:
            taken = min(missing, free)
            counts[name] = taken
            missing, free = missing - taken, free - taken
            if free == 0:
                requests.append(ShardRequest(round=round, shard=len(requests), first_index=first, counts=counts))
                first, counts, free = first + shard_rows, {}, shard_rows
    if counts:
        requests.append(ShardRequest(round=round, shard=len(requests), first_index=first, counts=counts))
    return requests


def shard_key(
    model: ArtifactRef, real: ArtifactRef, section: GenerateSection, request: ShardRequest, seed: int, store: Store
) -> str:
    """The key of the shard that :func:`generate_shard` makes, known before it is drawn.

    The device is not part of it: nobody knows beforehand what ``auto`` will find where the shard is drawn.

    Raises:
        StoreError: the model is not in the store.
        InputError: its kind is not known.
    """
    identity = {
        "model": model.sha256,
        "real": real.sha256,
        "operator": section.operator,
        "temperature": section.temperature,
        "batch_size": section.batch_size,
        "threads": section.threads,
        "request": request.model_dump(),
        "seed": seed,
        "code": code_version(*CODE),
        # The weights of a model do not tell how rows are drawn with them.
        "model_code": model_code(model_config(model, store)),
        "torch": TORCH,
    }
    return hash_json(identity)[:32]


def model_config(ref: ArtifactRef, store: Store) -> ModelConfig:
    """The settings of the model that was trained.

    Raises:
        StoreError: the artifact is not in the store.
        InputError: there is no such model.
    """
    described = json.loads((store.path(ref) / MODEL).read_text())["model"]
    known = find_plugins(models, ModelConfig)
    kind = described["kind"]
    if kind not in known:
        raise InputError(
            f"the model artifact {ref.key} is of kind '{kind}', which is not known{did_you_mean(kind, known)}"
        )
    config: ModelConfig = known[kind].model_validate(described)
    return config


def load_model(ref: ArtifactRef, store: Store, device: str = "cpu") -> tuple[GenerativeModel, Codec]:
    """The trained model in evaluation mode on ``device``, and the codec that reads its rows.

    Weights that were trained on a GPU load anywhere.

    Raises:
        StoreError: the artifact is not in the store, or a file of it was altered.
        InputError: this machine has no such device, or no such model.
    """
    from safetensors.torch import load_file

    folder = store.verify(ref, (MODEL, WEIGHTS, CODEC))
    spec = TensorSpec.from_json(json.loads((folder / MODEL).read_text())["spec"])
    model = model_config(ref, store).build(spec, torch.Generator().manual_seed(0))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.to(choose_device(device, "generate.device")).eval(), Codec.load(folder / CODEC)


def generate_shard(
    model: ArtifactRef,
    real: ArtifactRef,
    section: GenerateSection,
    request: ShardRequest,
    seed: int,
    store: Store,
    progress: Progress = silent,
) -> ArtifactRef:
    """The artifact of one shard: exactly the rows that ``request`` asks for, one class after the other.

    Its bytes do not depend on other shards, so it can be made alone, elsewhere or again, on the same CPU type,
    versions and thread count. A CPU and a GPU draw other rows from the same seed: the bytes are those of the type of
    device that drew them first, and ``shard.json`` names it, which is not part of the artifact's hash.

    Raises:
        InputError: a class is not one of the data's, the model does not offer the operator, or the device is not there.
        StoreError: the model or the real data are not in the store, or were altered.
    """
    key = shard_key(model, real, section, request, seed, store)

    def fill(folder: Path) -> None:
        schema = DatasetSchema.load(store.path(real) / "schema.json")
        network, codec = load_model(model, store, section.device)
        labels = request_labels(schema, request)
        origin = Origin(model.sha256[:12], request, derive_seed(seed, "generate", request.round, request.shard))
        with cpu_threads(section.threads), ShardWriter(folder / SHARD, schema) as writer:
            for drawn, y in drawn_batches(network, labels, request, section, seed):
                rows = decoded(codec, drawn, y, schema)
                writer.write(with_origin(rows, schema, origin, writer.rows))
                progress("generate", writer.rows, request.rows, "row")
        if writer.rows != request.rows:
            raise AugmentError(f"shard {request.shard} has {writer.rows} rows and not {request.rows}; report this.")
        record = {
            "round": request.round,
            "shard": request.shard,
            "rows": request.rows,
            "counts": request.counts,
            "batch_size": section.batch_size,
            "seed": origin.seed,
            "device": device_title(next(network.parameters()).device),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")

    return store.write(STAGE, key, fill, identity=(SHARD,))


def draw_function(model: GenerativeModel, section: GenerateSection) -> Draw:
    """How ``section.operator`` draws rows for labels from ``model``: the one place that looks at what a model offers.

    Raises:
        InputError: the model does not offer the operator.
    """
    if section.operator == "prior":
        return lambda labels, generator: model.sample(labels, generator, section.temperature)
    raise InputError(f"the model does not offer generate.operator '{section.operator}'; use prior.")


def request_labels(schema: DatasetSchema, request: ShardRequest) -> Tensor:
    """The label of each row of the shard as ``y``, shape ``(rows,)`` int64; all 0 for data without a label.

    Raises:
        InputError: the request names a class that the data do not have.
    """
    numbers = {class_name(value): index for index, value in enumerate(schema.classes)}
    if schema.label is None:
        return torch.zeros(request.rows, dtype=torch.int64)
    for name in request.counts:
        if name not in numbers:
            raise InputError(f"the plan asks for rows of class '{name}'{did_you_mean(name, numbers)}")
    y = torch.tensor([numbers[name] for name in request.counts], dtype=torch.int64)
    return y.repeat_interleave(torch.tensor(list(request.counts.values()), dtype=torch.int64))


def drawn_batches(
    model: GenerativeModel, labels: Tensor, request: ShardRequest, section: GenerateSection, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of a shard as tensors on the CPU with their ``y``, in batches of one size.

    The last batch is filled up with its last label and cut. Each has its own generator, and the noise has the shape of
    the batch, so that a row follows from its place and label alone.

    Raises:
        AugmentError: a batch does not fit into memory.
    """
    draw = draw_function(model, section)
    device = next(model.parameters()).device
    for number, first in enumerate(range(0, len(labels), section.batch_size)):
        own = labels[first : first + section.batch_size]
        padded = torch.cat([own, own[-1:].expand(section.batch_size - len(own))])
        batch_seed = derive_seed(seed, "generate", request.round, request.shard, number)
        generator = torch.Generator(device=device).manual_seed(batch_seed)
        try:
            with torch.inference_mode():
                drawn = draw(padded.to(device), generator)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise AugmentError(
                f"memory ran out drawing {section.batch_size} rows at once on {device}; set a smaller "
                "generate.batch_size."
            ) from None
        yield drawn[: len(own)].float().cpu(), own


def decoded(codec: Codec, drawn: Tensor, y: Tensor, schema: DatasetSchema) -> pa.RecordBatch:
    """The rows as a table. A row with a value that is not finite has no features at all.

    Decoding would turn such a value into a colour or a category like any other; as missing values they are named and
    rejected by validation.
    """
    finite = torch.isfinite(drawn.flatten(1)).all(dim=1)
    if bool(finite.all()):
        return codec.decode(drawn, y)
    rows = codec.decode(drawn.nan_to_num(0.0, 0.0, 0.0), y)
    kept = pa.array(range(rows.num_rows), pa.int64(), mask=(~finite).numpy())
    names = {column.name for column in schema.features}
    columns = [rows.column(n).take(kept) if n in names else rows.column(n) for n in rows.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


class Origin(NamedTuple):
    """Where the rows of a shard come from: 12 hex digits of the model, the request, and the shard's seed."""

    generator_id: str
    request: ShardRequest
    seed: int


def with_origin(batch: pa.RecordBatch, schema: DatasetSchema, origin: Origin, first_row: int) -> pa.RecordBatch:
    """Decoded rows with the columns that say where each comes from; ``first_row`` is the first one's in the shard."""
    rows = batch.num_rows
    first = origin.request.first_index + first_row
    indices = range(first, first + rows)
    prefix = f"syn-{origin.generator_id}-{origin.request.round}"
    added = [
        pa.array([f"{prefix}-{index}" for index in indices], pa.string()),
        pa.repeat(pa.scalar(origin.generator_id, pa.string()), rows),
        pa.repeat(pa.scalar(origin.seed, pa.int64()), rows),
        pa.array(indices, pa.int64()),
        pa.nulls(rows, pa.list_(pa.string())),
        content_hashes(batch, schema),
    ]
    return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=shard_schema(schema))


def shard_schema(schema: DatasetSchema) -> pa.Schema:
    """The columns of a shard: the data's own, then :data:`ADDED_COLUMNS`."""
    return pa.schema([*schema.arrow_schema, *ADDED_COLUMNS])


class ShardWriter:
    """A Parquet file written a row group at a time, so that memory holds at most one."""

    def __init__(self, path: Path, schema: DatasetSchema) -> None:
        self.rows = 0
        self._writer = pq.ParquetWriter(path, shard_schema(schema), compression="zstd")
        self._held: list[pa.RecordBatch] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; they reach the file when a row group is full, or weighs much."""
        self.rows += batch.num_rows
        self._held.append(batch)
        rows = sum(held.num_rows for held in self._held)
        large = sum(held.nbytes for held in self._held) >= ROW_GROUP_BYTES
        if rows >= ROW_GROUP_ROWS or large:
            table = pa.Table.from_batches(self._held)
            full = rows if large else rows - rows % ROW_GROUP_ROWS
            self._writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP_ROWS)
            self._held = table.slice(full).to_batches()
