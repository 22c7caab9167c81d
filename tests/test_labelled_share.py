"""Where some rows have no label, a run file says how many of a batch have one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from augment.errors import InputError
from augment.training._batches import Sampler
from augment.training._choices import refuse_share_of_all


def test_rows_with_a_label_are_drawn_as_often_as_is_asked() -> None:
    """Else a batch of 64 out of 1,000 rows holds some six of a hundred that have a label."""
    labels = np.array([0] * 60 + [1] * 40 + [-1] * 900)
    for labelled, expected in {None: (60, 40, 900), 0.5: (300, 200, 500), 0.2: (120, 80, 800)}.items():
        drawn = np.bincount(Sampler(labels, 1000, 3, "rows", labelled).indices(2), minlength=1000)
        assert (drawn[:60].sum(), drawn[60:100].sum(), drawn[100:].sum()) == expected
        assert all(np.ptp(part) <= 1 for part in (drawn[:60], drawn[60:100], drawn[100:]))
    even = np.bincount(Sampler(labels, 1000, 3, "equal", 0.5).indices(0), minlength=1000)
    assert (even[:60].sum(), even[60:100].sum()) == (250, 250)


def test_a_share_of_labelled_rows_is_refused_where_it_would_do_nothing(tmp_path: Path) -> None:
    for labels, which in (([0, 1, 2], "all"), ([-1, -1], "none")):
        np.save(tmp_path / "y.npy", np.array(labels))
        refuse_share_of_all(None, tmp_path)
        with pytest.raises(
            InputError, match=rf"train\.labelled is of rows some of which have a label, and {which} have"
        ):
            refuse_share_of_all(0.5, tmp_path)
    np.save(tmp_path / "y.npy", np.array([0, -1]))
    refuse_share_of_all(0.5, tmp_path)
