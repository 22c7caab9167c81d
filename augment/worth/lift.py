"""The stages of worth: a search for the best classical policy, every arm at one seed, parts for a curve, the verdict.

::

    search_classical   real rows                     -> the policy that does best on validation rows     once
    measure_real       real rows, seed               -> what arms without synthetic rows predict         a seed
    measure_arms       and synthetic rows            -> what each arm predicts for held-out rows         a seed
    measure_parts      and the best arm without      -> the same with a quarter and half of the rows     a seed
    conclude_worth     all of these                  -> worth.json                                       once

Each is an artifact, so a run that was killed goes on with the next. All arms of a seed learn for as many steps from the
same first weights. Arms are chosen on validation rows, and what is said is of test rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from augment._seeding import derive_seed
from augment.encoding import encode, encode_key
from augment.errors import AugmentError
from augment.progress import Progress, silent
from augment.schema import DatasetSchema, class_titles
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.worth._arms import REAL_ROLES, Arm, Sides, arms_of, mean_rows, part_of, rows_of
from augment.worth._concluding import Measured, best_arm, concluded
from augment.worth._downstream import Predicted
from augment.worth._policies import Policy
from augment.worth._rows_at_hand import AtHand, Paths, at_hand, labelled_classes
from augment.worth.record import FILE, Metric, WorthRecord

SEARCH, REAL, ARMS, PARTS, WORTH = "worth-search", "worth-real", "worth-arms", "worth-parts", "worth"
SHARES = (0.25, 0.5)  # of the real rows of each scarce class
CODE = tuple(
    f"augment.{name}"
    for name in ("worth", "codec", "columns", "encoding", "schema", "_weights", "_features", "_seeding", "_devices")
)
LEARNERS = ("torch", "lightgbm", "scikit-learn", "imbalanced-learn")  # packages whose versions decide what is predicted


class Rows(NamedTuple):
    """The artifacts that arms learn from: real rows, shards of one generator, and the judgements of these.

    With ``compare``, what the selection of rows left out in the first round is compared with what it kept.
    """

    real: ArtifactRef
    shards: Sequence[ArtifactRef]
    judged: Sequence[ArtifactRef]
    compare: bool = False

    def identity(self) -> list[Any]:
        """What of them decides what arms predict."""
        known = [self.real.sha256, [ref.sha256 for ref in self.shards], [ref.sha256 for ref in self.judged]]
        return [*known, "compare"] if self.compare else known


def search_classical(
    real: ArtifactRef, budget: int, seed: int, store: Store, progress: Progress = silent
) -> ArtifactRef:
    """The artifact that says which classical policy does best on validation rows, after at most ``budget`` fits.

    Tables have none: what is done without a generator there is few enough to be an arm each.
    """

    def fill(folder: Path) -> None:
        ready = _at_hand(Rows(real, [], []), Policy(), False, seed, store)
        own = np.arange(ready.sides.reserve)
        found = ready.downstream.searched(own, ready.validation_y, budget, derive_seed(seed, SEARCH), progress)
        (folder / "search.json").write_text(json.dumps(found, indent=1) + "\n")

    return store.write(SEARCH, hash_json([real.sha256, encode_key(real, seed), budget, seed, _code()])[:32], fill)


def measure_real(
    real: ArtifactRef, search: ArtifactRef, number: int, seed: int, store: Store, progress: Progress = silent
) -> ArtifactRef:
    """What arms without synthetic rows predict for held-out rows at seed ``number``: the same for all generators."""

    def fill(folder: Path) -> None:
        ready = _at_hand(Rows(real, [], []), _policy(search, store), False, seed, store)
        arms = [arm for arm in arms_of(ready.downstream, ready.sides) if arm.role in REAL_ROLES]
        _save(folder, arms, _predicted(REAL, arms, ready, _arm_seed(seed, number), progress))

    return store.write(REAL, hash_json([real.sha256, search.sha256, number, seed, _code()])[:32], fill)


def measure_arms(
    rows: Rows,
    search: ArtifactRef,
    known: ArtifactRef,
    equal_mass: bool,
    number: int,
    seed: int,
    store: Store,
    progress: Progress = silent,
) -> ArtifactRef:
    """What every arm predicts for held-out rows at seed ``number``: ``predictions.safetensors`` and ``arms.json``.

    ``known`` is what :func:`measure_real` left for that seed.
    """

    def fill(folder: Path) -> None:
        ready = _at_hand(rows, _policy(search, store), equal_mass, seed, store)
        arms = arms_of(ready.downstream, ready.sides)
        predicted = _load(known, store)
        others = [arm for arm in arms if arm.name not in predicted]
        predicted |= _predicted(ARMS, others, ready, _arm_seed(seed, number), progress)
        _save(folder, arms, predicted)

    identity = [rows.identity(), search.sha256, known.sha256, equal_mass, number, seed, _code()]
    return store.write(ARMS, hash_json(identity)[:32], fill)


def measure_parts(
    rows: Rows,
    search: ArtifactRef,
    measured: Sequence[ArtifactRef],
    metric: Metric,
    number: int,
    seed: int,
    store: Store,
    progress: Progress = silent,
) -> ArtifactRef:
    """What the best arm without synthetic rows predicts with parts of the scarce classes' rows, at seed ``number``."""

    def fill(folder: Path) -> None:
        ready = _at_hand(rows, _policy(search, store), False, seed, store)
        best = best_arm(_measured(measured, ready, store), "without", metric)
        own_seed = _arm_seed(seed, number)
        arms, predicted, sizes = [], {}, {}
        for done, share in enumerate(SHARES):
            progress(PARTS, done, len(SHARES), "part")
            chosen, size = part_of(share, ready.sides, own_seed)
            arm = best.model_copy(update={"name": f"{share:g} of {best.name}", "role": "part"})
            arms.append(arm)
            sizes[arm.name] = size
            predicted[arm.name] = ready.downstream.predicted(best.learner, best.method, chosen, None, own_seed)
        progress(PARTS, len(SHARES), len(SHARES), "part")
        _save(folder, arms, predicted)
        (folder / "sizes.json").write_text(json.dumps(sizes) + "\n")

    identity = [rows.identity()[0], search.sha256, [ref.sha256 for ref in measured], metric, number, seed, _code()]
    return store.write(PARTS, hash_json(identity)[:32], fill)


