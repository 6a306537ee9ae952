"""Explain Termina's tables: planted differences are named, and the result can be used."""

import json
from datetime import date
from html import escape
from importlib.resources import files
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl
from benchmarks import planted_termina
from cohortlib.compare.explain.termina.edits import FirstPaymentMoved
from cohortlib.compare.explain.termina.ledger import Rows
from cohortlib.compare.explain.termina.numbers import simplest
from cohortlib.compare.explain.termina.table import TerminaTable
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SettingError

pytestmark = pytest.mark.search

ROWS = planted_termina.transactions(15_000)
DAYS = ROWS.with_columns(pl.col("timestamp").dt.date())  # without times no zone is tried, which saves most of the time
MONTHS = planted_termina.cases(ROWS, "M", customers=False)
ZONES = {name for name, planted in MONTHS.items() if planted.kind == "timezone"}
PAIRS = (
    ("Tokyo", "refunds dropped"),
    ("cents", "signed refunds"),
    ("customer missing remotely", "refunds dropped"),
    ("day twice remotely", "right edge"),
    ("ages from 1", "days missing remotely"),
    ("labels of the next month", "cohort by sign-up"),
)


def explain_planted(names, freq="M", *, customers=False, **more):
    rows = ROWS if ZONES.intersection(names) else DAYS
    known = planted_termina.cases(rows, freq, customers=customers)
    planted = [known[name] for name in names]
    assert planted_termina.is_case(rows, freq, planted, customers=customers)
    rows, remote = planted_termina.sides(rows, freq, planted, customers=customers)
    return cl.explain(rows, remote, **more), planted, rows, remote


# --- planted differences are named ---


@pytest.mark.parametrize("name", [name for name in MONTHS if name not in ZONES or name == "New York"])
def test_a_planted_difference_is_named(name):
    why, planted, rows, remote = explain_planted([name])
    assert not why.reports[0].ok
    if planted[0].kind.endswith("locally"):  # nothing here can prove it
        assert why.causes == ()
    else:
        assert planted_termina.named(why, planted), str(why)
        assert why.ok
        assert [report.ok for report in why.reports] == [False, True]
    if planted[0].settings:
        assert cl.reconcile(cl.termina.cohorts(rows, **why.settings), remote).ok


@pytest.mark.parametrize("names", PAIRS, ids=" + ".join)
def test_two_planted_differences_are_named(names):
    why, planted, _, _ = explain_planted(names)
    assert planted_termina.named(why, planted), str(why)
    assert why.ok


def test_weeks_that_start_on_another_day():
    why, planted, _, _ = explain_planted(["weeks from Sunday"], "W", week_start="monday")
    assert planted_termina.named(why, planted)
    assert why.settings == {"week_start": "sunday"}
    # Without week_start= the labels show it.
    assert explain_planted(["weeks from Sunday"], "W")[0].reports[0].ok


@pytest.mark.parametrize("name", ["cohort's total", "cohort's mean", "25 best", "customer twice remotely"])
def test_customers(name):
    why, planted, rows, remote = explain_planted([name], customers=True)
    assert planted_termina.named(why, planted), str(why)
    assert why.ok
    if planted[0].settings:
        assert cl.reconcile(cl.termina.customer_cohorts(rows, **why.settings), remote).ok


def test_customers_missing_on_either_side():
    why, planted, _, _ = explain_planted(["customers missing remotely"], customers=True)
    assert planted_termina.named(why, planted), str(why)
    assert why.ok
    why, planted, _, _ = explain_planted(["customer missing locally"], customers=True)
    assert (why.ok, why.causes) == (False, ())  # the other side's rows prove nothing


def test_rows_of_zeros_that_are_left_out_are_no_difference():
    assert explain_planted(["active ages"], customers=True)[0].reports[0].ok


# --- the result ---


def test_sentences_name_the_zone_and_then_the_customer():
    """The remote table lacks a customer and has another zone: the zone explains all but one cohort."""
    rows = ROWS.filter(pl.col("user_id") != "user_812")
    first = ROWS.filter((pl.col("user_id") == "user_812") & (pl.col("amount") > 0))["timestamp"].min()
    assert first is not None
    why = cl.explain(ROWS, cl.termina.cohorts(rows, timezone="America/New_York"))
    before, zone, customer, strength = why.lines
    assert before == f"{why.reports[0].agreeing:,} of {why.reports[0].total:,} cells agree without any change."
    assert zone.startswith("With time zone America/New_York (or America/Toronto and ")
    assert f"{why.reports[1].agreeing:,} of {why.reports[1].total:,} cells agree." in zone
    paid_at = first.astimezone(ZoneInfo("America/New_York")).strftime("%Y-%m-%d at %H:%M")
    assert customer == (
        f"Also without customer user_812 (first payment on {paid_at}), all {why.report.total:,} cells agree."
    )
    assert strength == f"That explains all {why.reports[0].differences.height:,} cells that differed, to the cent."


