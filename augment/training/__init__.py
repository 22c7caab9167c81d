"""Training: real rows and a model's settings go in, an artifact with averaged weights comes out."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import models
from augment._devices import (
    Precision,
    choose_device,
    choose_precision,
    cpu_threads,
    device_title,
    is_out_of_memory,
    repeatable_sums,
    seed_torch,
    torch_randomness_kept,
)
from augment._lineage import package_versions
from augment._seeding import derive_seed, torch_generator
from augment.classifying import CLASSIFIER_FILE, write_classifier
from augment.codec import Codec
from augment.critique import LATENTS_FILE, TRAVERSALS_FILE, write_latents
from augment.encoding import encode, encode_key
from augment.errors import InputError, TrainingError
from augment.operators import chosen_operator
from augment.progress import Progress, silent
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.training._batches import Rows, Sampler
from augment.training._checkpoint import save_tensors
from augment.training._choices import TrainingChoices, training_choices
from augment.training._journal import Journal
from augment.training._loop import LoopSettings, TrainingLoop, open_fabric
from augment.training._refusals import refuse_share_of_all, refuse_small_batches, refuse_without_pairs
from augment.training._spot_checks import SpotChecks, moments, spot_checks
from models._contract import GenerativeModel, ModelConfig, TensorSpec

if TYPE_CHECKING:
    from augment.config import TrainSection

__all__ = [
    "build_model",
    "check_model",
    "model_code",
    "refuse_share_of_all",
    "refuse_small_batches",
    "refuse_without_pairs",
    "train",
    "train_key",
    "training_choices",
]

STAGE = "train"
WEIGHTS = "weights.safetensors"
MODEL = "model.json"
SETTINGS = "settings.json"  # the model's: what weights alone do not tell, as how rows are drawn with them
CODEC = "codec.json"
CODE = (
    "augment.training",
    "augment._devices",
    "augment._seeding",
    "augment.worth._chosen_rows",
    "augment.worth._classical",
    "augment.worth._encoded_rows",
    "augment.worth._nearness",
    "augment.worth._neighbours",
)
# Other versions compute other bytes. The build (+cpu, +cu130) is not in it: it differs between the machines of a run.
TORCH = torch.__version__.partition("+")[0]


def model_code(model: ModelConfig) -> str:
    """The version of the code that a model is made of."""
    shared = [f"models.{info.name}" for info in pkgutil.iter_modules(models.__path__) if info.name.startswith("_")]
    return code_version(type(model).__module__, *sorted(shared))


def train_key(real: ArtifactRef, model: ModelConfig, settings: TrainSection, seed: int) -> str:
    """The key of the model that :func:`train` makes, known before it is trained.

    The device is not part of it: a model is the same artifact wherever it was trained.
    """
    return hash_json(_identity(real, model, training_choices(model, settings), seed))[:32]


def build_model(config: ModelConfig, spec: TensorSpec, seed: int) -> GenerativeModel:
    """A model for ``spec`` on the CPU, its first weights a function of ``seed``.

    Raises:
        InputError: the model does not take data of this form, or its settings do not fit them.
    """
    if spec.form not in config.accepts:
        shapes = {"grid": "images", "vector": "tables"}
        raise InputError(
            f"the model '{config.kind}' learns {' and '.join(shapes[form] for form in sorted(config.accepts))}, and "
            f"these data are {shapes[spec.form]} of shape {spec.shape}; `augment models` lists what each accepts."
        )
    cpu = torch.device("cpu")
    try:
        with torch_randomness_kept(cpu):  # torch's layers draw first values of their own when they are made
            seed_torch(cpu, derive_seed(seed, "train", "layers"))
            return config.build(spec, torch_generator(seed, "train", "weights"))
    except ValueError as error:
        raise InputError(f"model.{config.kind} cannot be built for data of shape {spec.shape}: {error}.") from None


def check_model(config: ModelConfig, spec: TensorSpec) -> int:
    """The number of parameters that the model would have for ``spec``.

    Raises:
        InputError: the model does not take data of this form, or its settings do not fit them.
    """
    with torch.device("meta"):  # shapes alone: a model larger than this machine's memory can be counted
        return sum(parameter.numel() for parameter in build_model(config, spec, 0).parameters())


def train(
    real: ArtifactRef,
    model: ModelConfig,
    settings: TrainSection,
    seed: int,
    store: Store,
    progress: Progress = silent,
) -> ArtifactRef:
    """The trained model: an artifact with its averaged weights, its codec and the record of its training.

    A training that was interrupted goes on from its newest whole checkpoint, and on the CPU ends with the same bytes
    as one that was not. A second process that asks for the same model waits for the first.

    Raises:
        InputError: the model does not fit the data, the device is not there, or a checkpoint is of another run.
        TrainingError: a loss is not finite, memory is too short, or the result cannot be written.
    """
    key = train_key(real, model, settings, seed)
    found = store.find(STAGE, key)
    if found is not None:
        return found
    device = choose_device(settings.device)  # refused before the rows are encoded
    encoded, choices = encode(real, seed, store, progress), training_choices(model, settings)
    refuse_small_batches(model, choices.batch_size)
    refuse_without_pairs(model, store.path(encoded), choices.batch_size)
    refuse_share_of_all(choices.labelled, store.path(encoded))
    run = TrainingRun(
        real=real,
        encoded=encoded,
        config=model,
        choices=choices,
        checkpoint_seconds=settings.checkpoint_seconds,
        device=device,
        precision=choose_precision(settings.precision, device),
        seed=seed,
    )
    return store.write(
        STAGE,
        key,
        lambda folder: run.fill(folder, store, progress),
        identity=(WEIGHTS, CODEC, SETTINGS),
        resumable=True,
    )


@dataclass(frozen=True)
class TrainingRun:
    """One training with everything about it decided; :meth:`fill` carries it out in the folder of its artifact."""

    real: ArtifactRef
    encoded: ArtifactRef
    config: ModelConfig
    choices: TrainingChoices
    checkpoint_seconds: float
    device: torch.device
    precision: Precision
    seed: int

    def fill(self, folder: Path, store: Store, progress: Progress) -> None:
        """Train, or go on training, and write the files of the artifact."""
        source = store.path(self.encoded)
        codec = Codec.load(source / CODEC)
        rows = Rows(source, codec.tensor, self.device)
        if not len(rows.labels):
            raise InputError("there are no training rows; leave some to train in split.")
        parameters = check_model(self.config, codec.spec)
        journal = Journal(folder)
        journal.say(
            f"{self.config.kind} with {parameters} parameters, {len(rows.labels)} rows, batches of "
            f"{self.choices.batch_size}, {device_title(self.device)}, {self.precision}"
        )
        try:
            model = build_model(self.config, codec.spec, self.seed)
            checks = self._spot_checks(rows, codec, store, journal)
            loop = self._loop(model, rows, folder, journal, progress, checks)
            with cpu_threads(self.choices.threads):
                loop.run()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"{device_title(self.device)} has no memory for the {parameters} parameters of the model and their "
                "optimisers; make the model smaller, or train on a device with more memory."
            ) from None
        journal.say(f"finished step {loop.step} after {loop.seconds:.1f} s")
        record = self._record(codec.spec, parameters, loop, store)
        try:
            save_tensors(folder / WEIGHTS, loop.average.tensors)
            (folder / CODEC).write_bytes((source / CODEC).read_bytes())
            settings = {"model": record["model"], "spec": record["spec"]}
            (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
            (folder / MODEL).write_text(json.dumps(record, indent=1) + "\n")
        except OSError as error:
            raise TrainingError(
                f"the trained model cannot be written to {folder} ({error.strerror}); make room and run again: "
                "training goes on from its last checkpoint."
            ) from None
        self._look_at(model, loop, folder, codec, rows, store, journal)

    def _look_at(
        self,
        model: GenerativeModel,
        loop: TrainingLoop,
        folder: Path,
        codec: Codec,
        rows: Rows,
        store: Store,
        journal: Journal,
    ) -> None:
        """Write what the latents of the averaged weights hold and how well they classify, where the model does either.

        That is there to be looked at alone, so whatever fails leaves a line in the journal and the model as it is.
        """
        model.load_state_dict(loop.average.tensors)
        model.eval()
        validation = store.path(self.real) / "validation.parquet"
        looks: list[tuple[str, tuple[str, ...], Callable[[], None]]] = [
            (
                "the latents are",
                (LATENTS_FILE, TRAVERSALS_FILE),
                lambda: write_latents(folder, model, codec, rows.batch, rows.labels, self.seed),
            )
        ]
        if self.config.classifies() and codec.table.classes:
            looks.append(
                (
                    "how well the model classifies is",
                    (CLASSIFIER_FILE,),
                    lambda: write_classifier(folder, model, codec, validation, rows.labels),
                )
            )
        for title, files, look in looks:
            try:
                with cpu_threads(self.choices.threads), repeatable_sums():
                    look()
            except Exception as error:  # noqa: BLE001 - a model's own code runs here, and may raise anything
                for name in files:  # one without the other cannot be shown
                    (folder / name).unlink(missing_ok=True)
                journal.say(f"{title} not shown: {type(error).__name__}: {error}")

    def _spot_checks(self, rows: Rows, codec: Codec, store: Store, journal: Journal) -> SpotChecks | None:
        """What is looked at while the model is trained; like all such looks it fails with a line in the journal."""
        choices, operator = self.choices, chosen_operator(self.config, None)
        when = moments(choices.steps, choices.batch_size, self.config.evaluations(operator))
        validation = store.path(self.real) / "validation.parquet"
        try:
            with cpu_threads(choices.threads):
                return spot_checks(rows, validation, codec, operator, when, self.seed)
        except Exception as error:  # noqa: BLE001 - rows of any table are read here
            journal.say(f"no rows are drawn to look at: {type(error).__name__}: {error}")
            return None

    def _loop(
        self,
        model: GenerativeModel,
        rows: Rows,
        folder: Path,
        journal: Journal,
        progress: Progress,
        checks: SpotChecks | None,
    ) -> TrainingLoop:
        choices = self.choices
        identity = _identity(self.real, self.config, choices, self.seed)
        settings = LoopSettings(
            steps=choices.steps,
            ema_decay=choices.ema_decay,
            schedule=choices.schedule,
            warmup_steps=choices.warmup_steps,
            checkpoint_seconds=self.checkpoint_seconds,
            compiled=choices.compile,
            seed=self.seed,
            identity={**identity, "rows": self.encoded.sha256},
        )
        return TrainingLoop(
            model,
            fabric=open_fabric(self.device, self.precision),
            rows=rows,
            sampler=Sampler(rows.labels, choices.batch_size, self.seed, choices.sampling, choices.labelled),
            settings=settings,
            folder=folder,
            journal=journal,
            progress=progress,
            spot_checks=checks,
        )

    def _record(self, spec: TensorSpec, parameters: int, loop: TrainingLoop, store: Store) -> dict[str, Any]:
        """What ``model.json`` says."""
        ingest = json.loads((store.path(self.real) / "ingest.json").read_text())
        return {
            "model": self.config.model_dump(mode="json"),
            "spec": spec.as_json(),
            "train": self.choices.model_dump(mode="json"),
            "seed": self.seed,
            "real": self.real.model_dump(),
            "encode": self.encoded.model_dump(),
            "train_rows_sha256": ingest["train_rows_sha256"],
            "parameters": parameters,
            "device": device_title(self.device),
            "precision": self.precision,
            "micro_batch": loop.micro_batch,
            "seconds": round(loop.seconds, 3),
            "packages": package_versions(),
        }


def _identity(real: ArtifactRef, model: ModelConfig, choices: TrainingChoices, seed: int) -> dict[str, Any]:
    """Everything that the weights follow from."""
    return {
        "real": real.sha256,
        "encode": encode_key(real, seed),
        "model": model.model_dump(mode="json"),
        "train": choices.model_dump(mode="json"),
        "seed": seed,
        "code": code_version(*CODE),
        "model_code": model_code(model),
        "torch": TORCH,
    }
