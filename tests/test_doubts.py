"""Warnings about tables whose first or last dates may be mistakes."""

import warnings
from datetime import date, timedelta

import polars as pl
import pytest

import cohortlib as cl
from cohortlib.errors import CohortlibWarning
from cohortlib.show.report.report import report_page

pytestmark = pytest.mark.unit

TEXT = {
    "late": "the table has 1 active user in 2062 and none in 2026 to 2061: dates of 2062 may be mistakes. "
    "Hint: end='{end}' leaves later rows out",
    "early": "the table has 2 active users in 1970 and none in 1971 to 2023: dates of 1970 may be mistakes. "
    "Hint: correct these rows",
    "refund": "the last row is of 2099 and no user is active in 2026 to 2099: dates of 2099 may be mistakes. "
    "Hint: end='{end}' leaves later rows out",
}


def rows(*more, count=200):
    days = [date(2024, 1, 1) + timedelta(days=3 * row) for row in range(count)]
    users = [f"u{row}" for row in range(count)]
    extra = {
        "late": [("x", date(2062, 1, 1), 1.0)],
        "early": [("y", date(1970, 1, 1), 1.0), ("z", date(1970, 1, 1), 1.0)],
        "refund": [("u1", date(2099, 1, 1), -1.0)],
        "many": [(f"m{row}", date(2062, 1, 1), 1.0) for row in range(9)],
    }
    lines = [*zip(users, days, [1.0] * count, strict=True), *(line for name in more for line in extra[name])]
    return pl.DataFrame(lines, schema=["user_id", "timestamp", "amount"], orient="row")


def doubts(compute):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(("freq", "end"), [("W", "2025-08-18"), ("M", "2025-08"), ("Q", "2025Q3"), ("A", "2025")])
@pytest.mark.parametrize("kind", TEXT)
def test_years_apart(kind, freq, end):
    frame, expected = rows(kind), [TEXT[kind].format(end=end)]
    assert doubts(lambda: cl.termina.cohorts(frame, freq=freq)) == expected
    assert doubts(lambda: cl.termina.sums(frame, freq=freq).cohorts()) == expected
    if kind != "early":
        assert doubts(lambda: cl.termina.cohorts(frame, freq=freq, end=end)) == []


def test_years_that_are_not_in_doubt():
    assert doubts(lambda: cl.termina.cohorts(rows())) == []
    assert doubts(lambda: cl.termina.cohorts(rows("many"))) == []  # more than 1 of 100
    assert doubts(lambda: cl.termina.cohorts(rows("late", count=90))) == []
    assert doubts(lambda: cl.termina.cohorts(rows(), end="2062")) == []  # as chosen


def test_a_report_has_the_doubts_escaped():
    twins = pl.DataFrame({"user_id": ["<b>X", "<b>x"], "timestamp": [date(2024, 1, 5)] * 2, "amount": [1.0, 1.0]})
    with pytest.warns(CohortlibWarning):
        page = report_page(pl.concat([rows("late"), twins]))
    assert "in blanks around them, such as &#39;&lt;b&gt;X&#39; and &#39;&lt;b&gt;x&#39;" in page
    assert "dates of 2062 may be mistakes" in page
    assert "<b>X" not in page


def test_a_report_shows_no_keys():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = report_page(rows(), storage_options={"aws_secret_access_key": "hidden-123"})
    assert "storage_options" in page
    assert "hidden-123" not in page