def test_strength_in_plain_words():
    """Each cause is judged next to the others, and money agrees to the cent unless it is rounded."""
    remote = cl.termina.cohorts(DAYS, refunds="drop").with_columns(pl.col("amount", "cohort_size_amount", "ltv") * 100)
    why = cl.explain(DAYS, remote)
    differed = why.reports[0].differences.height
    assert f"That explains all {differed:,} cells that differed, to the cent." in why.lines
    causes = {cause["kind"]: cause for cause in json.loads(why.to_json())["causes"]}
    assert causes.keys() == {"factor", "refunds"}
    for kind, evidence in zip((cause.kind for cause in why.causes), why.needed, strict=True):
        assert causes[kind]["differ_without"] == evidence.differed > causes[kind]["differ_with"] == 0
        assert causes[kind]["explained"] == f"all {evidence.differed:,} cells, to the cent"

    place = pl.int_range(pl.len())
    changed = remote.with_columns(pl.col("ltv") * pl.when(place == 40).then(3).otherwise(1))
    why = cl.explain(DAYS, changed)
    before, after = (report.differences.height for report in (why.reports[0], why.report))
    assert (before, after) == (1710, 1)
    assert "That explains 1,709 of the 1,710 cells that differed, too many for chance; 1 remains." in why.lines
    assert why.lines[-1] == "First question to the vendor: how do they compute ltv?"  # no amount differs

    rounded = remote.with_columns((pl.col("amount", "cohort_size_amount", "ltv") / 100).round(0))
    why = cl.explain(DAYS, rounded)
    assert "cells that differed." in str(why)
    assert "cent." not in str(why)


def test_how_the_remote_table_is_written_is_no_difference():
    table = cl.termina.cohorts(DAYS)
    assert cl.explain(DAYS, table).forms == ()
    sheet = table.filter(pl.col("active_users") > 0).select(
        pl.col("cohort").str.to_date("%Y-%m").dt.strftime("%b-%y"),
        "period",
        pl.col("amount").round(0),
        pl.format("{}%", (pl.col("logo_retention") * 100).round(1)).alias("logo_retention"),
    )
    why = cl.explain(DAYS, sheet)
    assert why.ok
    assert why.forms[1:] == (
        "logo_retention: percentages as text",
        "rows of zeros left out",
        "amount: rounded to 0 decimal places",
        "logo_retention: rounded to 3 decimal places",
    )
    assert why.forms[0].startswith("cohort: months, written like ")
    written = f"How the remote table is written, which is not counted as a difference: {'; '.join(why.forms)}."
    assert why.lines.count(written) == 1
    assert json.loads(why.to_json())["forms"] == list(why.forms)


def test_periods_are_listed_if_they_are_found_out():
    rows = DAYS.filter(pl.col("timestamp") < pl.date(2023, 3, 1))
    weeks = cl.termina.cohorts(rows, freq="W", week_start="sunday")
    assert cl.explain(rows, weeks).forms == ("cohort: weeks that start on Sunday",)
    assert cl.explain(rows, weeks, week_start="monday").forms == ()  # a difference


def test_every_cell_that_differs_has_its_cause():
    why, _, _, _ = explain_planted(["Tokyo", "refunds dropped"])
    cells = why.explained
    assert_frame_equal(cells.drop("cause"), why.reports[0].differences)
    assert set(cells["cause"]) == {cause.words for cause in why.causes}
    keys = ["cohort", "period", "field"]
    # Cells that still differ under the first cause belong to the second.
    differing = cells.join(why.reports[1].differences, on=keys, how="semi")
    assert set(differing["cause"]) == {why.causes[1].words}


