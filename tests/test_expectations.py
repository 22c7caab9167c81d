from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest

from augment.checks._contract import Expect, between, bounded, never
from augment.validation import _expectations as expectations
from augment.validation._expectations import judge, resolved_suite

FRAME = pd.DataFrame({"x": [1.0, 2.0, 30.0, None], "flag": [False, False, True, False]})


def test_each_expectation_is_answered_in_its_place() -> None:
    asked = [("a", between("x", 0, 10)), ("b", never("flag")), ("a", between("x", 0, 100))]
    answers = judge("table", FRAME, asked)
    assert [(answer.gate, answer.passed, answer.unexpected) for answer in answers] == [
        ("a", False, 1),
        ("b", False, 1),
        ("a", True, 0),
    ]
    assert (answers[0].rows, answers[0].missing) == (4, 1)


def test_equal_expectations_of_two_gates_are_both_answered() -> None:
    answers = judge("table", FRAME, [("a", never("flag")), ("b", never("flag"))])
    assert [answer.gate for answer in answers] == ["a", "b"]


def test_a_share_may_be_allowed() -> None:
    assert judge("table", FRAME, [("a", between("x", 0, 10, mostly=0.6))])[0].passed


def test_an_empty_table_passes_nothing() -> None:
    some = Expect("ExpectTableRowCountToBeBetween", {"min_value": 1})
    answers = judge("table", FRAME.iloc[:0], [("a", some), ("a", never("flag")), ("a", between("x", 0, 1))])
    assert [answer.passed for answer in answers] == [False, False, False]
    assert answers[1].trouble == "there are no rows"


def test_a_table_wide_expectation_alone_counts_the_rows() -> None:
    assert judge("table", FRAME, [("a", Expect("ExpectTableRowCountToBeBetween", {"min_value": 4}))])[0].passed


def test_a_missing_column_is_a_failure_that_says_so() -> None:
    answers = judge("table", FRAME, [("a", never("flag")), ("b", between("absent", 0, 1))])
    assert [answer.passed for answer in answers] == [False, False]
    assert answers[0].trouble is None
    assert answers[1].trouble is not None
    assert "absent" in answers[1].trouble


def test_an_expectation_that_raises_is_a_failure_that_says_so() -> None:
    frame = pd.DataFrame({"x": ["a", "b"]})
    answer = judge("table", frame, [("a", between("x", 0, 1))])[0]
    assert not answer.passed
    assert answer.trouble is not None


def test_a_figure_that_is_missing_is_not_in_bounds() -> None:
    frame = pd.DataFrame({"share": [float("nan")]})
    assert not all(answer.passed for answer in judge("set", frame, [("a", e) for e in bounded("share", 0, 1)]))


def test_an_answer_that_is_missing_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    build = expectations._suite

    def forgetful(table: str, asked: Any) -> Any:
        return build(table, asked[:-1])

    monkeypatch.setattr(expectations, "_suite", forgetful)
    with pytest.raises(RuntimeError, match="2 expectations of table got 1 answers"):
        judge("table", FRAME, [("a", never("flag")), ("a", between("x", 0, 1))])


def test_no_expectations_need_no_answer() -> None:
    assert judge("table", FRAME, []) == []


def test_only_named_columns_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    class Batches:
        def get_batch(self, batch_parameters: dict[str, pd.DataFrame]) -> Any:
            given.append(list(batch_parameters["dataframe"].columns))
            return frames.get_batch(batch_parameters=batch_parameters)

    frames = expectations._frames()
    monkeypatch.setattr(expectations, "_frames", Batches)
    judge("table", FRAME.assign(picture=[b"png"] * 4), [("a", never("flag"))])
    assert given == [["flag"]]


def test_four_threads_get_their_own_answers() -> None:
    def ask(limit: int) -> list[bool]:
        frame = pd.DataFrame({"x": [float(limit)] * 50})
        return [judge("table", frame, [("a", between("x", limit, limit))])[0].passed for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == [[True, True, True]] * 8


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    judge("table", FRAME, [("a", never("flag"))])
    assert capfd.readouterr() == ("", "")


def test_a_resolved_suite_is_the_same_each_time_and_holds_the_limits() -> None:
    asked = [("a", between("x", 0, 0.25, mostly=0.9)), ("b", never("flag"))]
    written = json.dumps(resolved_suite("table", asked))
    assert written == json.dumps(resolved_suite("table", asked))
    assert '"max_value": 0.25' in written
    assert '"gate": "b"' in written
    assert '"id"' not in written
