"""A vendor's table is read back equal, in whatever form it is written; forms that are not certain are refused."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.compare.reconcile.form import detect
from cohortlib.errors import DataError, SchemaError

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


def table_of(count=400, freq="M", call="cohorts", **settings):
    """A table of cohorts whose values need many decimal places."""
    rows = pl.DataFrame({
        "user_id": [f"u{n * n % 83}" for n in range(count)],
        "timestamp": [date(2025, 1, 1) + timedelta(n * 7919 % 560) for n in range(count)],
        "amount": [(n * 104_729 % 40_000) / 100 + 0.25 for n in range(count)],
    })  # fmt: skip
    return getattr(cl.termina, call)(rows, freq=freq, **settings)


def as_percent(places):
    return (pl.col("logo_retention", "amount_retention") * 100).round(places)


def as_text(places, sign="%"):
    return (pl.col("logo_retention", "amount_retention") * 100).map_batches(
        lambda values: pl.Series([f"{value:.{places}f}{sign}" for value in values]), pl.String
    )


def cut(places):
    return (pl.col("ltv", "amount_retention") * 10**places).floor() / pl.lit(pl.Series([10**places]))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (lambda t: t.with_columns(as_percent(3)), "logo_retention: percentages, compared as fractions"),
        (lambda t: t.with_columns(as_percent(0)), "amount_retention: rounded to 2 decimal places"),
        (lambda t: t.with_columns(as_text(1)), "logo_retention, amount_retention: percentages as text (in remote)"),
        (lambda t: t.with_columns(as_text(2, " %")), "amount_retention: rounded to 4 decimal places"),
        (lambda t: t.with_columns(pl.col("ltv").round(1)), "ltv: rounded to 1 decimal place"),
        (lambda t: t.with_columns(pl.col("amount", "ltv").round(0)), "amount: rounded to 0 decimal places"),
        (lambda t: t.with_columns(cut(1)), "ltv: truncated to 1 decimal place"),
        (lambda t: t.with_columns(cut(3)), "amount_retention: truncated to 3 decimal places"),
        (lambda t: t.filter(pl.col("active_users") > 0), "remote leaves out rows of zeros"),
        (lambda t: t.with_columns(pl.col("period") + 1), "period: numbered from 1 (in remote), compared from 0"),
        (lambda t: t.with_columns(pl.format("${}", pl.col("amount"))), "amount: amounts with a currency (in remote)"),
        (
            lambda t: t.with_columns(pl.format("{} USD", pl.col("amount"))),
            "amount: amounts with a currency (in remote)",
        ),
        (
            lambda t: t.with_columns(pl.col("amount").map_elements(lambda value: f"{value:,.2f}", pl.String)),
            "amount: thousands separators (in remote)",
        ),
        (
            lambda t: t.with_columns(
                pl.col("amount").map_elements(
                    lambda value: f"{value:_.2f}".replace(".", ",").replace("_", "."), pl.String
                )
            ),
            "amount: a decimal comma (in remote)",
        ),
        (
            lambda t: t.with_columns(pl.col("cohort").str.to_date("%Y-%m").dt.strftime("%b-%y")),
            "cohort: months, written like 'Jan-25' (in remote)",
        ),
        (
            lambda t: t.with_columns(pl.col("cohort").str.to_date("%Y-%m").dt.month_end()),
            "cohort: months by their last days, written like '2025-01-31' (in remote)",
        ),
    ],
)
def test_forms_are_no_differences(written, said):
    table = table_of()
    report = cl.reconcile(table, written(table))
    assert report.ok, report
    assert any(said in form for form in report.forms), report.forms
    assert said in str(report)
    assert report.to_dict()["forms"] == list(report.forms)
    assert cl.reconcile(written(table), table).ok


def test_all_forms_together():
    table = table_of()
    written = table.filter(pl.col("active_users") > 0).with_columns(
        as_text(1), pl.col("ltv").round(0), pl.col("cohort").str.to_date("%Y-%m").dt.month_end().dt.strftime("%d.%m.%Y")
    )
    report = cl.reconcile(table, written)
    assert report.ok
    assert report.total == written.height * 7
    assert not cl.reconcile(table, written.with_columns(pl.col("ltv") + pl.when(period=3).then(1).otherwise(0))).ok


@pytest.mark.parametrize("call", ["cohorts", "customer_cohorts"])
def test_a_table_equals_itself_without_any_form(call):
    table = table_of(call=call)
    assert cl.reconcile(table, table).forms == ()
    assert cl.reconcile(table, table.with_columns(pl.col("amount") + 1)).forms == ()


def test_the_rounding_of_halves():
    values = [n + 0.5 for n in range(60)]
    local = pl.DataFrame({"cohort": ["2026-01"] * 60, "period": range(60), "ltv": values})
    for halves, rounded in (("up", [n + 1.0 for n in range(60)]), ("to even", [n + n % 2.0 for n in range(60)])):
        report = cl.reconcile(local, local.with_columns(ltv=pl.Series(rounded)))
        assert report.ok
        assert report.forms[0].startswith(f"ltv: rounded to 0 decimal places (halves {halves}) (in remote); 60 cells")


def test_a_tolerance_of_the_caller_is_obeyed():
    table = table_of()
    rounded = table.with_columns(pl.col("ltv").round(0))
    assert not cl.reconcile(table, rounded, tolerances={"ltv": 0.001}).ok


def test_rounding_needs_evidence():
    local = pl.DataFrame({"cohort": ["2026-01"] * 2, "period": [0, 1], "logo_retention": [1.0, 0.5333]})
    assert not cl.reconcile(local, local.with_columns(pl.col("logo_retention").round(1))).ok


@pytest.mark.parametrize(
    ("ranking", "words"),
    [
        (pl.col("ltv").sort_by("period").last(), "ltv"),
        (pl.col("cohort_size_amount").first(), "the amount of the first period"),
        (pl.col("logo_retention").sum() + pl.col("ltv").max() * 1e-9, "active periods"),
    ],
)
def test_top_customers(ranking, words):
    table = table_of(call="customer_cohorts")
    top = table.group_by("user_id").agg(value=ranking).top_k(9, by="value")["user_id"]
    remote = table.filter(pl.col("user_id").is_in(top.implode()))
    report = cl.reconcile(table, remote)
    assert report.ok
    assert f"remote has only the top 9 of {table['user_id'].n_unique()} customers, ranked by" in report.forms[0]
    assert words in report.forms[0]
    others = table["user_id"].unique().sort()[:9]
    assert not cl.reconcile(table, table.filter(pl.col("user_id").is_in(others.implode()))).ok


def test_rows_that_are_missing_are_no_rows_of_zeros():
    table = table_of()
    holed = table.filter(~((pl.col("period") == 3) & (pl.col("active_users") > 0)))
    assert not cl.reconcile(table, holed).ok


@given(st.data())
def test_forms_in_any_combination(data):
    freq = data.draw(st.sampled_from("MQWA"))
    table = table_of(data.draw(st.sampled_from((150, 400))), freq)
    written = table
    if data.draw(st.booleans()):
        written = written.filter(pl.col("active_users") > 0)
    days = first_days(written, freq)
    forms = common(days) | labels(days)[freq]
    if data.draw(st.booleans()):
        written = written.with_columns(forms[data.draw(st.sampled_from(sorted(forms)))].alias("cohort"))
    if data.draw(st.booleans()):
        written = written.with_columns(data.draw(st.sampled_from((as_percent(9), as_text(9), as_text(9, " %")))))
    if data.draw(st.booleans()):
        written = written.with_columns(pl.format("{} USD", "amount"), pl.format("{}", "active_users"))
    if data.draw(st.booleans()):
        written = written.with_columns(pl.col("period") + 1)
    if data.draw(st.booleans()):
        written = written.rename(lambda name: name.replace("_", " ").upper())
    report = cl.reconcile(table, written)
    assert report.agreeing == written.height * 7
    only_local = report.cells.filter(outcome="only_local")
    assert report.total == report.agreeing + only_local.height
    assert not only_local.filter(
        ~pl.col("field").cast(pl.String).str.contains("size|ltv") & (pl.col("local") != 0)
    ).height


def cohort_labels(*labels):
    return pl.DataFrame({"cohort": labels, "period": [0] * len(labels), "amount": [1.0] * len(labels)})


MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("2026-01", "2026-02", "2026-03-01"), r"'cohort' of remote has '2026-03-01' in row 3, which is one of dates, "
         r"while 2 of 3 labels are months such as '2026-01'\. Expected labels written in one form"),
        (("2026-01", "Feb-26"), r"has 'Feb-26' in row 2"),
        ((*MONTHS[:4], "2026-13"), r"has '2026-13' in row 5, while 4 of 5 labels are months such as '2026-01'"),
        (("2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01", "2026-01-07"), r"has '2026-01-07' in row 5, which is "
         r"not the first day of a month"),
        (("2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-30"), r"has '2026-05-30' in row 5, which is "
         r"not the last day of a month"),
        (("01/02/2026", "01/03/2026"), r"has '01/02/2026' in row 1, which can be 2026-02-01 or 2026-01-02, and no "
         r"other label decides\. Expected ISO dates such as '2026-02-01'\. Hint: write"),
    ],
)  # fmt: skip
def test_labels_that_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        cl.reconcile(cohort_labels(*MONTHS), cohort_labels(*labels))
    with pytest.raises(DataError, match=message.replace("remote", "theirs")):
        detect(cohort_labels(*labels).with_columns(period=pl.int_range(pl.len()) * 3), "theirs")


def test_labels_of_another_unit_than_freq():
    for freq, labels in (("M", ("2026-01-07", "2026-01-14")), ("Q", MONTHS), ("W", ("2026-01-07", "2026-01-15"))):
        with pytest.raises(DataError, match="column 'cohort' of remote has '2026-01"):
            detect(cohort_labels(*labels), freq=freq)


def test_dates_that_only_one_order_fits():
    ends = cohort_labels("31/01/2026", "28/02/2026", "31/03/2026", "30/04/2026", "31/05/2026")
    assert cl.reconcile(cohort_labels(*MONTHS), ends).ok


def test_units_are_read_from_the_ages():
    quarters = ("2026-01-01", "2026-04-01", "2026-07-01")
    for freq, ages in (("Q", (2, 1, 0)), ("M", (6, 3, 0))):
        table = pl.concat(cohort_labels(*[label] * (age + 1)).with_columns(period=pl.int_range(age + 1, dtype=pl.Int64))
                          for label, age in zip(quarters, ages, strict=True))  # fmt: skip
        assert detect(table).settings == {"freq": freq}
        assert detect(table, freq="M").settings == {"freq": "M"}
    assert "years or quarters" in detect(cohort_labels("2026-01-01")).statements[0]


def test_calendars_of_ones_own_are_left_alone():
    table = cohort_labels("P1 2026", "P2 2026")
    assert cl.reconcile(table, table.with_columns(pl.col("cohort").cast(pl.Categorical))).ok
    assert detect(table).settings == {}


def test_other_units_are_named():
    report = cl.reconcile(table_of(), table_of(freq="Q"))
    assert report.forms[0] == "cohort: local has months such as '2025-01', remote has quarters such as '2025Q1'"
    assert not report.ok


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("active_users", [3, -1], r"column 'active_users' of remote has -1 in row 2\. Expected a count, 0 or more"),
        (
            "amount",
            ["3.5", "n/a"],
            r"column 'amount' of remote has 'n/a' in row 2, which is not a number \(1 of 2 values",
        ),
        (
            "ltv",
            ["1,234", "2,345"],
            r"'ltv' of remote has '1,234' in row 1, which can be 1,234 or 1\.234, and no other",
        ),
        (
            "logo_retention",
            ["100%", "0.5"],
            r"'logo_retention' of remote has '0\.5' in row 2 without a percent sign, and 1",
        ),
    ],
)
def test_numbers_that_are_refused(field, values, message):
    remote = pl.DataFrame({"cohort": ["2026-01"] * 2, "period": [0, 1], field: values})
    with pytest.raises(DataError, match=message):
        cl.reconcile(remote.with_columns(pl.lit(1.0).alias(field)), remote)


def test_counts_with_thousands_separators():
    local = pl.DataFrame({"cohort": ["2026-01"] * 2, "period": [0, 1], "active_users": [1234, 20]})
    assert cl.reconcile(local, local.with_columns(active_users=pl.Series(["1,234", "20"]))).ok


@pytest.mark.parametrize("field", ["active_users", "logo_retention", "amount", "amount_retention", "ltv"])
@pytest.mark.parametrize("name", ["{}", "Month {}", "M{}"])
def test_triangles(field, name, tmp_path):
    table = table_of()
    wide = cl.triangle(table, field)
    written = wide.rename({column: name.format(column) for column in wide.columns if column.isdigit()})
    report = cl.reconcile(table, written)
    assert report.ok
    assert report.total == table.height
    assert report.forms[0] == f"remote is a triangle: one column per period, read as {field}"
    written.write_csv(tmp_path / "theirs.csv")
    assert cl.reconcile(table, tmp_path / "theirs.csv").ok


def test_a_triangle_of_percentages_from_one():
    table = table_of()
    share = cl.triangle(table, "logo_retention")
    ages = [name for name in share.columns if name.isdigit()]
    written = share.select(
        pl.col("cohort").alias("Cohort"),
        pl.lit(3).alias("Users"),
        *(
            pl.col(age).map_elements(lambda value: f"{100 * value:.0f}%", pl.String).alias(str(int(age) + 1))
            for age in ages
        ),
    )
    report = cl.reconcile(table, written)
    assert dict(report.summary.select("field", "match").rows()) == {"cohort_size": 0, "logo_retention": table.height}
    with pytest.raises(SchemaError, match="a triangle of 19 periods with the columns 'notes' beside them"):
        cl.reconcile(table, written.with_columns(notes=pl.lit("")))


def test_a_triangle_of_an_unknown_field():
    wide = cl.triangle(table_of(), "ltv").with_columns(pl.all().exclude("cohort") * 37)
    with pytest.raises(DataError, match=r"remote is a triangle of one field, and its values do not show which\. Expec"):
        cl.reconcile(table_of(), wide)


def test_names_in_words():
    table = table_of()
    report = cl.reconcile(table, table.rename(lambda name: name.replace("_", " ").title()))
    assert report.ok
    assert report.forms == ("columns: names in another case or with blanks (in remote)",)


def test_forms_of_adaptys_tables():
    values = pl.DataFrame(
        {
            "segment_start_date": ["2026-01-01", "2026-01-01", "2026-01-01", "2026-02-01", "2026-02-01"],
            "type": ["total", "single", "single", "single", "single"],
            "period": [1, 1, 2, 1, 2],
            "revenue_usd": [30.25, 20.5, 10.25, 9.75, 0.0],
            "subscribers": [5, 3, 2, 2, 0],
            "subscribers_relative": [100.0, 100.0, 200 / 3, 100.0, 0.0],
        }
    )
    written = values.with_columns(
        pl.col("segment_start_date").str.to_date(), pl.col("subscribers_relative") / pl.lit(100)
    )
    report = cl.reconcile(values, written)
    assert report.ok
    assert report.forms == (
        "subscribers_relative: fractions, compared as percentages (in remote)",
        "segment_start_date: days, written like '2026-01-01' (in remote)",
    )


def test_months_stand_for_the_first_days_of_segments():
    local = pl.DataFrame({
        "segment_start_date": ["2026-01-01", "2026-02-01"], "type": "single", "period": 1, "subscribers": [3, 4],
    })  # fmt: skip
    remote = local.with_columns(pl.col("segment_start_date").str.slice(0, 7))
    report = cl.reconcile(local, remote)
    assert report.ok
    assert report.forms == ("segment_start_date: months (in remote)",)


def test_periods_that_are_not_over():
    local = table_of().with_columns(complete=pl.col("period") < pl.col("period").max().over("cohort"))
    remote = local.filter("complete").drop("complete")
    report = cl.reconcile(local, remote)
    assert report.ok
    assert report.forms == ("remote has only complete periods: 4 rows are not compared",)
    assert not cl.reconcile(local, remote.filter(pl.col("period") < 5)).ok


def test_rows_of_zeros_that_adapty_pads():
    columns = [(start, period) for start in ("2026-01-01", "2026-02-01", "2026-03-01") for period in (1, 2, 3)]
    paid = [5, 3, 1, 4, 0, 0, 2, 1, 0]
    values = pl.DataFrame(columns, schema=["segment_start_date", "period"], orient="row").with_columns(
        type=pl.lit("single"), subscribers=pl.Series(paid), revenue_usd=pl.Series(paid) * 9.5
    )
    report = cl.reconcile(values, values.filter(pl.col("subscribers") > 0))
    assert report.ok
    assert report.forms == ("remote leaves out rows of zeros: 3 rows are not compared",)
    assert not cl.reconcile(values, values.filter(pl.col("subscribers") != 1)).ok


def test_rounded_values_are_at_most_half_a_unit_off():
    table = table_of()
    ltv, last = pl.col("ltv"), pl.int_range(pl.len()) == table["ltv"].arg_max()
    for other, agrees in ((ltv.round(0), True), (ltv.floor() + ltv.ceil() - ltv.round(0), False)):
        written = table.with_columns(pl.when(last).then(other).otherwise(ltv.round(0)).alias("ltv"))
        assert cl.reconcile(table, written).ok == agrees
