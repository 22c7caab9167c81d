"""Generation: shards of synthetic rows, each a function of the model, the settings, the seed and its own number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

import models
from augment._devices import choose_device, cpu_threads, device_title, is_out_of_memory, repeatable_sums
from augment._exemplars import Exemplars, exemplars_key, open_exemplars, parent_ids
from augment._plugins import find_plugins
from augment._seeding import derive_seed
from augment._shards import Origin, ShardWriter, with_origin
from augment.codec import Codec
from augment.errors import AugmentError, InputError, TrainingError, did_you_mean
from augment.operators import OPERATORS, chosen_operator, draw_function
from augment.progress import Progress, silent
from augment.schema import DatasetSchema, class_name
from augment.store import ArtifactRef, Store, code_version, hash_json, verify_files
from augment.training import CODEC, SETTINGS, TORCH, WEIGHTS, model_code
from models._contract import GenerativeModel, ModelConfig, TensorSpec

if TYPE_CHECKING:
    from augment.config import GenerateSection

STAGE = "generate"
SHARD = "shard.parquet"
RECORD = "shard.json"
SHARD_BYTES = 64 << 20  # of the rows as 32-bit floats
MIN_SHARD_ROWS, MAX_SHARD_ROWS = 1_000, 50_000
CODE = (
    "augment.generation",
    "augment.operators",
    "augment._exemplars",
    "augment._shards",
    "augment._seeding",
    "augment._devices",
    "augment.codec",
    "augment.columns",
    "augment._hashing",
    "augment._png",
)


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
        InputError: its kind is not known, or it does not offer the operator.
    """
    config = model_config(model, store)
    operator = chosen_operator(config, section.operator)
    identity = {
        "model": model.sha256,
        "real": real.sha256,
        "operator": operator,
        "exemplars": exemplars_key(model, real, store) if OPERATORS[operator].parents else None,
        "temperature": section.temperature,
        "batch_size": section.batch_size,
        "threads": section.threads,
        "request": request.model_dump(),
        "seed": seed,
        "code": code_version(*CODE),
        "model_code": model_code(config),
        "torch": TORCH,
    }
    return hash_json(identity)[:32]


def model_config(ref: ArtifactRef, store: Store) -> ModelConfig:
    """The settings of the model that was trained.

    Raises:
        StoreError: the artifact is not in the store.
        InputError: there is no such model.
    """
    return trained_config(store.path(ref))


def trained_config(folder: Path) -> ModelConfig:
    """The settings of the trained model of the artifact in ``folder``.

    Raises:
        InputError: there is no such model.
    """
    described = json.loads((folder / SETTINGS).read_text())["model"]
    known = find_plugins(models, ModelConfig)
    kind = described["kind"]
    if kind not in known:
        raise InputError(
            f"the model artifact {folder.name} is of kind '{kind}', which is not known{did_you_mean(kind, known)}"
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
    folder = store.verify(ref, (CODEC,))
    model = open_model(folder)
    model.to(choose_device(device, "generate.device")).to(memory_format=torch.channels_last)
    return model, Codec.load(folder / CODEC)


def open_model(folder: Path) -> GenerativeModel:
    """The trained model of the artifact in ``folder``, in evaluation mode on the CPU.

    Raises:
        StoreError: its settings or weights were altered.
        InputError: there is no such model, or its nets are made otherwise by now.
    """
    from safetensors.torch import load_file

    verify_files(folder, (SETTINGS, WEIGHTS))
    spec = TensorSpec.from_json(json.loads((folder / SETTINGS).read_text())["spec"])
    config = trained_config(folder)
    model = config.build(spec, torch.Generator().manual_seed(0))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError:
        raise InputError(
            f"the weights in {folder} are not those of a {config.kind} as this version makes it; train it again."
        ) from None
    return model.eval()


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
        config = model_config(model, store)
        operator = chosen_operator(config, section.operator)
        labels = request_labels(schema, request)
        exemplars = None
        if parents := OPERATORS[operator].parents:
            of_round = (seed, request.round)
            exemplars = open_exemplars(model, real, store, codec, labels.tolist(), parents, of_round, progress)
        shard_seed = derive_seed(seed, "generate", request.round, request.shard)
        origin = Origin(model.sha256[:12], request.round, request.first_index, shard_seed)
        with cpu_threads(section.threads), ShardWriter(folder / SHARD, schema) as writer:
            for drawn in drawn_batches(network, labels, request, section, seed, operator, exemplars):
                rows = decoded(codec, drawn.x, drawn.y, schema)
                writer.write(with_origin(rows, schema, origin, writer.rows, drawn.parents))
                progress("generate", writer.rows, request.rows, "row")
        if writer.rows != request.rows:
            raise AugmentError(f"shard {request.shard} has {writer.rows} rows and not {request.rows}; report this.")
        device = device_title(next(network.parameters()).device)
        drawn_by = {"operator": operator, "batch_size": section.batch_size, "seed": shard_seed, "device": device}
        if (order := config.drawing_order()) is not None:
            drawn_by["order"] = order
        record = request.model_dump(exclude={"first_index"}) | {"rows": request.rows} | drawn_by
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")

    return store.write(STAGE, key, fill, identity=(SHARD,))


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


class Drawn(NamedTuple):
    """Rows of a shard as the model drew them, on the CPU: ``x`` (B, *shape), ``y`` (B,) and the ids of the real rows
    that each was drawn from, null where there are none.
    """

    x: Tensor
    y: Tensor
    parents: pa.Array | None


def drawn_batches(
    model: GenerativeModel,
    labels: Tensor,
    request: ShardRequest,
    section: GenerateSection,
    seed: int,
    operator: str = "prior",
    exemplars: Exemplars | None = None,
) -> Iterator[Drawn]:
    """The rows of a shard in batches of one size, drawn by ``operator`` from ``exemplars``, where it has parents.

    The last batch is filled up with its last label and cut. Each has its own generator, and the noise has the shape of
    the batch, so that a row follows from its place and label alone.

    Raises:
        InputError: the model does not offer the operator.
        TrainingError: a batch does not fit into memory.
    """
    draw = draw_function(model, operator, section.temperature)
    device = next(model.parameters()).device
    for number, first in enumerate(range(0, len(labels), section.batch_size)):
        own = labels[first : first + section.batch_size]
        padded = torch.cat([own, own[-1:].expand(section.batch_size - len(own))])
        batch_seed = derive_seed(seed, "generate", request.round, request.shard, number)
        generator = torch.Generator(device=device).manual_seed(batch_seed)
        picked = exemplars.pick(padded.numpy(), request.first_index + first) if exemplars is not None else []
        try:
            with torch.inference_mode(), repeatable_sums():
                parents = exemplars.tensors(picked, device) if exemplars is not None else []
                x = draw(padded.to(device), parents, generator)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"memory ran out drawing {section.batch_size} rows at once on {device}; set a smaller "
                "generate.batch_size."
            ) from None
        yield Drawn(x[: len(own)].float().cpu(), own, parent_ids(picked, len(own)) if picked else None)


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
