"""What must hold of the cohort tables whatever the rows are; no judge, the engine beside itself."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import naive
import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import ZONES, cases, customer_settings, instants, quietly, shaped

import cohortlib as cl
from cohortlib.engine.progress import Meter

pytestmark = pytest.mark.unit

KEYS = ["cohort", "period"]
plain = cases(joined=("none",), poison=False)  # any money, any instants, no refusals but for range


def asked(case, table="cohorts", **more):
    """Ask the engine; pass over what it refuses."""
    try:
        return case.ask(table, **more)
    except cl.errors.DataError:
        assume(False)


def tables(case, frame, *both):
    """Compute the tables of another frame under the settings of a case."""
    options = {**case.names, **case.settings, "joined": case.joined_as, "threads": case.threads}
    found = [quietly(getattr(cl.termina, table), frame, **options) for table in both or ("cohorts",)]
    return found if len(found) > 1 else found[0]


def same(left, right):
    """Compare two tables to the last bit."""
    assert_frame_equal(left, right, check_exact=True)


def micros(table, column="amount"):
    """Read published money back as whole units; exact while sums stay below 2 ** 53 units."""
    return [None if cell is None else round(Decimal(cell).scaleb(6)) for cell in table[column]]


def in_units(table, *columns):
    """Turn columns of money into whole units."""
    return table.with_columns(pl.Series(name, micros(table, name), dtype=pl.Int64) for name in columns)


def row_numbers(table, freq, week_start="monday"):
    """Return the number of the calendar period of each row."""
    return [cohort_number(cohort, freq, week_start) + age for cohort, age in table.select(KEYS).rows()]


def cohort_number(label, freq, week_start="monday"):
    """Return the number of the period that a label names."""
    return naive.period_of(naive.days_of(label)[0], freq, week_start)


# --- modest data: sums that a float holds to the last unit ----------------------------------------------------

USERS = st.sampled_from(("a", "b", "c", "d", "e"))
DAYS = st.integers(0, 400).map(lambda days: date(2025, 11, 17) + timedelta(days=days))
CENTS = st.integers(-3000, 9000).map(lambda cents: cents / 100)
ROWS = st.lists(st.tuples(USERS, DAYS, CENTS), min_size=1, max_size=40)
CALENDAR = st.fixed_dictionaries(
    {"freq": st.sampled_from(("M", "W", "Q", "A", "D"))}, optional={"week_start": st.sampled_from(naive.WEEKDAYS)}
)
REFUNDS = st.sampled_from(("net", "signed", "drop"))


def framed(rows):
    """Make a frame of rows."""
    schema = {"user_id": pl.String, "timestamp": pl.Date, "amount": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def both(rows, **settings):
    """Compute the cohorts and the customers of the same rows."""
    frame = framed(rows)
    return cl.termina.cohorts(frame, **settings), cl.termina.customer_cohorts(frame, **settings)


# --- nothing but the rows matters -----------------------------------------------------------------------------


@given(cases(), st.randoms(use_true_random=False), customer_settings())
def test_order_of_rows(case, random, more):
    order = list(range(case.frame.height))
    random.shuffle(order)
    for table, options in (("cohorts", {}), ("customer_cohorts", more)):
        expected = asked(case, table, **options)
        settings = {**case.names, **case.settings, "joined": case.joined_as, **options}
        same(quietly(getattr(cl.termina, table), case.frame[order], **settings), expected)


@given(cases(), st.integers(1, 7), customer_settings())
def test_number_of_threads(case, threads, more):
    same(asked(case, threads=1), asked(case, threads=threads))
    same(asked(case, "customer_cohorts", threads=1, **more), asked(case, "customer_cohorts", threads=threads, **more))


@given(cases(), st.lists(st.integers(0, 40), max_size=5))
def test_chunks_and_forms(case, cuts):
    expected = asked(case)
    cuts = sorted({0, case.frame.height, *(min(cut, case.frame.height) for cut in cuts)})
    parts = [case.frame[a:b] for a, b in pairwise(cuts)]
    same(tables(case, pl.concat(parts or [case.frame], rechunk=False)), expected)
    for form in ("lazy", "arrow"):
        same(tables(case, shaped(case.frame, form)), expected)


@given(case=cases(), cut=st.integers(0, 40))
def test_cuts_into_parquet_files(case, cut, tmp_path_factory):
    expected = asked(case), asked(case, "customer_cohorts")
    # Users of an Enum or a Categorical are the same users when a file has turned them into plain text.
    folder = tmp_path_factory.mktemp("parts")
    case.frame[:cut].write_parquet(folder / "part-0.parquet")
    case.frame[cut:].write_parquet(folder / "part-1.parquet", row_group_size=7)
    found = tables(case, str(folder / "part-*.parquet"), "cohorts", "customer_cohorts")
    for got, want in zip(found, expected, strict=True):
        same(got, want)


@given(cases(joined=("none",)), st.sampled_from(("number", "text", "long text")))
def test_names_of_users(case, kind):
    """Give the users other names, another type and the opposite order: the cohorts stay as they are."""
    user = case.names.get("user", "user_id")
    expected = asked(case)
    people = sorted({row[0] for row in case.rows} - {None}, reverse=True)
    new = {old: {"number": -(7**at), "text": f"{at}", "long text": "customer number " * 3 + f"{at}"}[kind]
           for at, old in enumerate(people)}  # fmt: skip
    column = [new.get(row[0]) for row in case.rows]
    renamed = case.frame.with_columns(pl.Series(user, column, dtype=pl.Int64 if kind == "number" else pl.String))
    same(tables(case, renamed), expected)

    by_customer = asked(case, "customer_cohorts")
    texts = {str(old): str(name) for old, name in new.items()}
    got = tables(case, renamed, "customer_cohorts")
    order = [*KEYS, "user_id"]
    same(got.sort(order), by_customer.with_columns(pl.col("user_id").replace_strict(texts)).sort(order))


@given(cases(joined=("none",), poison=False, kinds=("whole",)), REFUNDS, st.data())
def test_rows_split_in_two(case, refunds, data):
    """Split integer amounts into parts and add rows of nothing: nets are what counts."""
    case.settings["refunds"] = "net" if refunds == "drop" else refunds
    amount = case.names.get("amount", "amount")
    wide = case.frame.with_columns(pl.col(amount).cast(pl.Int64))
    part = [data.draw(st.integers(-50, 50)) for _ in range(wide.height)]
    part = pl.Series(amount, part, dtype=pl.Int64)
    split = pl.concat([wide.with_columns(wide[amount] - part), wide.with_columns(part), wide.with_columns(part * 0)])
    same(tables(case, split), asked(case))


@given(ROWS, CALENDAR, st.sampled_from(ZONES), st.sampled_from(("ms", "us", "ns")), st.data())
def test_zoned_instants_are_their_local_days(rows, calendar, zone, unit, data):
    """Say each day as an instant of that day in the zone, early or late."""
    per = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    counts = []
    for _, day, _ in rows:
        opens, closes = (
            int(naive.datetime(*at.timetuple()[:3], tzinfo=ZoneInfo(zone)).timestamp())
            for at in (day, day + timedelta(days=1))
        )
        counts.append(data.draw(st.sampled_from((opens * per, closes * per - 1, (opens + closes) // 2 * per))))
    frame = framed(rows)
    zoned = frame.with_columns(instants("timestamp", counts, pl.Datetime(unit, "UTC")))
    same(cl.termina.cohorts(zoned, timezone=zone, **calendar), cl.termina.cohorts(frame, **calendar))
    naive_instants = frame.with_columns(pl.col("timestamp").cast(pl.Datetime(unit)) + pl.duration(hours=23))
    same(cl.termina.cohorts(naive_instants, timezone=zone, **calendar), cl.termina.cohorts(frame, **calendar))


# --- time -----------------------------------------------------------------------------------------------------


@given(ROWS, CALENDAR, REFUNDS, st.integers(-500, 500))
def test_shift_by_whole_periods(rows, calendar, refunds, by):
    freq, week_start = calendar["freq"], calendar.get("week_start", "monday")

    def moved(day):
        period = naive.period_of(day, freq, week_start)
        into = (day - naive.first_day(period, freq, week_start)).days
        first = naive.first_day(period + by, freq, week_start)
        return min(first + timedelta(days=into), naive.last_day(period + by, freq, week_start))

    later = [(user, moved(day), amount) for user, day, amount in rows]
    assume(all(1900 <= day.year <= 2200 for _, day, _ in later))
    for here, there in zip(
        both(rows, refunds=refunds, **calendar), both(later, refunds=refunds, **calendar), strict=True
    ):
        labels = [
            naive.label(cohort_number(label, freq, week_start) + by, freq, week_start) for label in here["cohort"]
        ]
        same(there, here.with_columns(pl.Series("cohort", labels, dtype=pl.String)))


@given(ROWS, CALENDAR, REFUNDS, DAYS)
def test_later_rows_never_change_earlier_cells(rows, calendar, refunds, end):
    freq, week_start = calendar["freq"], calendar.get("week_start", "monday")
    edge = naive.period_of(end, freq, week_start)
    last = naive.last_day(edge, freq, week_start)
    early = [row for row in rows if row[1] <= last]
    for everything, cut, without in zip(
        both(rows, refunds=refunds, **calendar),
        both(rows, refunds=refunds, end=end, **calendar),
        both(early, refunds=refunds, end=end, **calendar),
        strict=True,
    ):
        same(cut, without)
        known = pl.Series([number <= edge for number in row_numbers(everything, freq, week_start)], dtype=pl.Boolean)
        reach = pl.Series([number <= edge for number in row_numbers(cut, freq, week_start)], dtype=pl.Boolean)
        assert reach.all()
        if max(naive.period_of(day, freq, week_start) for _, day, _ in rows) >= edge:
            same(cut, everything.filter(known))


@given(ROWS, CALENDAR, DAYS)
def test_start_only_drops_cohorts(rows, calendar, start):
    freq, week_start = calendar["freq"], calendar.get("week_start", "monday")
    first = naive.period_of(start, freq, week_start)
    for everything, kept in zip(both(rows, **calendar), both(rows, start=start, **calendar), strict=True):
        keep = [cohort_number(label, freq, week_start) >= first for label in everything["cohort"]]
        same(kept, everything.filter(pl.Series(keep, dtype=pl.Boolean)))


@given(plain)
def test_the_grid_is_dense(case):
    table = asked(case)
    ages = table.group_by("cohort", maintain_order=True).agg("period", pl.col("cohort_size").n_unique())
    reach = {
        cohort_number(cohort, case.settings.get("freq", "M"), case.settings.get("week_start", "monday")) + len(found)
        for cohort, found, sizes in ages.rows()
        if found == list(range(len(found))) and sizes == 1
    }
    assert len(reach) == (1 if table.height else 0)
    assert table["cohort"].is_sorted()


# --- adding and conserving ------------------------------------------------------------------------------------


@given(ROWS, CALENDAR, REFUNDS, st.sets(USERS))
def test_parts_of_disjoint_users_add(rows, calendar, refunds, some):
    end = max(day for _, day, _ in rows)
    settings = {"refunds": refunds, "end": end, **calendar}
    parts = [
        cl.termina.cohorts(framed([row for row in rows if (row[0] in some) == chosen]), **settings)
        for chosen in (True, False)
    ]
    sums = ["cohort_size", "cohort_size_amount", "active_users", "amount"]
    money = ("cohort_size_amount", "amount")
    added = pl.concat(in_units(part, *money) for part in parts).group_by(KEYS).agg(pl.col(sums).sum()).sort(KEYS)
    whole = in_units(cl.termina.cohorts(framed(rows), **settings), *money)
    same(whole.select(*KEYS, *sums), added)


@given(ROWS, CALENDAR, REFUNDS)
def test_customers_add_up_to_their_cohorts(rows, calendar, refunds):
    """Hold the laws of the semantics page that tie the two tables together."""
    table, customers = both(rows, refunds=refunds, **calendar)
    money = ("cohort_size_amount", "amount", "ltv")
    added = (
        in_units(customers, *money)
        .group_by(KEYS, maintain_order=True)
        .agg(pl.len(), pl.col(*money, "logo_retention").sum())
        .sort(KEYS)
    )
    assert added.select(KEYS).rows() == table.select(KEYS).rows()
    assert added["len"].to_list() == table["cohort_size"].to_list()
    assert added["amount"].to_list() == micros(table)
    assert added["cohort_size_amount"].to_list() == micros(table, "cohort_size_amount")
    assert added["logo_retention"].to_list() == table["active_users"].to_list()
    means = [total / (size * 10**6) for total, size in added.select("ltv", "len").rows()]
    assert means == table["ltv"].to_list()
    shares = [active / size for active, size in table.select("active_users", "cohort_size").rows()]
    assert shares == table["logo_retention"].to_list()


@given(ROWS, CALENDAR, REFUNDS)
def test_totals_are_conserved(rows, calendar, refunds):
    freq, week_start = calendar["freq"], calendar.get("week_start", "monday")
    nets = {}
    for user, day, amount in rows:
        key = (user, naive.period_of(day, freq, week_start))
        if refunds != "drop" or amount > 0:
            nets[key] = nets.get(key, 0) + round(amount * 100)
    active = {key: net for key, net in nets.items() if net > 0}
    table, customers = both(rows, refunds=refunds, **calendar)

    assert table["active_users"].sum() == len(active) == customers["logo_retention"].sum()
    sizes = table.filter(period=0)["cohort_size"].sum()
    assert sizes == customers["user_id"].n_unique() == len({user for user, _ in active})
    if refunds != "signed":
        assert sum(micros(table)) == sum(micros(customers)) == sum(active.values()) * 10_000
        by_period = {}
        for number, amount in zip(row_numbers(table, freq, week_start), micros(table), strict=True):
            by_period[number] = by_period.get(number, 0) + amount
        expected = dict.fromkeys(by_period, 0)
        for (_, number), net in active.items():
            expected[number] += net * 10_000
        assert by_period == expected


@given(plain)
def test_age_zero_and_bounds(case):
    for table in ("cohorts", "customer_cohorts"):
        found = asked(case, table)
        zero = found.filter(period=0)
        assert (zero["logo_retention"] == 1.0).all()
        assert (zero["amount_retention"] == 1.0).all()
        assert (zero["amount"] == zero["cohort_size_amount"]).all()
        assert (zero["amount"] > 0).all()
        assert found["logo_retention"].is_between(0.0, 1.0).all()
        assert found.null_count().sum_horizontal().item() == 0
        if case.settings.get("refunds") != "signed":
            keys = ["cohort"] if table == "cohorts" else ["cohort", "user_id"]
            assert (found["amount"] >= 0).all()
            rising = found.group_by(keys).agg(pl.col("ltv").is_sorted().alias("rising"))
            assert rising["rising"].all()


@given(cases(poison=False))
def test_active_never_exceeds_size(case):
    table = asked(case)
    assert (table["active_users"] <= table["cohort_size"]).all()
    assert (table["cohort_size"] > 0).all()
    for column in ("logo_retention", "amount", "amount_retention", "ltv", "cohort_size_amount"):
        assert table[column].drop_nulls().is_finite().all()
    assert table.filter(pl.col("amount_retention").is_null() != (pl.col("cohort_size_amount") == 0)).height == 0


@given(ROWS, CALENDAR, REFUNDS, st.integers(2, 50))
def test_another_currency_unit(rows, calendar, refunds, times):
    """Multiply all amounts: money grows with them, retention stays to the last bit."""
    pence = [(user, day, round(amount * 100)) for user, day, amount in rows]
    schema = {"user_id": pl.String, "timestamp": pl.Date, "amount": pl.Int64}
    one, many = (
        cl.termina.cohorts(
            pl.DataFrame([(u, d, a * by) for u, d, a in pence], schema=schema, orient="row"),
            refunds=refunds,
            **calendar,
        )
        for by in (1, times)
    )
    ratios = ["cohort_size", "active_users", "logo_retention", "amount_retention"]
    same(many.select(KEYS + ratios), one.select(KEYS + ratios))
    assert (many["amount"] == one["amount"] * times).all()


@given(ROWS, CALENDAR, st.integers(0, 9))
def test_decimals_do_not_matter_to_whole_numbers(rows, calendar, decimals):
    whole = [(user, day, float(round(amount))) for user, day, amount in rows]
    same(cl.termina.cohorts(framed(whole), decimals=decimals, **calendar), both(whole, **calendar)[0])


# --- settings that are no more than they say ------------------------------------------------------------------


@given(plain, customer_settings())
def test_active_rows_are_dense_rows_where_active(case, more):
    more = {name: value for name, value in more.items() if name != "rows"}
    dense = asked(case, "customer_cohorts", **more)
    same(asked(case, "customer_cohorts", rows="active", **more), dense.filter(pl.col("logo_retention") == 1.0))


@given(plain, st.integers(1, 6))
def test_top_n_only_chooses(case, top_n):
    everyone = asked(case, "customer_cohorts")
    some = asked(case, "customer_cohorts", top_n=top_n)
    chosen = some["user_id"].unique().to_list()
    assert len(chosen) == min(top_n, everyone["user_id"].n_unique())
    same(some, everyone.filter(pl.col("user_id").is_in(chosen)))
    fewer = asked(case, "customer_cohorts", top_n=top_n + 1)
    assert set(chosen) <= set(fewer["user_id"])


@given(plain)
def test_the_other_bases_are_the_cohorts(case):
    """Find the cohort's own columns on each of its customers' rows."""
    columns = ["cohort_size_amount", "ltv"]
    cohort = asked(case).select(*KEYS, *columns)
    for basis in ("cohort_total", "cohort_mean"):
        table = asked(case, "customer_cohorts", basis=basis)
        same(table.select(KEYS + columns), table.select(KEYS).join(cohort, on=KEYS, how="left", maintain_order="left"))
        own = asked(case, "customer_cohorts")
        order, unchanged = ["cohort", "user_id", "period"], ["logo_retention", "amount"]
        same(table.sort(order).select(order + unchanged), own.sort(order).select(order + unchanged))


@given(ROWS, CALENDAR, REFUNDS)
def test_joining_when_first_active_is_the_default(rows, calendar, refunds):
    freq, week_start = calendar["freq"], calendar.get("week_start", "monday")
    expected = both(rows, refunds=refunds, **calendar)
    first = expected[1].unique("user_id").select("user_id", "cohort")
    days = [naive.first_day(cohort_number(label, freq, week_start), freq, week_start) for label in first["cohort"]]
    joined = first.select("user_id").with_columns(pl.Series("joined", days, dtype=pl.Date))
    for before in ("error", "clip", "drop"):
        for table, want in zip((cl.termina.cohorts, cl.termina.customer_cohorts), expected, strict=True):
            got = quietly(table, framed(rows), joined=joined, before_joined=before, refunds=refunds, **calendar)
            same(got, want)


@given(cases(joined=("column",), poison=False))
def test_a_joined_column_is_a_joined_table(case):
    user = case.names.get("user", "user_id")
    table = case.frame.select(user, case.joined_as)
    same(asked(case, joined=table), asked(case))
    same(asked(case, "customer_cohorts", joined=table), asked(case, "customer_cohorts"))


@given(plain, st.sampled_from(("single_customer", "cohort_total", "cohort_mean")))
def test_order_of_customers(case, basis):
    table = asked(case, "customer_cohorts", basis=basis)
    keys = [
        (cohort, -worth, user.encode("utf-32-be"), age)
        for cohort, worth, user, age in table.select("cohort", "cohort_size_amount", "user_id", "period").rows()
    ]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["cdnow_sample.parquet", "online_retail.parquet"])
def test_real_data_obey(shared, name):
    """Hold the laws on real rows: threads, order, parts, customers and cohorts."""
    data = pl.read_parquet(shared / name).select("user_id", "timestamp", "amount").drop_nulls()
    table = cl.termina.cohorts(data)
    same(cl.termina.cohorts(data.sample(fraction=1.0, shuffle=True, seed=1), threads=1), table)
    customers = cl.termina.customer_cohorts(data)
    added = in_units(customers, "amount").group_by(KEYS).agg(pl.col("amount").sum()).sort(KEYS)
    assert added["amount"].to_list() == micros(table)
    end = data["timestamp"].max()
    parts = [cl.termina.cohorts(data.filter(pl.col("user_id") % 2 == odd), end=end) for odd in (0, 1)]
    sums = pl.col("cohort_size", "active_users", "amount").sum()
    pieces = pl.concat(in_units(part, "amount") for part in parts).group_by(KEYS).agg(sums).sort(KEYS)
    same(in_units(table, "amount").select(pieces.columns), pieces)


def test_progress_never_goes_back():
    """Where the work begins anew, it waits until it is as far as it was."""
    seen = []
    meter = Meter(lambda *told: seen.append(told), 10)
    for rows in (8, 4):
        meter.add(rows)
    meter.restart()
    for rows in (8, 8, 4):
        meter.add(rows)
    meter.done()
    assert seen == [(done, 10) for done in (4, 6, 6, 8, 10, 10)]


@pytest.mark.parametrize("table", [cl.termina.cohorts, cl.termina.customer_cohorts])
@pytest.mark.parametrize("threads", [1, 3])
def test_progress_grows_to_all_rows(table, threads):
    rows = 100_000
    frame = pl.DataFrame(
        {
            "user_id": np.arange(rows) % 5_000,
            "timestamp": pl.Series(np.arange(rows) // 1_000).cast(pl.Date),
            "amount": np.ones(rows),
        }
    )
    seen = []
    table(frame, end="1970-02", threads=threads, progress=lambda *told: seen.append(told))
    assert {total for _, total in seen} == {rows}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) > 3
    assert seen[-1] == (rows, rows)