def conclude_worth(
    rows: Rows,
    search: ArtifactRef,
    measured: Sequence[ArtifactRef],
    parts: Sequence[ArtifactRef],
    metric: Metric,
    generators: int,
    measurable_at: float,
    seed: int,
    store: Store,
) -> ArtifactRef:
    """The verdict over all seeds: ``worth.json``; ``generators`` is how many trainings the seeds are spread over."""

    def fill(folder: Path) -> None:
        ready = _at_hand(rows, _policy(search, store), False, seed, store)
        names = _class_names(rows, store)
        found = concluded(
            measured=_measured(measured, ready, store),
            parts=_measured(parts, ready, store) if parts else None,
            sizes=[*(_sizes(parts[0], store) if parts else []), _scarce_rows(ready.sides)],
            metric=metric,
            measurable_at=measurable_at,
            names=names,
            seed=derive_seed(seed, WORTH),
        )
        known = {
            "generators": generators,
            "rows": _counts(ready),
            "scarce": [names[y] for y in ready.sides.scarce],
            "search": json.loads((store.path(search) / "search.json").read_text()),
            "notes": _notes(generators, len(measured)),
        }
        found.model_copy(update=known).save(folder / FILE)

    identity = [
        rows.identity(), search.sha256, [[ref.sha256 for ref in refs] for refs in (measured, parts)],
        metric, generators, measurable_at, seed, _code(),
    ]  # fmt: skip
    return store.write(WORTH, hash_json(identity)[:32], fill)


def load_worth(ref: ArtifactRef, store: Store) -> WorthRecord:
    """The record in the artifact ``ref``."""
    return WorthRecord.load(store.path(ref) / FILE)


def unmeasurable(real: ArtifactRef, metric: Metric, store: Store) -> str | None:
    """Why nothing can be measured with these real rows, or null."""
    folder = store.path(real)
    classes = len(DatasetSchema.load(folder / "schema.json").classes)
    if classes < 2:
        return "there are no two classes to tell apart"
    if metric == "average_precision" and classes != 2:
        return f"average precision is of two classes and there are {classes}; set worth.metric to another"
    parts: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    for title in parts:
        if len(np.unique(labelled_classes(folder, title))) < 2:
            return f"the {title} rows are not of two classes at least; raise split.{title}"
    return None


def unmeasured_record(reason: str, metric: Metric) -> WorthRecord:
    """The record of a worth that is not measured for a ``reason``, a clause."""
    sentence = f"Worth not measured, because {reason}."
    return WorthRecord(verdict=None, sentence=sentence, metric=metric, seeds=0, generators=0)


def generator_seed(seed: int, number: int) -> int:
    """The seed of the training ``number`` of a run; the first is that of the run itself."""
    return derive_seed(seed, "generator", number) if number else seed