def test_remaining_differences():
    remote = cl.termina.cohorts(ROWS, timezone="Europe/Berlin")
    odd = (pl.col("cohort") == "2023-05") & (pl.col("period") == 2)
    remote = remote.with_columns(pl.when(odd).then(pl.col("amount") + 1000).otherwise(pl.col("amount")).alias("amount"))
    why = cl.explain(ROWS, remote)
    assert not why.ok
    assert why.settings == {"timezone": "Europe/Berlin"}
    assert why.explained.filter(pl.col("cause").is_null()).select("cohort", "period", "field").rows() == [
        ("2023-05", 2, "amount")
    ]
    assert "The only cell that still differs is amount in cohort 2023-05." in why.lines
    assert any(line.startswith("The largest difference is amount in cohort 2023-05 at age 2: ") for line in why.lines)
    page = why.to_html()
    assert "<h2>What still differs</h2>" in page
    assert page.count('class="state bad"') == 1  # only the sheet of amounts


def test_nothing_differs():
    why = cl.explain(DAYS, cl.termina.cohorts(DAYS))
    assert why.ok
    assert why.causes == ()
    assert why.settings == {}
    assert why.lines == [f"All {why.report.total:,} cells agree without any change."]
    assert why.explained.is_empty()
    assert why.ranking.height == 1


def test_empty_sides():
    remote = cl.termina.cohorts(DAYS)
    why = cl.explain(DAYS, remote.clear())
    assert why.report.agreeing == 0
    why = cl.explain(DAYS.clear(), remote)
    assert (why.causes, why.report.agreeing) == ((), 0)
    assert cl.explain(DAYS.clear(), remote.clear()).ok


def test_nothing_explains():
    remote = cl.termina.cohorts(DAYS)
    remote = remote.with_columns(ltv=pl.col("ltv") + pl.int_range(pl.len()) % 7)
    why = cl.explain(DAYS, remote)
    assert why.causes == ()
    assert why.settings == {}
    assert "No cause is certain enough to be named." in why.lines
    assert why.explained["cause"].null_count() == why.explained.height > 0


def test_cohorts_by_a_date_that_is_not_here():
    remote = cl.termina.cohorts(DAYS, joined="signup_date", before_joined="clip")
    why = cl.explain(DAYS.drop("signup_date"), remote)
    assert why.causes == ()
    assert any(line.startswith("The amounts of all periods together agree: the same rows") for line in why.lines)
    assert why.lines[-1] == "First question to the vendor: by which date are users assigned to cohorts?"


def test_the_values_that_go_with_the_differences():
    """Half of the rows of one country are missing, which no cause on the list explains."""
    rows = DAYS.with_columns(country=pl.col("user_id").hash(1) % 4)
    kept = rows.filter((pl.col("country") != 2) | (pl.int_range(pl.len()).hash(5) % 2 == 0))
    why = cl.explain(rows, cl.termina.cohorts(kept))
    assert why.causes == ()
    lines = " ".join(why.lines)
    assert "The remote amounts are lower in nearly all of these" in lines
    assert "The differences go with the amounts of rows with country 2 (correlation -0." in lines
    assert "which of the rows of" in why.lines[-1]


def test_ranking():
    why, _, _, _ = explain_planted(["London"])
    ranking = why.ranking
    assert ranking.columns == ["causes", "settings", "agreeing", "cells", "more"]
    bits = [trial.description for trial in why.search.trials]
    assert bits == sorted(bits)
    assert ranking["settings"][0] == "timezone='Europe/London'"
    assert ranking.filter(causes="no change").height == 1
    assert ranking["more"][0] > 0


def test_ties_are_named():
    """The rows of December end before its last day, so complete_only=True and end= leave out the same period."""
    why, _, _, _ = explain_planted(["complete periods"])
    assert [len(trial.causes) for trial in why.search.ties] == [1]
    assert any("the tables cannot decide" in line for line in why.lines)


def test_json_and_page():
    why, _, _, _ = explain_planted(["cents", "refunds dropped"])
    result = json.loads(why.to_json())
    assert result["ok"] is True
    assert result["sentences"] == why.lines
    assert {cause["kind"] for cause in result["causes"]} == {"factor", "refunds"}
    assert len(result["ranking"]) == len(why.search.trials)
    page = why.to_html()
    assert "<h1>Why the tables differ</h1>" in page
    sentence = escape(f"{why.sentence[0].upper()}{why.sentence[1:]}.").replace("&#x27;", "&#39;")
    answer = page.index(f'<p class="verdict good">{sentence}</p>')
    assert answer < page.index("<caption>Evidence</caption>") < page.index("<summary>Also tried</summary>")
    assert 'bad">' not in page  # nothing is red where all is explained
    assert 'http-equiv="Content-Security-Policy"' in page


