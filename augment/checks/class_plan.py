"""Class plan: every class of the plan was delivered."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from augment.checks._contract import Check, Evidence, Finding, Learned, bounded, share
from augment.gates import plural


class ClassPlan(Check):
    """Refuses a set in which a class is absent or short after all rounds of drawing."""

    kind: Literal["class_plan"] = "class_plan"
    summary: ClassVar[str] = "every class of the plan is there, delivered nearly in full"
    better: ClassVar[Literal["high", "low"] | None] = "high"
    mandatory: ClassVar[bool] = True

    delivered: float = Field(
        0.98, gt=0, le=1, allow_inf_nan=False, description="Share of the rows of each class that must be delivered."
    )

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The smallest share of the wanted rows that any class got; classes of which none is wanted do not count."""
        accepted = evidence.accepted
        wanted = {name: rows for name, rows in evidence.wanted.items() if rows}
        shares = {name: share(accepted.get(name, 0), rows) for name, rows in wanted.items()}
        worst = min(shares, key=lambda name: shares[name], default=None)
        surplus = {name for name, rows in accepted.items() if rows > evidence.wanted.get(name, 0)}
        value = 0.0 if worst is None else shares[worst]
        return Finding(
            self._sentence(evidence, worst, surplus),
            value=value,
            limit=self.delivered,
            metrics={
                "delivered_share": value,
                "rows": sum(accepted.values()),
                "classes_in_surplus": len(surplus),
            },
            class_metrics={
                "requested": [float(rows) for rows in evidence.wanted.values()],
                "drawn": [float(evidence.drawn.get(name, 0)) for name in evidence.wanted],
                "accepted": [float(accepted.get(name, 0)) for name in evidence.wanted],
                "delivered_share": [shares.get(name, 1.0) for name in evidence.wanted],
            },
            set_expectations=[
                *bounded("class_plan.rows", 1, None),
                *bounded("class_plan.delivered_share", self.delivered, None),
                *bounded("class_plan.classes_in_surplus", 0, 0),
            ],
            class_expectations=bounded("class_plan.delivered_share", self.delivered, None),
        )

    def _sentence(self, evidence: Evidence, worst: str | None, surplus: set[str]) -> str:
        if worst is None:
            return "The plan asks for no synthetic row, so there is nothing to publish."
        delivered, wanted = evidence.accepted.get(worst, 0), evidence.wanted[worst]
        if surplus:
            named = ", ".join(f"'{name}'" for name in sorted(surplus)[:3])
            return f"More rows were delivered than the plan asks for, of class {named}."
        if all(evidence.accepted.get(name, 0) == rows for name, rows in evidence.wanted.items()):
            total = sum(evidence.wanted.values())
            return f"All {plural(total, 'synthetic row')} of the plan were delivered."
        said = f"Class '{worst}' got {delivered:,} of {plural(wanted, 'row')}, the smallest share of all; "
        return f"{said}{self.delivered:.0%} are required.{_selected_of(evidence, worst)}"


def _selected_of(evidence: Evidence, name: str) -> str:
    """How many rows of a class were selected, where rows are, and what to do where they are too few."""
    asked, selected = (sum(getattr(c, part).get(name, 0) for c in evidence.choices) for part in ("asked", "selected"))
    if selected == asked:
        return ""
    return (
        f" Of {plural(asked, 'row')} of it that the gates accepted, the selection kept {selected:,}; "
        "lower the shares of generate.select, or raise generate.rounds."
    )
