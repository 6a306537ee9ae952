"""Tables that others published, reproduced cell by cell through the public calls.

The CDNOW data travel with the tests. The Online Retail data may not be redistributed here: those tests read a
folder beside the repository and are skipped where it is absent. The literals of the variants that nobody
published were worked out by plain group-bys over the rows before the library existed.
"""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl

pytestmark = pytest.mark.unit

SAMPLES = Path(__file__).parent / "samples"
SHARED = Path(__file__).parents[2] / "shared" / "data"


def published(path):
    """Read a published table: the label of a row -> its cells, the unobserved ones left off."""
    rows = pl.read_csv(path).rows()
    return {row[0]: [cell for cell in row[1:] if cell is not None] for row in rows}


def triangle(table, field, places=None):
    """Give a table of ours the same shape, rounded as the published one is."""
    cells = {}
    for cohort, *row in cl.triangle(table, field).iter_rows():
        seen = [cell for cell in row if cell is not None]
        cells[cohort] = seen if places is None else [round(cell, places) for cell in seen]
    return cells


def by_calendar_month(table, field):
    """Sum a field of all cohorts over the calendar month that cohort and age point to."""
    start = pl.col("cohort").str.to_date("%Y-%m")
    months = table.with_columns(month=start.dt.offset_by(pl.format("{}mo", "period")).dt.strftime("%Y-%m"))
    return dict(months.group_by("month").agg(pl.col(field).sum()).sort("month").iter_rows())


# --- Online Retail -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retail():
    path = SHARED / "online_retail.parquet"
    if not path.exists():
        pytest.skip("the Online Retail rows are not in ../shared/data; they are not part of the repository")
    return pl.read_parquet(path)


@pytest.fixture(scope="module")
def rows_a(retail):
    """Definition A: known customer, quantity and price positive; no cancellation is left, so net = gross."""
    known = retail.filter(pl.col("user_id").is_not_null())
    rows = known.filter((pl.col("quantity") > 0) & (pl.col("unit_price") > 0))
    assert rows.height == 397_884
    assert rows["user_id"].n_unique() == 4_338
    return rows


@pytest.fixture(scope="module")
def table_a(rows_a):
    return cl.termina.cohorts(rows_a)


@pytest.fixture(scope="module")
def known(retail):
    """All rows of known customers, cancellations included: what the library is meant to be given."""
    return retail.filter(pl.col("user_id").is_not_null())


@pytest.fixture(scope="module")
def table_default(known):
    return cl.termina.cohorts(known)


def test_definition_a_active_customers(table_a):
    ours = triangle(table_a, "active_users")
    assert ours == published(SHARED / "published/or_A_counts_urbonas.csv")
    assert ours["2010-12"] == [885, 324, 286, 340, 321, 352, 321, 309, 313, 350, 331, 445, 235]
    assert {cohort: row[0] for cohort, row in ours.items()} == {
        cohort: row[0] for cohort, row in triangle(table_a, "cohort_size").items()
    }


def test_definition_a_retention(table_a):
    ours = triangle(table_a, "logo_retention", places=6)
    assert ours == published(SHARED / "published/or_A_retention_urbonas.csv")


def test_definition_a_cohort_revenue(table_a):
    ours = triangle(table_a, "amount", places=2)
    assert ours == published(SHARED / "published/or_A_cohort_revenue_boidrew.csv")


def test_definition_a_cumulative_revenue(table_a):
    """Published as a total; ours is per customer, so the size of the cohort is multiplied back."""
    cumulative = table_a.with_columns(total=pl.col("ltv") * pl.col("cohort_size"))
    ours = triangle(cumulative, "total", places=2)
    assert ours == published(SHARED / "published/or_A_cum_revenue_boidrew.csv")


def test_definition_a_realised_ltv(table_a):
    ours = triangle(table_a, "ltv", places=2)
    assert ours == published(SHARED / "published/or_A_cum_revenue_per_customer_boidrew.csv")
    assert (ours["2010-12"][0], ours["2010-12"][-1]) == (647.13, 5098.47)


def test_definition_a_calendar_months(table_a):
    """Revenue and active customers of a calendar month are the diagonals of the cohort tables."""
    revenue = {month: round(value, 2) for month, value in by_calendar_month(table_a, "amount").items()}
    theirs = pl.read_csv(SHARED / "published/or_A_monthly_revenue_iliastmrs.csv")
    assert revenue == dict(theirs.iter_rows())
    active = by_calendar_month(table_a, "active_users")
    assert active == dict(pl.read_csv(SHARED / "published/or_A_mau_iliastmrs.csv").iter_rows())


