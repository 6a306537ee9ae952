"""A vendor's table is read back equal, in whatever form it is written; forms that are not certain are refused."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.compare.reconcile.form import detect

pytestmark = pytest.mark.unit

EXCEL = 25_569  # 1970-01-01 in Excel


def labels(dates):
    return {
        "M": {
            "Jan-26": dates.dt.strftime("%b-%y"),
            "January 2026": dates.dt.strftime("%B %Y"),
            "2026/01": dates.dt.strftime("%Y/%m"),
            "01/2026": dates.dt.strftime("%m/%Y"),
            "202601": dates.dt.strftime("%Y%m").cast(pl.Int64),
            "month ends": dates.dt.month_end(),
            "month ends as text": dates.dt.month_end().dt.strftime("%Y/%m/%d"),
        },
        "Q": {
            "2026-Q1": dates.map_elements(lambda day: f"{day.year}-Q{day.month // 3 + 1}", pl.String),
            "Q1 2026": dates.map_elements(lambda day: f"Q{day.month // 3 + 1} {day.year}", pl.String),
            "quarter ends": dates.dt.offset_by("2mo").dt.month_end(),
        },
        "W": {"2026-W05": dates.dt.strftime("%G-W%V")},
        "A": {"2026 as a number": dates.dt.year()},
        "D": {},
    }


def common(dates):
    """Forms of dates, of any unit."""
    return {
        "dates": dates,
        "instants": dates.cast(pl.Datetime("ms", "UTC")),
        "texts of instants": dates.dt.strftime("%Y-%m-%dT00:00:00Z"),
        "Excel": dates.to_physical() + EXCEL,
        "Excel as text": (dates.to_physical() + EXCEL).cast(pl.String),
        "20260101": dates.dt.strftime("%Y%m%d"),
        "own, with blanks": " " + dates.dt.strftime("%Y-%m-%d") + " ",
    }


def first_days(table, freq):
    """The first days of cohorts."""
    if freq == "Q":
        return table["cohort"].map_elements(lambda label: date(int(label[:4]), 3 * int(label[5]) - 2, 1), pl.Date)
    return (table["cohort"] + {"M": "-01", "A": "-01-01"}.get(freq, "")).str.to_date("%Y-%m-%d")


@st.composite
def transactions(draw):
    days = draw(st.lists(st.integers(0, 900), min_size=2, max_size=30))
    users = [draw(st.sampled_from("abcdef")) for _ in days]
    amounts = [draw(st.integers(1, 300_000)) / 100 for _ in days]
    return pl.DataFrame({
        "user_id": users, "timestamp": [date(2024, 1, 1) + timedelta(day) for day in days], "amount": amounts,
    })  # fmt: skip


@given(transactions(), st.sampled_from("MQWAD"), st.sampled_from(("cohorts", "customer_cohorts")), st.data())
def test_labels_of_any_form_are_read_back(rows, freq, call, data):
    table = getattr(cl.termina, call)(rows, freq=freq)
    days = first_days(table, freq)
    forms = common(days) | labels(days)[freq]
    written = table.with_columns(forms[data.draw(st.sampled_from(sorted(forms)))].alias("cohort"))
    form = detect(written, freq=freq)
    assert_frame_equal(form.table, table)
    assert form.settings["freq"] == freq
