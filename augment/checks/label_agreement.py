"""Label agreement: a judge that learned from real rows alone gives synthetic rows the label that they carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, RowFigures, Shard, bounded
from augment.checks._encoded import encoded_shard, nets_of
from augment.checks._real import RealRows
from augment.schema import class_titles

GATE = "label_agreement"
CONFIDENCE = f"{GATE}.confidence"
CONFIDENT = 0.5  # p(y|x) of a row's own label above which no other label is likelier
PRIOR_ROWS = 4.0  # of the class mean, added to each class's own validation rows: of two rows a rate says little


class LabelAgreement(Check):
    """Refuses rows whose label a judge does not believe, over all classes or in one.

    The judge is a classifier of another design and seed than the nets whose features the other gates use, trained on
    real training rows. A row agrees where the judge gives its own label more than half of the probability. Judges of
    few rows are wrong often, so what counts is the share beside that of real validation rows, which the judge has not
    seen either. Both shares are of samples: two standard errors of their difference are granted, and three in a class,
    of which there may be many. Real rows are several more above the limit, which is a part of their own share.
    """

    kind: Literal["label_agreement"] = "label_agreement"
    summary: ClassVar[str] = "a judge trained on real rows gives synthetic rows their own label as often as real ones"
    needs_encoders: ClassVar[bool] = True
    better: ClassVar[Literal["high", "low"] | None] = "high"

    of_floor: float = Field(0.9, gt=0, le=1, allow_inf_nan=False, description="Least share over that of real rows.")
    class_of_floor: float = Field(0.8, gt=0, le=1, allow_inf_nan=False, description="The same of the worst class.")

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """How many validation rows of each class there are, and how many agree."""
        side, names = nets_of(real).real, class_titles(real.schema)
        found = {}
        for y, x in side.held_out.items():
            own = side.judge.confidence(x.reshape(-1, *side.spec.shape))[:, y]
            found[names[y]] = {"rows": len(own), "agree": int((own > CONFIDENT).sum())}
        return {"classes": found}

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """The judge's probability of each row's own label; not a number where a row cannot be judged."""
        own = np.full(len(shard), np.nan)
        if len(shard.schema.classes) > 1:
            sound, rows = encoded_shard(shard)
            judged = nets_of(shard).real.judge.confidence(rows.x).numpy()
            labelled = rows.y.numpy() >= 0
            places = np.flatnonzero(sound)[labelled]
            own[places] = judged[labelled, rows.y.numpy()[labelled]]
        return RowFigures({CONFIDENCE: own})

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The mean over classes of the share that agrees, and the share of each class."""
        if len(evidence.schema.classes) < 2:
            return Finding("There are no classes that a label could be wrong about.", applies=False)
        real = _real_shares(learned.figures["classes"])
        own = {name: values for name, values in _confidences(evidence).items() if name in real}
        if not own:
            return Finding(
                "No class has both synthetic rows and real validation rows to judge labels by; raise split.validation.",
                applies=False,
            )
        shares = {name: float((values > CONFIDENT).mean()) for name, values in own.items()}
        limits = {name: self._class_limit(real[name], len(own[name])) for name in own}
        value, floor = (float(np.mean([of[name] for name in own])) for of in (shares, {n: real[n][0] for n in own}))
        errors = sum(_variance(real[n][0], real[n][1], len(own[n]), self.of_floor) for n in own)
        limit = max(0.0, self.of_floor * floor - 2 * math.sqrt(errors) / len(own))
        worst = min(own, key=lambda name: shares[name] - limits[name])
        below = {name: shares[name] - limits[name] for name in own}
        return Finding(
            self._sentence(value, floor, limit, (worst, shares[worst], real[worst][0], limits[worst])),
            value=value,
            floor=floor,
            limit=limit,
            metrics={"share": value, "least_above_class_limit": below[worst]},
            class_metrics={"share": [shares.get(name, math.nan) for name in evidence.wanted]},
            set_expectations=[
                *bounded(f"{GATE}.share", limit, None),
                *bounded(f"{GATE}.least_above_class_limit", 0, None),
            ],
            details={
                "classes": {
                    name: {"share": shares[name], "floor": real[name][0], "limit": limits[name], "rows": len(own[name])}
                    for name in own
                }
            },
        )

    def _class_limit(self, real: tuple[float, float], rows: int) -> float:
        floor, real_rows = real
        error = math.sqrt(_variance(floor, real_rows, rows, self.class_of_floor))
        return max(0.0, self.class_of_floor * floor - 3 * error)

    def _sentence(self, value: float, floor: float, limit: float, worst: tuple[str, float, float, float]) -> str:
        name, share, real, least = worst
        said = f"{value:.1%} of the synthetic rows, in the mean over classes, have the label that a judge of real rows "
        said += f"gives them (real rows that it has not seen: {floor:.1%}; at least {limit:.1%} are required)"
        if share < least:
            said += f"; of class {name} {share:.1%} do (real: {real:.1%}; required: {least:.1%})"
        return said + "."


def _real_shares(classes: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[float, float]]:
    """The share of real rows of each class that agrees, drawn towards that of all, and the rows that it rests on."""
    rows = sum(found["rows"] for found in classes.values())
    if not rows:
        return {}
    mean = sum(found["agree"] for found in classes.values()) / rows
    shares = {}
    for name, found in classes.items():
        weight = found["rows"] + PRIOR_ROWS
        shares[name] = ((found["agree"] + PRIOR_ROWS * mean) / weight, weight)
    return shares


def _variance(floor: float, real_rows: float, rows: int, of_floor: float) -> float:
    """Of a share of ``rows`` rows less ``of_floor`` times one of ``real_rows``, both of one distribution."""
    rate = min(max(floor, 0.02), 0.98)  # a share of none or all that was seen is not certain
    return rate * (1 - rate) * (1 / rows + of_floor**2 / real_rows)


def _confidences(evidence: Evidence) -> dict[str, NDArray[Any]]:
    """The judge's probability of the own label of each row of the set, by class name."""
    found: dict[str, list[NDArray[Any]]] = {}
    for _, path, _ in evidence.of_set:
        table = pq.read_table(path / "features.parquet", columns=["label", "accepted", CONFIDENCE])
        labels = np.array(table["label"].to_pylist(), dtype=object)
        own = table[CONFIDENCE].to_numpy()
        judged = np.isfinite(own) & evidence.in_set(table["accepted"].to_numpy())
        for name in np.unique(labels[judged]):
            found.setdefault(str(name), []).append(own[(labels == name) & judged])
    return {name: np.concatenate(parts) for name, parts in found.items()}