def test_definition_a_from_customers(rows_a, table_a):
    """The same published counts and revenue, added up from the table of single customers."""
    customers = cl.termina.customer_cohorts(rows_a)
    summed = customers.group_by("cohort", "period").agg(
        active_users=pl.col("logo_retention").sum().cast(pl.Int64),
        amount=pl.col("amount").sum(),
        ltv=pl.col("ltv").mean(),
    )
    summed = summed.sort("cohort", "period")
    assert triangle(summed, "active_users") == published(SHARED / "published/or_A_counts_urbonas.csv")
    assert triangle(summed, "amount", 2) == published(SHARED / "published/or_A_cohort_revenue_boidrew.csv")
    assert triangle(summed, "ltv", 2) == published(SHARED / "published/or_A_cum_revenue_per_customer_boidrew.csv")
    assert customers["user_id"].n_unique() == 4_338
    top = cl.termina.customer_cohorts(rows_a, top_n=5, rank_by="ltv")
    last = top.group_by("user_id").agg(pl.col("ltv").max()).sort("ltv", descending=True)
    assert list(last.iter_rows()) == [
        ("14646", 280206.02),
        ("18102", 259657.3),
        ("17450", 194550.79),
        ("16446", 168472.5),
        ("14911", 143825.06),
    ]


def test_definition_a_is_two_settings_away(retail, table_a):
    """`nulls="drop", refunds="drop"` on the file as it is: every cancellation has a negative amount."""
    with pytest.warns(cl.errors.CohortlibWarning, match="135,?080"):
        ours = cl.termina.cohorts(retail, nulls="drop", refunds="drop")
    assert_frame_equal(ours, table_a, check_exact=True)


def test_definition_a_in_exact_decimals(rows_a, table_a):
    """The amounts as thousandths, exact, give the same bits as the floats."""
    exact = rows_a.with_columns(amount=pl.col("amount_milli").cast(pl.Decimal(18, 3)) / Decimal(1000))
    assert isinstance(exact.schema["amount"], pl.Decimal)
    assert_frame_equal(cl.termina.cohorts(exact), table_a, check_exact=True)


def test_cancellations_kept(known):
    """Any row of any sign is activity: count rows instead of money, by a column of ones."""
    assert known.height == 406_829
    table = cl.termina.cohorts(known.with_columns(one=pl.lit(1)), amount="one")
    ours = triangle(table, "active_users")
    assert sum(row[0] for row in ours.values()) == 4_372
    assert ours["2010-12"] == [948, 362, 317, 367, 341, 376, 360, 336, 336, 374, 354, 474, 260]
    assert ours["2011-01"] == [421, 101, 119, 102, 138, 126, 110, 108, 131, 146, 155, 63]
    assert ours["2011-12"] == [41]


def test_cancellations_dropped_but_price_zero_kept(known, table_a):
    """One customer differs, 13256, whose only row has price 0; by money even that one does not."""
    rows = known.filter(~pl.col("invoice_no").str.starts_with("C")).with_columns(one=pl.lit(1))
    assert rows.height == 397_924
    ours = triangle(cl.termina.cohorts(rows, amount="one"), "active_users")
    expected = triangle(table_a, "active_users")
    expected["2011-11"] = [324, 36]  # definition A: 323, 36
    assert ours == expected
    assert_frame_equal(cl.termina.cohorts(rows), table_a, check_exact=True)


DEFAULT_ACTIVE = {
    "2010-12": [881, 321, 282, 336, 319, 349, 317, 304, 309, 344, 326, 438, 231],
    "2011-01": [415, 90, 110, 95, 134, 118, 104, 102, 127, 136, 154, 50],
    "2011-02": [381, 70, 71, 108, 102, 94, 96, 106, 94, 116, 27],
    "2011-03": [451, 65, 113, 89, 101, 75, 119, 104, 126, 39],
    "2011-04": [300, 62, 61, 63, 59, 68, 64, 78, 22],
    "2011-05": [285, 55, 49, 49, 59, 67, 75, 26],
    "2011-06": [244, 41, 39, 64, 56, 80, 23],
    "2011-07": [186, 32, 39, 42, 51, 21],
    "2011-08": [169, 35, 42, 40, 21],
    "2011-09": [298, 68, 90, 33],
    "2011-10": [355, 86, 42],
    "2011-11": [322, 35],
    "2011-12": [40],
}
# Thousandths: the unit in which the file is exact.
DEFAULT_AMOUNT = {
    "2010-12": "559151230 269595700 228280190 292892580 198714280 318781860 308104590 "
    "301163890 306163770 456854210 429171820 496820760 183223370",
    "2011-01": "210401620 54549770 62361640 44465940 80320020 83346680 69677090 "
    "73163940 72342521 105029800 124523620 26662090",
    "2011-05": "119149830 18668830 19512380 18716040 27668800 33421990 32721280 10675920",
    "2011-12": "26776750",
}
SIGNED_AMOUNT = {
    "2010-12": "559151230 266226700 225877430 292522160 197021510 314834060 306670040 "
    "298506570 305104540 456633110 428686030 496156280 182032970",
    "2011-11": "135467280 14831580",
}


