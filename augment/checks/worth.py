"""Worth: synthetic rows help a classifier of held-out real rows, or at least do not harm it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from augment.checks._contract import Check, Evidence, Finding, Learned
from augment.gates import WORTH_NOT_MEASURED, GateResult, Severity, unmeasured
from augment.worth.record import WorthRecord

GATE = "worth"


class Worth(Check):
    """Refuses what harms; settings are those of the run file's section ``worth``.

    That no benefit was found, or that none could have been, is said and refuses nothing.
    """

    kind: Literal["worth"] = "worth"
    summary: ClassVar[str] = "classifiers of held-out real rows are not worse with the synthetic rows (paired lift)"
    mandatory: ClassVar[bool] = True
    at_publication: ClassVar[bool] = True
    pending: ClassVar[str] = WORTH_NOT_MEASURED

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """Nothing: it is measured after all other gates; see :func:`judge_worth`."""
        return Finding(WORTH_NOT_MEASURED, applies=False)


def judge_worth(record: WorthRecord, *, strict: bool) -> GateResult:
    """The gate's result: the lift, which fails where its interval lies below 0; critical where ``strict``."""
    severity: Severity = "critical" if strict else "warning"
    if record.verdict is None:
        return unmeasured(GATE, record.sentence, severity)
    return GateResult(
        gate=GATE,
        value=record.lift["mean"],
        floor=0.0,
        limit=0.0,
        severity=severity,
        passed=record.verdict != "harms",
        sentence=record.sentence,
    )


def with_worth(gates: Sequence[GateResult], worth: Mapping[str, Any] | None, strict: bool) -> list[GateResult]:
    """The gates with the verdict on ``worth``, a record as JSON values; as they are where it was not looked at."""
    if worth is None:
        return list(gates)
    judged = judge_worth(WorthRecord.model_validate(worth), strict=strict)
    return [gate for gate in gates if gate.gate != GATE] + [judged]