def test_names_from_the_data_cannot_break_the_page():
    markup = "<script>alert(1)</script>"
    rows = pl.concat([DAYS, DAYS.filter(user_id="user_12").with_columns(user_id=pl.lit(markup))])
    why = cl.explain(rows, cl.termina.cohorts(DAYS))
    assert markup in why.sentence
    assert markup not in why.to_html()


def test_the_page_is_saved(tmp_path):
    why = cl.explain(DAYS, cl.termina.cohorts(DAYS, refunds="signed"))
    why.save_html(tmp_path / "why.html")
    assert (tmp_path / "why.html").read_text(encoding="utf-8") == why.to_html()


# --- inputs ---


def test_sources_and_names_of_columns(tmp_path):
    rows = DAYS.rename({"user_id": "who", "timestamp": "when", "amount": "usd"})
    rows.write_parquet(tmp_path / "rows.parquet")
    rows.write_csv(tmp_path / "rows.csv")
    remote = cl.termina.cohorts(DAYS, refunds="drop")
    remote.write_json(tmp_path / "remote.json")
    names = {"user": "who", "timestamp": "when", "amount": "usd"}
    for source in (rows, rows.lazy(), rows.to_arrow(), tmp_path / "rows.parquet", tmp_path / "rows.csv"):
        why = cl.explain(source, tmp_path / "remote.json", **names)
        assert why.settings == {"refunds": "drop"}


def test_the_search_starts_from_the_settings_passed():
    remote = cl.termina.cohorts(ROWS, timezone="Asia/Tokyo", refunds="signed")
    why = cl.explain(ROWS, remote, timezone="Asia/Tokyo")
    assert why.settings == {"refunds": "signed"}
    why = cl.explain(DAYS, cl.termina.cohorts(DAYS), joined="signup_date", before_joined="clip")
    assert why.settings == {"joined": None}


def test_times_without_a_zone_are_tried_as_utc():
    naive = ROWS.with_columns(pl.col("timestamp").dt.replace_time_zone(None))
    why = cl.explain(naive, cl.termina.cohorts(ROWS, timezone="America/New_York"))
    assert why.ok
    assert why.causes[0].words == "time zone America/New_York, local times taken as UTC"


@pytest.mark.parametrize("days", [DAYS, DAYS.cast({"timestamp": pl.Datetime("ms")})], ids=["dates", "midnights"])
def test_days_have_no_zone(days):
    why = cl.explain(days, cl.termina.cohorts(days, refunds="drop"))
    assert why.settings == {"refunds": "drop"}
    assert "timezone" not in kinds_tried(why)


@pytest.mark.parametrize(("clock", "label"), [("Asia/Tokyo", "2023-09-13"), ("UTC", "2023-09-13 UTC")])
def test_days_may_be_missing_by_local_or_utc_days(clock, label):
    day = pl.col("timestamp").dt.convert_time_zone(clock).dt.date()
    remote = cl.termina.cohorts(ROWS.filter(day != planted_termina.DAY), timezone="Asia/Tokyo")
    why = cl.explain(ROWS, remote, timezone="Asia/Tokyo")
    assert why.ok
    assert len(why.causes) == 1
    assert why.causes[0].words.endswith(f" rows of {label}")
    assert why.causes[0].words.startswith("without the ")


def kinds_tried(why):
    return {cause.kind for trial in why.search.trials for cause in trial.causes}


def test_a_day_without_a_row_is_suspected_only_where_nothing_else_differs():
    closed = DAYS.filter(pl.col("timestamp") != planted_termina.DAY)
    why = cl.explain(closed, cl.termina.cohorts(closed, refunds="drop"))
    assert why.settings == {"refunds": "drop"}
    assert "days missing locally" not in kinds_tried(why)


def test_a_file_of_dates_that_make_cohorts(tmp_path):
    DAYS.select("user_id", joined="signup_date").unique("user_id").write_csv(tmp_path / "joined.csv")
    joined = str(tmp_path / "joined.csv")
    remote = cl.termina.cohorts(DAYS, joined=joined, before_joined="clip", refunds="drop")
    why = cl.explain(DAYS.select("user_id", "timestamp", "amount"), remote, joined=joined, before_joined="clip")
    assert why.settings == {"refunds": "drop"}