def thousandths(cells):
    return {cohort: [int(value) / 1000 for value in row.split()] for cohort, row in cells.items()}


def test_our_default(table_default):
    """Net > 0 within customer and month, over all rows of known customers."""
    active = triangle(table_default, "active_users")
    assert active == DEFAULT_ACTIVE
    assert sum(row[0] for row in active.values()) == 4_327
    amount = triangle(table_default, "amount")
    assert {cohort: amount[cohort] for cohort in DEFAULT_AMOUNT} == thousandths(DEFAULT_AMOUNT)
    total = sum(Decimal(repr(value)) for row in amount.values() for value in row)
    assert total == Decimal("8351595.414")
    assert triangle(table_default, "ltv")["2010-12"][0] == 559151230 / 881_000
    months = by_calendar_month(table_default, "active_users")
    assert list(months.values()) == [881, 736, 753, 967, 850, 1051, 986, 942, 930, 1259, 1354, 1656, 610]


def test_our_default_against_a_plain_query(known, table_default):
    """Every count and every amount, by group-bys that share nothing with the library."""
    month = pl.col("timestamp").dt.year() * 12 + pl.col("timestamp").dt.month() - 1
    net = known.group_by("user_id", month=month.cast(pl.Int64)).agg(pl.col("amount_milli").sum())
    active = net.filter(pl.col("amount_milli") > 0)
    first = active.group_by("user_id").agg(start=pl.col("month").min())
    cells = active.join(first, on="user_id").group_by("start", period=pl.col("month") - pl.col("start"))
    cells = cells.agg(active_users=pl.len().cast(pl.Int64), milli=pl.col("amount_milli").sum())
    cohort = pl.date(pl.col("start") // 12, pl.col("start") % 12 + 1, 1).dt.strftime("%Y-%m")
    plain = cells.select(cohort.alias("cohort"), "period", "active_users", "milli").sort("cohort", "period")
    milli = (pl.col("amount") * 1000).round().cast(pl.Int64).alias("milli")
    assert_frame_equal(table_default.select("cohort", "period", "active_users", milli), plain)


def test_why_our_default_differs_from_a(known, rows_a, table_a, table_default):
    """20 of the 4,338 customers differ: 11 are never active in our sense, 9 start later."""

    def starts(rows):
        table = cl.termina.customer_cohorts(rows, rows="active")
        return dict(table.filter(pl.col("period") == 0).select("user_id", "cohort").iter_rows())

    a, ours = starts(rows_a), starts(known)
    never = [
        "12346",
        "12454",
        "12558",
        "12607",
        "13672",
        "13762",
        "14792",
        "15802",
        "16742",
        "18268",
        "18274",
    ]
    assert sorted(set(a) - set(ours)) == never
    assert set(ours) < set(a)
    assert {user: (a[user], start) for user, start in ours.items() if a[user] != start} == {
        "12476": ("2010-12", "2011-01"),
        "14299": ("2010-12", "2011-01"),
        "16546": ("2010-12", "2011-02"),
        "18225": ("2010-12", "2011-02"),
        "12908": ("2011-01", "2011-06"),
        "16554": ("2011-01", "2011-05"),
        "14460": ("2011-02", "2011-06"),
        "16801": ("2011-03", "2011-05"),
        "17728": ("2011-09", "2011-10"),
    }
    # Of 13,054 active customer-months 79 net to nothing.
    assert (table_a["active_users"].sum(), table_default["active_users"].sum()) == (13_054, 12_975)
    # 168,469.60 ordered on 2011-12-09 and cancelled 12 minutes later: most of definition A's 179,251.53
    # in cohort 2011-05, age 7, where ours has 10,675.92.
    mine = cl.termina.customer_cohorts(known.filter(pl.col("user_id") == 16446))
    assert mine.filter(pl.col("logo_retention") == 1).height == 1
    assert mine["ltv"].max() == 2.9


def test_signed_refunds(known):
    """The same customers and cohorts; what a month takes back stays in the money."""
    table = cl.termina.cohorts(known, refunds="signed")
    assert triangle(table, "active_users") == DEFAULT_ACTIVE
    amount = triangle(table, "amount")
    assert {cohort: amount[cohort] for cohort in SIGNED_AMOUNT} == thousandths(SIGNED_AMOUNT)
    total = sum(Decimal(repr(value)) for row in amount.values() for value in row)
    assert total == Decimal("8315527.434")


# --- CDNOW -------------------------------------------------------------------------------------------------

TRIERS = [1574, 1642, 1822, 1924, 2164, 2197, 2024, 2034, 2198, 2165, 2037, 1789]
WEEKS = [(dt.date(1997, 1, 1) + dt.timedelta(weeks=week)).isoformat() for week in range(12)]


@pytest.fixture(scope="module")
def cdnow():
    rows = pl.read_parquet(SAMPLES / "cdnow_master.parquet")
    assert (rows.height, rows["user_id"].n_unique()) == (69_659, 23_570)
    return rows


def test_cdnow_weekly_cohorts(cdnow):
    """Their week is (day - 1) // 7 + 1 from Wednesday 1997-01-01: the calendar week from Wednesday on.

    Customers who tried are counted by CDs, not by dollars: 80 orders cost nothing but hold a CD.
    """
    table = cl.termina.cohorts(cdnow, amount="n_cds", freq="W", week_start="wednesday")
    sizes = table.filter(pl.col("period") == 0).select("cohort", "cohort_size")
    assert list(sizes.iter_rows()) == list(zip(WEEKS, TRIERS, strict=True))
    assert sum(TRIERS) == 23_570


def test_cdnow_weekly_cohorts_by_dollars(cdnow):
    """By dollars, 68 customers are never active and two start in November, by their first paid order."""
    table = cl.termina.cohorts(cdnow, freq="W", week_start="wednesday")
    sizes = dict(table.filter(pl.col("period") == 0).select("cohort", "cohort_size").iter_rows())
    assert sum(sizes.values()) == 23_570 - 68
    assert [sizes[week] for week in (WEEKS[0], WEEKS[11], "1997-11-19")] == [1564, 1783, 2]


def test_cdnow_table_1(cdnow):
    """Units per customer-week over the first 12 weeks, from the table of single customers."""
    theirs = published(SAMPLES / "cdnow_table1_fader_hardie_2001.csv")
    customers = cl.termina.customer_cohorts(
        cdnow, amount="n_cds", freq="W", week_start="wednesday", end=dt.date(1997, 3, 25)
    )
    start = pl.col("cohort").str.to_date()
    week = ((start - dt.date(1997, 1, 1)).dt.total_days() // 7 + pl.col("period")).alias("week")
    units = customers.select(week, pl.col("amount").cast(pl.Int64).alias("units"))
    counts = {
        (cell, week): number
        for week, cell, number in units.group_by("week", pl.min_horizontal("units", 10)).len().iter_rows()
    }
    for cell in range(11):
        label = "10+" if cell == 10 else str(cell)
        assert [counts.get((cell, week), 0) for week in range(12)] == theirs[label], label
    sales = units.group_by("week").agg(pl.col("units").sum()).sort("week")["units"].to_list()
    assert sales == theirs["total_sales"]
    assert theirs["incremental_triers"] == TRIERS
    assert units.group_by("week").len().sort("week")["len"].to_list() == theirs["cumulative_triers"]


def test_cdnow_repeat_units(cdnow):
    """The often quoted "nearly 163,000 CDs after the initial purchase" is not in the data.

    All CDs together are 167,881; after the day of the first purchase 116,464. (Counting a second order of
    that first day as a repeat gives 117,110.) So the quoted number cannot be repeat sales.
    """
    table = cl.termina.cohorts(cdnow, amount="n_cds", freq="D")
    assert table["amount"].sum() == 167_881
    assert table.filter(pl.col("period") > 0)["amount"].sum() == 116_464


def test_cdnow_customers_add_to_cohorts(cdnow):
    """Whole numbers of CDs add exactly, so the two tables must agree to the bit."""
    settings = {"amount": "n_cds", "freq": "M"}
    customers = cl.termina.customer_cohorts(cdnow, **settings)
    summed = customers.group_by("cohort", "period").agg(
        cohort_size=pl.len().cast(pl.Int64),
        cohort_size_amount=pl.col("cohort_size_amount").sum(),
        active_users=pl.col("logo_retention").sum().cast(pl.Int64),
        amount=pl.col("amount").sum(),
    )
    ours = cl.termina.cohorts(cdnow, **settings).select(summed.columns)
    assert_frame_equal(ours, summed.sort("cohort", "period"), check_exact=True)
