"""Label agreement: a judge of real rows finds wrong labels, in all classes or in one, and few rows prove little."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from _fault_rows import Rows, labels_of, put
from _faults import only, orchard_court, refusing

from augment.checks.label_agreement import PRIOR_ROWS, LabelAgreement, _real_shares, _variance


def relabelled(share: float, label: str | None = None) -> object:
    """Fresh rows of which a share, of one class or of all, carries the label of the next class."""

    def fault(rows: Rows, draw: np.random.Generator) -> pa.Table:
        y, classes = labels_of(rows.fresh), rows.classes()
        following = dict(zip(classes, [*classes[1:], classes[0]], strict=True))
        wrong = (draw.random(len(y)) < share) & ((y == label) if label else True)
        return put(rows.fresh, "label", [following[name] if bad else name for name, bad in zip(y, wrong, strict=True)])

    return fault


def gates_of(share: float, label: str | None = None) -> dict:
    return orchard_court().gates(relabelled(share, label), **only("label_agreement"))  # type: ignore[arg-type]


def test_fresh_rows_agree_as_often_as_validation_rows() -> None:
    gate = gates_of(0)["label_agreement"]
    assert gate.passed
    assert gate.value is not None
    assert gate.floor is not None
    assert gate.value == pytest.approx(gate.floor, abs=0.06)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_wrong_labels_are_refused(share: float) -> None:
    assert refusing(gates_of(share)) == ["label_agreement"]


def test_the_class_whose_rows_are_labelled_wrongly_is_named() -> None:
    """All labels of quinces are those of apples: of the rows called apple half are none."""
    gates = gates_of(1.0, "quince")
    assert "label_agreement" in refusing(gates)
    assert "; of class apple " in gates["label_agreement"].sentence


def test_two_rows_of_a_class_are_drawn_towards_the_share_of_all() -> None:
    shares = _real_shares({"rare": {"rows": 2, "agree": 0}, "common": {"rows": 98, "agree": 90}})
    assert shares["rare"] == (pytest.approx(PRIOR_ROWS * 0.9 / (2 + PRIOR_ROWS)), 2 + PRIOR_ROWS)
    assert shares["common"][0] == pytest.approx(0.9, abs=0.02)
    assert _real_shares({"rare": {"rows": 0, "agree": 0}}) == {}


def test_the_variance_is_that_of_a_share_less_a_part_of_another() -> None:
    draw = np.random.default_rng(0)
    differences = draw.binomial(50, 0.8, 20_000) / 50 - 0.9 * draw.binomial(30, 0.8, 20_000) / 30
    assert _variance(0.8, 30, 50, 0.9) == pytest.approx(differences.var(), rel=0.05)
    assert _variance(1.0, 30, 50, 0.9) > 0


def test_fewer_rows_lower_the_limit_of_a_class() -> None:
    check = LabelAgreement()
    limits = [check._class_limit((0.9, rows), rows) for rows in (4, 40, 4_000)]
    assert limits == sorted(limits)
    assert limits[-1] == pytest.approx(0.8 * 0.9, abs=0.03)