def test_a_column_that_is_not_needed_may_have_any_type(tmp_path):
    odd = DAYS.with_columns(odd=pl.lit("01/02/2026"), void=pl.lit(None, pl.Null))
    odd.write_csv(tmp_path / "rows.csv")
    why = cl.explain(tmp_path / "rows.csv", cl.termina.cohorts(DAYS, refunds="drop"))
    assert why.settings == {"refunds": "drop"}


@pytest.mark.parametrize(
    "fields", [["active_users"], ["amount"], ["active_users", "ltv"], ["amount", "logo_retention"]]
)
def test_a_table_of_few_fields(fields):
    """Published tables rarely have all fields, or the same types."""
    remote = cl.termina.cohorts(DAYS, refunds="drop").select("cohort", "period", *fields)
    remote = remote.cast({"cohort": pl.Categorical, "period": pl.Int16})
    why = cl.explain(DAYS, remote)
    assert (why.ok, why.settings) == (True, {"refunds": "drop"})
    changed = remote.with_columns(pl.col(fields[0]) * pl.when(pl.int_range(pl.len()) == 40).then(3).otherwise(1))
    why = cl.explain(DAYS, changed)
    assert why.settings == {"refunds": "drop"}
    assert any("still differ" in line for line in why.lines)


def test_the_published_tables_of_online_retail(shared):
    """The authors ignored cancellations: that is the only cause named."""
    rows = pl.read_parquet(shared / "online_retail.parquet").filter(pl.col("user_id").is_not_null())
    remote = pl.read_csv(shared / "published" / "or_A_counts_urbonas.csv").unpivot(index="cohort").drop_nulls()
    remote = remote.select(
        "cohort",
        pl.col("variable").str.strip_prefix("m").cast(pl.Int64).alias("period"),
        pl.col("value").alias("active_users"),
    )
    why = cl.explain(rows, remote)
    assert why.settings == {"refunds": "drop"}
    assert why.ok


def test_users_that_are_integers():
    rows = DAYS.with_columns(pl.col("user_id").str.strip_prefix("user_").cast(pl.Int64))
    why = cl.explain(rows, cl.termina.cohorts(rows.filter(pl.col("user_id") != 812)))
    assert [cause.words for cause in why.causes] == ["without customer 812"]


@pytest.mark.parametrize(("freq", "week_start"), [("Q", "monday"), ("A", "monday"), ("W", "thursday"), ("D", "monday")])
def test_the_unit_of_periods_is_read_from_the_labels(freq, week_start):
    few = DAYS.filter(pl.col("timestamp") < date(2023, 3, 1))
    remote = cl.termina.cohorts(few, freq=freq, week_start=week_start, refunds="drop")
    why = cl.explain(few, remote, seconds=20)
    assert why.reports[0].agreeing > remote.height
    assert why.settings == {"refunds": "drop"}


def test_a_date_column_that_is_an_error_is_skipped():
    """A date column with nulls cannot define cohorts, so it is skipped."""
    rows = DAYS.with_columns(odd=pl.when(pl.int_range(pl.len()) > 5).then(date(2023, 1, 1)))
    why = cl.explain(rows, cl.termina.cohorts(rows, refunds="drop"))
    assert why.settings == {"refunds": "drop"}


def test_progress_and_time():
    seen = []
    why = cl.explain(ROWS, cl.termina.cohorts(ROWS, refunds="drop"), progress=lambda *at: seen.append(at))
    done = [at for at, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]
    assert all(at <= of for at, of in seen)
    assert why.search.complete
    short = cl.explain(ROWS, cl.termina.cohorts(ROWS, timezone="Asia/Kolkata"), seconds=1e-9)
    assert not short.search.complete
    assert short.causes == ()
    assert short.lines[-1] == "The search reached its time limit after 1 combination. Hint: allow more seconds."


@pytest.mark.parametrize("calls", [0, 1, 30, 60, 87, 88, 89, 90])
def test_candidates_end_once_the_time_is_up(calls):
    """Wherever in the families that is; the last ones are in the search for days."""
    remote = cl.termina.cohorts(DAYS.filter(pl.col("timestamp") != planted_termina.DAY))
    left = iter([True] * calls)
    list(TerminaTable.read(DAYS, remote, {}).candidates((), lambda: next(left, False)))