def _at_hand(rows: Rows, policy: Policy, equal_mass: bool, seed: int, store: Store) -> AtHand:
    encoded = encode(rows.real, seed, store)
    shards, judged = ([store.path(ref) for ref in refs] for refs in (rows.shards, rows.judged))
    paths = Paths(store.path(rows.real), store.path(encoded), shards, judged, rows.compare)
    return at_hand(paths, policy, equal_mass, seed)


def _code() -> str:
    return "-".join([code_version(*CODE), *(version(name) for name in LEARNERS)])


def _arm_seed(seed: int, number: int) -> int:
    return derive_seed(seed, ARMS, number)


def _policy(search: ArtifactRef, store: Store) -> Policy:
    return Policy.from_json(json.loads((store.path(search) / "search.json").read_text())["chosen"])


def _class_names(rows: Rows, store: Store) -> list[str]:
    return class_titles(DatasetSchema.load(store.path(rows.real) / "schema.json"))


def _rarest(sides: Sides) -> int:
    y = sides.real_y[: sides.reserve]
    return int(np.bincount(y[y >= 0], minlength=sides.num_classes).argmin())


def _scarce_rows(sides: Sides) -> int:
    """The training rows of a scarce class, in the mean."""
    return mean_rows([int((sides.real_y[: sides.reserve] == y).sum()) for y in sides.scarce])


def _counts(ready: AtHand) -> dict[str, int]:
    """Labelled rows."""
    return {
        "train": int((ready.sides.real_y[: ready.sides.reserve] >= 0).sum()),
        "validation": len(ready.validation_y),
        "test": len(ready.test_y),
        "synthetic": int((ready.sides.synthetic_y[: ready.sides.spare] >= 0).sum()),
    }


def _notes(generators: int, seeds: int) -> list[str]:
    if generators >= seeds:
        return []
    trained = "one trained generator" if generators == 1 else f"{generators} trained generators"
    return [f"The {seeds} seeds share {trained}: how much a training's own luck decides is not in the interval."]


def _predicted(
    stage: str, arms: Sequence[Arm], ready: AtHand, own_seed: int, progress: Progress
) -> dict[str, Predicted]:
    """What each of ``arms`` predicts, by its name."""
    found = {}
    for done, arm in enumerate(arms):
        progress(stage, done, len(arms), "arm")
        given = rows_of(arm, ready.sides, own_seed)
        found[arm.name] = ready.downstream.predicted(arm.learner, arm.method, *given, own_seed)
    progress(stage, len(arms), len(arms), "arm")
    return found


def _load(ref: ArtifactRef, store: Store) -> dict[str, Predicted]:
    """What :func:`_save` wrote."""
    from safetensors.numpy import load_file

    arrays = load_file(store.path(ref) / "predictions.safetensors")
    return {
        arm.name: Predicted(arrays[f"validation.{place}"], arrays[f"test.{place}"])
        for place, arm in enumerate(_arms(ref, store))
    }


def _arms(ref: ArtifactRef, store: Store) -> list[Arm]:
    """The arms of which an artifact holds predictions."""
    return [Arm.model_validate(value) for value in json.loads((store.path(ref) / "arms.json").read_text())]


def _save(folder: Path, arms: Sequence[Arm], predicted: Mapping[str, Predicted]) -> None:
    from safetensors.numpy import save_file

    arrays = {
        f"{part}.{place}": np.ascontiguousarray(getattr(predicted[arm.name], part))
        for place, arm in enumerate(arms)
        for part in ("validation", "test")
    }
    save_file(arrays, folder / "predictions.safetensors")
    (folder / "arms.json").write_text(json.dumps([arm.model_dump() for arm in arms], indent=1) + "\n")


def _measured(refs: Sequence[ArtifactRef], ready: AtHand, store: Store) -> Measured:
    """The predictions of all seeds, stacked."""
    by_seed = [_arms(ref, store) for ref in refs]
    arms = by_seed[0]
    if any(of_seed != arms for of_seed in by_seed):
        raise AugmentError("the seeds of worth do not have the same arms; set worth.generators to 1.")
    loaded = [_load(ref, store) for ref in refs]
    validation, test = (
        [np.stack([getattr(of_seed[arm.name], part) for of_seed in loaded]).astype(np.float64) for arm in arms]
        for part in Predicted._fields
    )
    return Measured(arms, validation, test, ready.validation_y, ready.test_y, _rarest(ready.sides))


def _sizes(part: ArtifactRef, store: Store) -> list[int]:
    return list(json.loads((store.path(part) / "sizes.json").read_text()).values())