def test_warnings_are_raised_once():
    rows = pl.concat([DAYS, DAYS.head(3).with_columns(amount=None)], how="vertical_relaxed")
    with pytest.warns(CohortlibWarning, match="3 of") as raised:
        cl.explain(rows, cl.termina.cohorts(DAYS, refunds="drop"), nulls="drop")
    assert len(raised) == 1


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        ({}, {"refund": "drop"}, SettingError, "refund= is not a setting of cohorts"),
        ({}, {"refunds": "all"}, SettingError, "refunds='all'"),
        ({}, {"seconds": 0}, SettingError, "seconds=0"),
        ({}, {"seconds": "long"}, SettingError, "seconds='long'"),
        ({}, {"user": "customer"}, SchemaError, "'customer'"),
        ({}, {"progress": 3}, SettingError, "progress"),
        ({"cohort": pl.lit("spring")}, {}, DataError, "'spring'"),
        ({}, {"tolerances": {"height": 1.0}}, SettingError, "height"),
    ],
)
def test_refused(change, settings, error, message):
    remote = cl.termina.cohorts(ROWS.head(100)).with_columns(**change)
    with pytest.raises(error, match=message):
        cl.explain(ROWS.head(100), remote, **settings)


def test_a_table_that_cannot_be_recomputed_is_refused():
    with pytest.raises(SchemaError, match="Expected Termina's cohorts"):
        cl.explain(ROWS, pl.DataFrame({"day": ["2026-01"], "amount": [1.0]}))


def test_an_answer_needs_its_request_and_installs():
    day = {"segment_start_date": ["2026-01-01"], "type": ["total"]}
    from cohortlib.adapty import Answer, Conventions, Request

    request = Request.of({"filters": {"date": ["2026-01-01", "2026-01-31"]}})
    answer = Answer(pl.DataFrame(day), pl.DataFrame(day | {"period": [1]}), {}, request, Conventions())
    with pytest.raises(SettingError, match="installs=None"):
        cl.explain(ROWS, answer)
    with pytest.raises(SettingError, match="freq= is not a setting of Adapty's table"):
        cl.explain(ROWS, answer, freq="M")


def test_cohorts_from_the_first_row_of_any_sign():
    first_rows = DAYS.select("user_id", joined="timestamp").group_by("user_id").min()
    remote = cl.termina.cohorts(DAYS, joined=first_rows, before_joined="clip")
    why = cl.explain(DAYS.drop("signup_date"), remote)
    assert [cause.words for cause in why.causes] == ["cohorts by the date of each user's first row, including refunds"]
    assert cl.reconcile(cl.termina.cohorts(DAYS, **why.settings), remote).ok
    assert why.ranking["settings"][0] == "joined=a table of user_id and joined, before_joined='clip'"
    assert json.loads(why.to_json())["causes"][0]["settings"]["joined"] == "a table of user_id and joined"


# --- parts ---


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.9199, 0.92003, 0.92), (99.999, 100.001, 100.0), (1.23456, 1.234567, 1.23456)]
)
def test_simplest(low, high, expected):
    number = simplest(low, high)
    assert number == pytest.approx(expected, rel=1e-5)
    assert low <= number <= high


def test_a_payment_is_moved_to_the_next_or_previous_period():
    rows = pl.DataFrame({"u": ["a", "a"], "t": [date(2026, 2, 10), date(2026, 1, 15)], "x": [1.0, 2.0]})
    read = Rows.of(rows, {"user": "u", "timestamp": "t", "amount": "x", "decimals": 6})
    for days, moved in ((17, date(2026, 2, 1)), (-15, date(2025, 12, 31))):
        ledger = FirstPaymentMoved("a", days).apply(read.ledger, read, None)
        assert read.text(ledger, settings={})["t"].cast(pl.Date).to_list() == sorted([date(2026, 2, 10), moved])


def test_rows_of_one_table_alone_are_not_taken_for_users_of_other_cohorts():
    orders = pl.read_parquet(files("cohortlib") / "samples" / "cdnow_sample.parquet")
    all_rows, without_last = cl.termina.cohorts(orders), cl.termina.cohorts(orders, end="1998-05")
    lines = cl.explain(orders, without_last).remaining
    assert lines[-2:] == (
        "They are 3 rows that only the local table has; all cells of the other rows agree.",
        "First question to the vendor: why is there no row in cohort 1997-03 at age 15?",
    )
    assert not any("users are in other cohorts" in line for line in lines)
    assert all_rows.height - without_last.height == 3
