"""The tables of Spark frames are those of the local run, to the bit: on Spark, and through Spark Connect on Sail.

The engines are real. Sail needs no Java and is quick, so what is drawn at random is drawn there.
"""

import gc
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from polars.testing import assert_frame_equal
from strategies import cases, quietly
from strategies_adapty import assert_same
from strategies_adapty import cases as adapty_cases
from strategies_general import cases as general_cases
from test_revenuecat_states import row_of

import cohortlib as cl
import cohortlib.samples
from benchmarks.subscriptions import history
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SettingError

pytestmark = [
    pytest.mark.spark,
    # What pyspark itself does.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAMPLE = Path(next(iter(cohortlib.samples.__path__))) / "cdnow_sample.parquet"
ENGINES = ("spark", "sail")
KEYS = ["cohort", "user_id", "period"]
few = settings(
    max_examples=max(settings().max_examples // 3, 10), suppress_health_check=[*settings().suppress_health_check,
                                                                              HealthCheck.function_scoped_fixture]
)  # fmt: skip


def on_spark():
    from pyspark.sql import SparkSession

    fast = {
        "spark.ui.enabled": False,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": 2,
        "spark.default.parallelism": 2,
        "spark.sql.codegen.wholeStage": False,
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.log.level": "OFF",
        "spark.sql.session.timeZone": "America/Sao_Paulo",
    }
    builder = SparkSession.builder.master("local[2]").appName("cohortlib")
    for name, value in fast.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@pytest.fixture(scope="module")
def sessions():
    """Start each engine when it is asked for, and stop it at the end."""
    pytest.importorskip("pyspark", reason="pyspark is not installed (extra ci)")
    started, stops = {}, []
    # Workers are other processes, and must be of this Python.
    # And where the session before was one of Connect, pyspark takes it that all are.
    ours = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    remote = ("SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE", "SPARK_LOCAL_REMOTE")
    before = {name: os.environ.pop(name, None) for name in (*ours, *remote)}
    os.environ.update(ours)

    def start(engine):
        if engine in started:
            return started[engine]
        if engine == "spark":
            if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
                pytest.skip("Spark needs Java, and there is none on this machine (Debian: default-jre-headless)")
            session = on_spark()
            stops.append(session.stop)
        else:
            sail = pytest.importorskip("pysail.spark", reason="pysail is not installed (extra ci)")
            from pyspark.sql.connect.session import SparkSession

            server = sail.SparkConnectServer()
            server.start()
            session = SparkSession.builder.remote("sc://127.0.0.1:{1}".format(*server.listening_address)).create()
            stops.extend([session.stop, server.stop])
        session.conf.set("spark.sql.timestampType", "TIMESTAMP_NTZ")  # of what Arrow has without a zone
        started[engine] = session
        return session

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (FutureWarning, ResourceWarning))
        yield start
        for stop in stops:
            stop()
        started.clear()
        gc.collect()  # what pyspark leaves open is not a warning in a later test
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(params=ENGINES)
def session(request, sessions):
    return sessions(request.param)


@pytest.fixture
def sail(sessions):
    return sessions("sail")


def each(names, first, *others):
    """Ask the first on both engines, all others where it is quick; a value ``on_both`` is asked on both, too."""
    some = [first, *(value for value in others if isinstance(value, on_both))]
    rest = [value for value in others if not isinstance(value, on_both)]
    pairs = [(engine, value) for engine in ENGINES for value in some] + [("sail", value) for value in rest]
    plain = [(engine, value.value if isinstance(value, on_both) else value) for engine, value in pairs]
    return pytest.mark.parametrize(("session", names), plain, indirect=["session"], ids=str)


@dataclass(frozen=True)
class on_both:
    value: object


def sparkling(session, frame):
    """Make a Spark frame of the same rows."""
    types = {
        name: pl.Decimal(20, 0) if kind == pl.UInt64 else pl.Int64 if kind.is_unsigned_integer() else kind
        for name, kind in frame.schema.items()
    }
    for name, kind in types.items():
        if isinstance(kind, pl.Datetime):
            types[name] = pl.Datetime("us", kind.time_zone)
        if isinstance(kind, pl.Categorical | pl.Enum):
            types[name] = pl.String
    some = frame if frame.height else frame.clear(1)  # without a row, Spark Connect does not see the types
    made = session.createDataFrame(some.cast(types).to_arrow(compat_level=pl.CompatLevel.oldest()))
    return made if frame.height else made.where("false")


def is_sail(session):
    return "connect" in type(session).__module__


def local(spark_frame):
    return pl.DataFrame(spark_frame.toArrow())


def told(warned):
    return sorted(str(one.message) for one in warned if issubclass(one.category, CohortlibWarning))


def drawn(users=40, rows=400, seed=7):
    """Draw rows: half of them of one user, some in the hours around midnight, one in ten a refund."""
    rng = np.random.default_rng(seed)
    who = np.where(rng.random(rows) < 0.5, 3, rng.integers(0, users, rows))
    hours = rng.integers(0, 24 * 200, rows)
    cents = rng.integers(1, 10_000, rows) * np.where(rng.random(rows) < 0.1, -1, 1)
    at = pl.Series(hours * 3_600_000_000 + 1_759_000_000_000_000 // 3_600_000_000 * 3_600_000_000)
    since = pl.Series(at.to_numpy()).cast(pl.Datetime("us")).dt.date().alias("since")
    frame = pl.DataFrame({"user_id": who, "timestamp": at.cast(pl.Datetime("us")), "amount": cents / 100})
    first = frame.with_columns(since).group_by("user_id").agg(pl.col("since").min().dt.offset_by("-10d"))
    return frame.join(first, on="user_id", how="left", maintain_order="left").with_columns(
        zoned=pl.col("timestamp").dt.replace_time_zone("UTC"),
        day=pl.col("timestamp").dt.date(),
        name=pl.format("customer-{}", "user_id"),
        whole=pl.col("user_id").cast(pl.UInt64) + 2**63,
        exact=pl.col("amount").round(2).cast(pl.Decimal(12, 2)),
    )


ROWS = drawn()
JOINED = ROWS.select("user_id", joined="since").unique().sort("user_id")
SETTINGS = (
    {"freq": "D"},
    {"refunds": "signed", "end": "2026-01"},
    {"freq": "W", "week_start": "sunday", "timezone": "Asia/Tokyo", "timestamp": "zoned", "refunds": "drop"},
    on_both({"freq": "Q", "start": "2025Q4", "complete_only": True, "user": "name", "amount": "exact", "decimals": 2}),
    {"freq": "A", "timestamp": "day", "user": "whole"},
    {"joined": "since", "before_joined": "clip"},
    on_both({"joined": "table", "before_joined": "drop", "start": "2025-10", "timezone": "Asia/Tokyo"}),
    {"joined": "table", "freq": "W", "complete_only": True},
)  # fmt: skip


def asked(session, frame, options):
    """Give what is asked of Spark and what is asked of the local run."""
    mine, theirs = dict(options), dict(options)
    if options.get("joined") == "table":
        mine["joined"], theirs["joined"] = sparkling(session, JOINED), JOINED
    return mine, theirs


# ---------------------------------------------------------------------------------------------------------- Termina


@each("options", *SETTINGS)
def test_cohorts_are_those_of_the_local_run(session, options):
    mine, theirs = asked(session, ROWS, options)
    table = quietly(cl.spark.cohorts, sparkling(session, ROWS), partitions=3, **mine)
    assert_frame_equal(table, quietly(cl.termina.cohorts, ROWS, **theirs), check_exact=True)
    assert table.height


ACCOUNTINGS = ("user_accounting", "growth_accounting", "concentration")


def assert_same_accounting(found, expected):
    """Compare two accountings, or the three frames of two concentrations, to the last bit."""
    if not isinstance(expected, pl.DataFrame):
        for name in cl.fields.CONCENTRATION:
            assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)
    else:
        assert_frame_equal(found, expected, check_exact=True)


@each("options", *(options for options in SETTINGS if "joined" not in getattr(options, "value", options)))
def test_accountings_are_those_of_the_local_run(session, options):
    frame = sparkling(session, ROWS)
    for name in ACCOUNTINGS:
        found = quietly(getattr(cl.spark, name), frame, partitions=3, **options)
        assert_same_accounting(found, quietly(getattr(cl.termina, name), ROWS, **options))


def test_many_users_of_equal_amounts(sail):
    rows = pl.DataFrame(
        {"user_id": range(300), "timestamp": date(2026, 1, 1), "amount": [k % 3 + 1 for k in range(300)]}
    )
    found = cl.spark.concentration(sparkling(sail, rows), partitions=3)
    assert_same_accounting(found, cl.termina.concentration(rows))


@few
@given(case=cases(joined=("none",)))
def test_drawn_accountings(sail, case):
    frame = local(sparkling(sail, case.frame))
    options = {**case.names, **{name: value for name, value in case.settings.items() if name != "before_joined"}}
    for name in ACCOUNTINGS:
        expected = outcome(getattr(cl.termina, name), frame, **options)
        found = outcome(getattr(cl.spark, name), sparkling(sail, frame), partitions=3, **options)
        if isinstance(expected, cl.errors.CohortlibError):
            assert type(found) is type(expected), (found, expected)
            return
        assert_same_accounting(found, expected)


@each(
    "options",
    {"rows": "active", "refunds": "signed"},
    {"basis": "cohort_total", "user": "name", "start": "2025-11"},
    on_both({"basis": "cohort_mean", "complete_only": True, "freq": "W"}),
    on_both({"top_n": 5}),
    {"top_n": 3, "rank_by": "acv", "basis": "cohort_total", "start": "2025-12"},
    {"joined": "table", "before_joined": "drop", "basis": "cohort_mean"},
    {"start": "2027-01"},
)
def test_customers_are_those_of_the_local_run(session, options):
    mine, theirs = asked(session, ROWS, options)
    frame = quietly(cl.spark.customer_cohorts, sparkling(session, ROWS), partitions=3, **mine)
    assert hasattr(frame, "mapInArrow")  # a frame of Spark still, of which nothing has been computed
    assert frame.columns == list(cl.fields.CUSTOMER_COHORTS)
    table = quietly(cl.termina.customer_cohorts, ROWS, **theirs)
    assert_frame_equal(local(frame).sort(KEYS), table.sort(KEYS), check_exact=True)
    assert local(frame.limit(0)).schema == table.schema


def test_real_rows_from_parquet(session):
    frame, rows = session.read.parquet(str(SAMPLE)), pl.read_parquet(SAMPLE)
    assert_frame_equal(cl.spark.cohorts(frame), cl.termina.cohorts(rows), check_exact=True)
    customers = local(cl.spark.customer_cohorts(frame, rows="active", partitions=2))
    assert_frame_equal(
        customers.sort(KEYS), cl.termina.customer_cohorts(rows, rows="active").sort(KEYS), check_exact=True
    )


@each("partitions", None, 1, on_both(7), 60)
def test_the_number_of_partitions_does_not_matter(session, partitions):
    """Some of 60 have no user; and one user has half of the rows."""
    table = cl.spark.cohorts(sparkling(session, ROWS), partitions=partitions, freq="W")
    assert_frame_equal(table, cl.termina.cohorts(ROWS, freq="W"), check_exact=True)


@each(
    "clock",
    ("Pacific/Apia", "zoned"), on_both(("+05:30", "zoned")), ("UTC", "zoned"), ("Pacific/Apia", "day"),
    ("Pacific/Apia", "timestamp"), ("+05:30", "timestamp"),
)  # fmt: skip
def test_the_time_zone_of_the_session_does_not_matter(session, clock):
    zone, timestamp = clock
    before = session.conf.get("spark.sql.session.timeZone")
    frame = sparkling(session, ROWS)
    expected = cl.termina.cohorts(ROWS, timestamp=timestamp, timezone="America/New_York", freq="D")
    session.conf.set("spark.sql.session.timeZone", zone)
    try:
        table = cl.spark.cohorts(frame, timestamp=timestamp, timezone="America/New_York", freq="D")
    finally:
        session.conf.set("spark.sql.session.timeZone", before)
    assert_frame_equal(table, expected, check_exact=True)


def test_no_rows(session):
    frame = sparkling(session, ROWS.clear())
    assert_frame_equal(cl.spark.cohorts(frame), cl.termina.cohorts(ROWS.clear()))
    assert_frame_equal(local(cl.spark.customer_cohorts(frame, top_n=3)), cl.termina.customer_cohorts(ROWS.clear()))
    if not is_sail(session):
        return
    assert cl.spark.cohorts(frame, joined="since").is_empty()
    assert cl.spark.cohorts(frame, joined=sparkling(session, JOINED.clear()), end="2026-01").is_empty()


def with_nulls():
    rows = np.arange(ROWS.height)
    latest = pl.DataFrame({"user_id": [None], "timestamp": [datetime(2026, 8, 1)], "amount": [1.0]})
    return pl.concat([
        ROWS.select("user_id", "timestamp", "amount").with_columns(
            user_id=pl.when(pl.Series(rows % 50 == 1)).then(None).otherwise("user_id"),
            amount=pl.when(pl.Series(rows % 70 == 2)).then(None).otherwise("amount"),
        ),
        latest,
    ], how="vertical_relaxed")  # fmt: skip


def test_nulls_are_counted_over_all_partitions(session):
    """One error, or one warning, with the words of the local run; and rows left out still set the right edge."""
    rows = with_nulls()
    with pytest.raises(DataError) as expected:
        cl.termina.cohorts(rows)
    with pytest.raises(DataError) as found:
        cl.spark.cohorts(sparkling(session, rows), partitions=4)
    assert str(found.value) == str(expected.value)
    with pytest.warns(CohortlibWarning) as said:
        table = cl.spark.cohorts(sparkling(session, rows), partitions=4, nulls="drop")
    with pytest.warns(CohortlibWarning) as should:
        assert_frame_equal(table, cl.termina.cohorts(rows, nulls="drop"), check_exact=True)
    assert told(said) == told(should)
    assert table.filter(cohort="2025-12")["period"].max() == 8


def test_partitions_that_say_the_same_are_counted_each(sail):
    rows = pl.DataFrame({"user_id": [*range(30)] * 2, "timestamp": date(2026, 1, 1), "amount": [1] * 30 + [None] * 30})
    with pytest.warns(CohortlibWarning, match="30 of 60 rows of the table dropped for nulls: 30 in column 'amount'"):
        table = cl.spark.cohorts(sparkling(sail, rows), partitions=200, nulls="drop")
    assert table["cohort_size"].to_list() == [30]


def test_nulls_beside_a_column_of_dates(sail):
    """Rows without a user say nothing of when somebody joined."""
    rows = with_nulls().with_columns(since=date(2025, 9, 1))
    rows = rows.with_columns(since=pl.when(pl.col("user_id") == 3).then(None).otherwise("since"))
    options = {"joined": "since", "nulls": "drop"}
    with pytest.warns(CohortlibWarning) as should:
        expected = cl.termina.cohorts(rows, **options)
    with pytest.warns(CohortlibWarning) as said:
        assert_frame_equal(cl.spark.cohorts(sparkling(sail, rows), **options), expected, check_exact=True)
    assert told(said) == told(should)
    with pytest.raises(DataError, match="the joined table has nulls"):
        cl.spark.cohorts(sparkling(sail, rows.drop_nulls("amount").drop_nulls("user_id")), joined="since")


def test_errors_of_a_worker_are_those_of_the_local_run(session):
    """Without a trace of Java, or of the worker."""
    rows = ROWS.select("user_id", "timestamp", "amount")
    late = JOINED.with_columns(joined=pl.when(pl.col("user_id") == 5).then(date(2026, 3, 1)).otherwise("joined"))
    twice = pl.concat([JOINED, JOINED.filter(user_id=9).with_columns(joined=date(2026, 1, 1))])
    wrong = (
        (rows, {"joined": late}),
        (rows.head(1).with_columns(amount=float("nan")), {}),
        (rows.head(1).with_columns(amount=1e15), {}),
        (rows.with_columns(timestamp=pl.col("timestamp").dt.replace(year=20_000)).head(1), {}),
        (rows, {"joined": twice}),
    )
    for frame, options in wrong if is_sail(session) else wrong[:2]:
        with pytest.raises(DataError) as expected:
            cl.termina.cohorts(frame, **options)
        mine = {name: sparkling(session, joined) for name, joined in options.items()}
        with pytest.raises(DataError) as found:
            cl.spark.cohorts(sparkling(session, frame), partitions=3, **mine)
        assert str(found.value) == str(expected.value)
        assert found.value.__cause__ is None


def test_who_does_not_fit_the_joined_table_is_told_once(session):
    """Over all partitions: who joined after the last row, who was active before, who is not in it."""
    joined = JOINED.filter(pl.col("user_id") > 10).with_columns(
        joined=pl.when(pl.col("user_id") % 3 == 0)
        .then(date(2027, 1, 1))
        .otherwise(pl.col("joined").dt.offset_by("2mo"))
    )
    options = {"before_joined": "drop"}
    with pytest.warns(CohortlibWarning) as should:
        expected = cl.termina.cohorts(ROWS, joined=joined, **options)
    with pytest.warns(CohortlibWarning) as said:
        table = cl.spark.cohorts(sparkling(session, ROWS), joined=sparkling(session, joined), partitions=4, **options)
    assert_frame_equal(table, expected, check_exact=True)
    assert told(said) == told(should)
    assert len(told(said)) == 3


def test_users_may_join_after_the_rows_of_their_partition(sail):
    """But not after the rows of all: the right edge must be known where the users are."""
    months = [date(2026, month, 1) for month in range(1, 9)]
    rows = pl.DataFrame({"user_id": range(8), "timestamp": months, "amount": 5})
    joined = rows.select("user_id", joined=pl.col("timestamp").dt.offset_by("2mo"))
    options = {"before_joined": "clip", "complete_only": False}
    with pytest.warns(CohortlibWarning, match="2 of 8 users in joined have a date after the last period"):
        expected = cl.termina.cohorts(rows, joined=joined, **options)
    with pytest.warns(CohortlibWarning, match="2 of 8 users in joined have a date after the last period"):
        table = cl.spark.cohorts(sparkling(sail, rows), joined=sparkling(sail, joined), partitions=40, **options)
    assert_frame_equal(table, expected, check_exact=True)


@each("sign", 1, -1)
def test_sums_that_another_engine_would_wrap_are_refused(session, sign):
    """Each partition fits 64 bits, all of them do not."""
    rows = pl.DataFrame({"user_id": range(40), "timestamp": date(2026, 1, 1), "amount": Decimal(sign * 4 * 10**11)})
    rows = rows.cast({"amount": pl.Decimal(20, 0)})
    with pytest.raises(
        DataError, match=r"^column 'amount': an amount, or the sum of all, is beyond 9\.22e\+12, the range"
    ):
        cl.spark.cohorts(sparkling(session, rows), partitions=8)
    table = cl.spark.cohorts(sparkling(session, rows), partitions=8, decimals=2)
    assert_frame_equal(table, cl.termina.cohorts(rows, decimals=2), check_exact=True)


def test_sums_of_negative_money(sail):
    """Halves of a sum may differ in sign, and the sum may need nearly all of 64 bits."""
    top = 2**62 // 10**6
    rows = pl.DataFrame(
        [(1, date(2026, 1, 1), 1), (1, date(2026, 2, 1), -top), (2, date(2026, 1, 1), 5), (2, date(2026, 2, 1), -3)],
        schema=["user_id", "timestamp", "amount"], orient="row",
    )  # fmt: skip
    table = cl.spark.cohorts(sparkling(sail, rows), refunds="signed", partitions=4)
    assert_frame_equal(table, cl.termina.cohorts(rows, refunds="signed"), check_exact=True)


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (SchemaError, "'buyer' is not in the table.* Hint: set the columns with user=", {"user": "buyer"}),
        (SchemaError, "'amounts' is not in the table.*Hint: amount='amount'", {"amount": "amounts"}),
        (SchemaError, "column 'exact' is Decimal.*Expected a Date, a Datetime or text", {"timestamp": "exact"}),
        (DataError, "the Spark frame: name '.*' is not a number", {"amount": "name"}),
        (SchemaError, r"column 'amount' is Float64. Expected user ids", {"user": "amount", "amount": "user_id"}),
        (SchemaError, "column 'list' is array<bigint>. Expected text, numbers", {"user": "list"}),
        (SchemaError, "joined='when' is not a column", {"joined": "when"}),
        (SchemaError, "joined: DataFrame is not a Spark frame", {"joined": JOINED}),
        (SettingError, "partitions=0 is not a number of partitions", {"partitions": 0}),
        (SettingError, "freq='Y' is unknown", {"freq": "Y"}),
        (SettingError, "start='2026-02' is after end='2026-01'", {"start": "2026-02", "end": "2026-01"}),
        (DataError, "more places than decimals=1", {"amount": "exact", "decimals": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_runs(sail, error, words, options):
    frame = sparkling(sail, ROWS).selectExpr("*", "array(1L) as list")
    with pytest.raises(error, match=words):
        cl.spark.cohorts(frame, **options)


def test_frames_in_memory_are_refused():
    with pytest.raises(SchemaError, match=r"the transactions: DataFrame is not a Spark frame\. Expected a pyspark"):
        cl.spark.cohorts(ROWS)
    with pytest.raises(SchemaError, match="the events: str is not a Spark frame"):
        cl.spark.adapty_cohort("events/*.csv", {})


def test_users_of_two_types_are_refused(sail):
    joined = sparkling(sail, JOINED.with_columns(pl.col("user_id").cast(pl.String)))
    with pytest.raises(SchemaError, match="the users are bigint in the transactions and string in joined"):
        cl.spark.cohorts(sparkling(sail, ROWS), joined=joined)
    narrow = sparkling(sail, JOINED.with_columns(pl.col("user_id").cast(pl.Int16)))
    table = cl.spark.cohorts(sparkling(sail, ROWS), joined=narrow)
    assert_frame_equal(table, cl.termina.cohorts(ROWS, joined=JOINED), check_exact=True)


def test_customers_of_one_rank_go_by_name(sail):
    rows = pl.DataFrame({"user_id": range(20), "timestamp": date(2026, 1, 1), "amount": 5})
    found = local(cl.spark.customer_cohorts(sparkling(sail, rows), top_n=4, partitions=7))
    assert sorted(found["user_id"]) == cl.termina.customer_cohorts(rows, top_n=4)["user_id"].to_list()
    assert sorted(found["user_id"]) == ["0", "1", "10", "11"]


@pytest.mark.parametrize("rank_by", ["total", "revenue", pl.col("ltv").rank()], ids=str)
def test_customers_are_ranked_by_columns_alone(sail, rank_by):
    with pytest.raises(SettingError, match=r"rank_by=.* is not supported on Spark\. Expected a column of the summary"):
        cl.spark.customer_cohorts(sparkling(sail, ROWS), top_n=3, rank_by=rank_by)


def test_names_of_columns_may_be_anything(sail):
    names = {"user": "the user.id", "timestamp": "at `once`", "amount": "sum('x')"}
    frame = ROWS.select("user_id", "timestamp", "amount")
    frame = frame.rename(dict(zip(frame.columns, names.values(), strict=True)))
    table = cl.spark.cohorts(sparkling(sail, frame), **names)
    assert_frame_equal(table, cl.termina.cohorts(frame, **names), check_exact=True)


@few
@given(case=cases())
def test_drawn_tables(sail, case):
    """Whatever the rows and the settings: the same table, or the same kind of error."""
    frame = local(sparkling(sail, case.frame))
    joined = case.joined_as
    if isinstance(joined, pl.DataFrame):
        joined = local(sparkling(sail, joined))
    options = {**case.names, **case.settings}
    mine = sparkling(sail, joined) if isinstance(joined, pl.DataFrame) else joined
    expected = outcome(cl.termina.cohorts, frame, joined=joined, **options)
    found = outcome(cl.spark.cohorts, sparkling(sail, frame), joined=mine, partitions=3, **options)
    if isinstance(expected, pl.DataFrame) and isinstance(found, pl.DataFrame):
        assert_frame_equal(found, expected, check_exact=True)
    else:
        assert type(found) is type(expected), (found, expected)


def outcome(function, *arguments, **options):
    """Give what a function returns, or the error that it raises."""
    try:
        return quietly(function, *arguments, **options)
    except cl.errors.CohortlibError as error:
        return error


def test_nothing_here_brings_pyspark():
    """A frame brings its own session; whoever has no Spark does not need it."""
    code = "import sys, cohortlib as cl; cl.spark.cohorts, cl.spark.adapty_cohort; print('pyspark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    names = ["adapty_cohort", "cohorts", "concentration", "customer_cohorts", "growth_accounting", "user_accounting"]
    assert dir(cl.spark) == names
    with pytest.raises(AttributeError, match="nothing"):
        _ = cl.spark.nothing


# ----------------------------------------------------------------------------------------------------------- Adapty

EVENTS, INSTALLS = history(1500, seed=3)
RENEWALS = {"filters": {"date": ["2023-06-01", "2025-06-30"]}, "period_unit": "quarter"}
DAYS = {"filters": {"date": ["2024-01-01", "2024-12-31"]}, "period_type": "days", "renewal_days": [0, 7, 31, 92]}


def same(found, expected):
    assert_same(found.to_dict(), expected.to_dict())
    assert found.report == expected.report


@each(
    "question",
    (RENEWALS, "table", {"partitions": 3}),
    on_both((DAYS, "table", {"timezone": "America/New_York"})),
    (DAYS | {"filters": DAYS["filters"] | {"country": ["US", "de"]}}, "from_events", {"partitions": 5}),
    (RENEWALS, "counts", {"partitions": 4, "decimals": 2}),
)
def test_answers_are_those_of_the_local_run(session, question):
    request, installs, options = question
    who = installs
    if installs == "table":
        who = INSTALLS
    elif installs == "counts":
        who = INSTALLS.group_by(pl.col("install_date").dt.date()).agg(installs=pl.len())
    theirs = who if isinstance(who, str) else sparkling(session, who)
    with pytest.warns(CohortlibWarning) as said:
        answer = cl.spark.adapty_cohort(sparkling(session, EVENTS), request, installs=theirs, **options)
    local_only = {name: value for name, value in options.items() if name != "partitions"}
    with pytest.warns(CohortlibWarning) as should:
        expected = cl.adapty.cohort(EVENTS, request, installs=who, **local_only)
    same(answer, expected)
    assert told(said) == told(should)
    assert answer.report["shared_chains"] == expected.report["shared_chains"] > 0


TEXT = pl.DataFrame(
    {
        "user_id": ["Ann", "ann ", "bob", "bob", " ", "null", "STRASSE", "straße", None],
        "timestamp": ["05.01.2026 23:30", "10.02.2026", "2026-01-20", "01.03.2026", "02.03.2026", "03.03.2026",
                      "04.03.2026", "05.04.2026", "06.04.2026"],
        "amount": ["1.029,00 €", "80", "-5,5", "70", "1", "2", "3", "4", "5"],
    }
)  # fmt: skip
READ = {"timestamp_format": "%d.%m.%Y %H:%M", "decimal": ",", "nulls": "drop"}


def spread(session, frame):
    """Give each row a partition of its own, so that partitions see other kinds of text."""
    return sparkling(session, frame).repartition(frame.height)


@pytest.mark.parametrize("more", [{}, {"assume_zone": "Europe/Berlin"}, {"normalize": "casefold"}, {"freq": "W"}])
def test_text_is_read_as_from_a_file(session, more):
    frame = TEXT.with_columns(pl.col("timestamp").str.replace(r"^(\d\d\.\d\d\.\d{4})$", "$1 09:00"))
    rules = READ | more
    with warnings.catch_warnings(record=True) as expected:
        warnings.simplefilter("always")
        table = cl.termina.cohorts(frame, **rules)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert_frame_equal(cl.spark.cohorts(spread(session, frame), partitions=3, **rules), table)
    # Partitions do not compare their ids with each other.
    assert told(warned) == [text for text in told(expected) if "differ only in case" not in text]
    assert any("text that often stands for a missing value: 'null' 1" in text for text in told(warned))
    assert any("2 of 9 rows of the table dropped" in text for text in told(warned))


def test_text_customers_and_joined(sail):
    frame = TEXT.filter(pl.col("user_id").is_in(["Ann", "ann ", "bob"])).with_columns(
        timestamp=pl.lit("2026-01-31T2") + pl.int_range(0, 4).cast(pl.String) + ":30:00Z"
    )
    rules = {"decimal": ",", "normalize": "casefold", "timezone": "Europe/Berlin"}
    table = cl.termina.customer_cohorts(frame, **rules)
    assert_frame_equal(local(cl.spark.customer_cohorts(spread(sail, frame), **rules)).sort(KEYS), table.sort(KEYS))
    joined = pl.DataFrame({"user_id": ["ANN", "bob"], "joined": [date(2025, 12, 1), date(2026, 1, 1)]})
    table = cl.termina.cohorts(frame, joined=joined, **rules)
    assert_frame_equal(cl.spark.cohorts(spread(sail, frame), joined=sparkling(sail, joined), **rules), table)
    texts = joined.with_columns(pl.col("joined").cast(pl.String))
    with pytest.raises(SchemaError, match="the join dates, column 'joined', are text"):
        cl.spark.cohorts(spread(sail, frame), joined=sparkling(sail, texts), **rules)


def test_numbers_since_an_epoch(sail):
    frame = pl.DataFrame({"user_id": [1, 2], "timestamp": [1767225600, 1769904000], "amount": [1.5, 2.5]})
    rules = {"timestamp_format": "epoch_s", "timezone": "America/New_York"}
    assert_frame_equal(cl.spark.cohorts(spread(sail, frame), **rules), cl.termina.cohorts(frame, **rules))


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("timestamp", ["2026-01-01", "2026-01-02 10:00", "2026-01-03T00:00Z"],
         "1 date, 1 instant without an offset and 1 instant with an offset. Expected all with an offset.*assume_zone="),
        ("timestamp", ["2026-01-01", "02/13/2026", "03/13/2026"], "'02/13/2026' is not a date \\(2 of 3 values\\).* "
         "timestamp_format='%m/%d/%Y' \\(month first\\) reads 2 of these 2"),
        ("timestamp", ["2026-01-01", "1066-01-01", "1067-01-01"], "'1066-01-01' is before 1900 .*\\(2 instants\\)"),
        ("amount", ["1", "1,5", "x"], "'1,5' is not a number \\(2 of 3 values\\).*decimal=',' reads 1 of these 2"),
        ("amount", ["$1", "2 €", "3"], "2 currencies: 1 in "),
        ("amount", ["1", None, "3"], "the table has nulls: 1 in column 'amount', of 3 rows"),
    ],
)  # fmt: skip
def test_text_is_refused_with_counts_over_all_partitions(sail, column, values, expected):
    frame = pl.DataFrame({"user_id": ["a"] * 3, "timestamp": ["2026-01-01"] * 3, "amount": ["1"] * 3})
    frame = frame.with_columns(pl.Series(column, values))
    with pytest.raises(DataError, match=expected):
        cl.spark.cohorts(spread(sail, frame), partitions=3)
    if "date, 1 instant" in expected:
        rules = {"assume_zone": "America/New_York", "timezone": "America/New_York"}
        assert_frame_equal(cl.spark.cohorts(spread(sail, frame), **rules), cl.termina.cohorts(frame, **rules))


def test_conventions_and_text_that_is_dates(sail):
    """Whether text is dates is told by all of it, also where a partition has only what is none."""
    plan = cl.adapty.Conventions(averages="per_period", after_to="payments", refund_upgraded="negative")
    days = EVENTS.with_columns(pl.col("event_datetime").dt.date().cast(pl.String))
    odd = pl.Series(np.arange(EVENTS.height) % 40 == 0) & ~EVENTS["environment"].eq("Production")
    days = days.with_columns(event_datetime=pl.when(odd).then(pl.lit("soon")).otherwise("event_datetime"))
    installs = INSTALLS.with_columns(pl.col("install_date").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
    answer = quietly(
        cl.spark.adapty_cohort, sparkling(sail, days), DAYS, installs=sparkling(sail, installs), conventions=plan,
        partitions=7,
    )  # fmt: skip
    same(answer, quietly(cl.adapty.cohort, days, DAYS, installs=installs, conventions=plan))


def test_states_of_transactions_that_move_to_another_user(sail):
    """The latest state counts over all partitions; what normalize makes one user is in one partition."""
    rows = [
        row_of(
            rc_original_app_user_id=user, store_transaction_id=f"t{at}", updated_at=f"2026-02-{day} 09:00:00", **more
        )
        for at in range(20)
        for day, user, more in (
            (10, f"u{at}", {}), (12, f"V{at}", {"price_in_usd": "9"}), (11, f"w{at}", {}),
            (10, f"v{at} ", {"renewal_number": "2"}),
        )
    ]  # fmt: skip
    frame, request = pl.DataFrame(rows), {"filters": {"date": ["2026-01-01", "2026-06-30"]}}
    for more in ({}, {"normalize": "casefold"}):
        expected = quietly(cl.adapty.cohort, frame, request, installs="from_events", **more)
        assert expected.report["superseded"] == 40
        answer = quietly(
            cl.spark.adapty_cohort, sparkling(sail, frame), request, installs="from_events", partitions=3, **more
        )
        same(answer, expected)


def test_nulls_of_events_are_counted_over_all_partitions(sail):
    bare = EVENTS.with_columns(
        revenue_usd=pl.when(pl.Series(np.arange(EVENTS.height) % 30 == 1)).then(None).otherwise("revenue_usd")
    )
    frame, installs = sparkling(sail, bare), sparkling(sail, INSTALLS)
    with pytest.raises(DataError) as expected:
        cl.adapty.cohort(bare, RENEWALS, installs=INSTALLS)
    with pytest.raises(DataError) as found:
        cl.spark.adapty_cohort(frame, RENEWALS, installs=installs, partitions=4)
    assert str(found.value) == str(expected.value)
    answer = quietly(cl.spark.adapty_cohort, frame, RENEWALS, installs=installs, partitions=4, nulls="drop")
    same(answer, quietly(cl.adapty.cohort, bare, RENEWALS, installs=INSTALLS, nulls="drop"))


def test_what_is_wrong_with_events_is_told(sail):
    frame = sparkling(sail, EVENTS)
    with pytest.raises(SettingError, match="installs=None: the event export has no rows of installs"):
        cl.spark.adapty_cohort(frame, RENEWALS)
    with pytest.raises(
        SchemaError, match=r"installs='installs\.csv' is not a Spark frame. Expected a Spark frame, or 'from_events'"
    ):
        cl.spark.adapty_cohort(frame, RENEWALS, installs="installs.csv")
    with pytest.raises(cl.adapty.RequestError, match=r"filters\.date: missing"):
        cl.spark.adapty_cohort(frame, {}, installs="from_events")
    with pytest.raises(SchemaError, match="column 'product_id' missing from the table; columns are 'profile_id'"):
        cl.spark.adapty_cohort(frame.drop("product_id"), RENEWALS, installs="from_events")
    with pytest.raises(SchemaError, match=r"filters\.offer_id needs the column 'offer_id'"):
        cl.spark.adapty_cohort(
            frame, RENEWALS | {"filters": RENEWALS["filters"] | {"offer_id": ["x"]}}, installs="from_events"
        )
    huge = sparkling(sail, EVENTS.with_columns(pl.col("revenue_usd") * 3e9))
    with pytest.raises(DataError, match=r"column 'revenue_usd'.* beyond 9\.22e\+12, the range of 64-bit integers"):
        cl.spark.adapty_cohort(huge, RENEWALS, installs="from_events", partitions=20)
    wild = EVENTS.with_columns(pl.col("revenue_usd") / 0)
    with pytest.raises(DataError, match="column 'revenue_usd' is NaN or infinite"):
        cl.spark.adapty_cohort(sparkling(sail, wild), RENEWALS, installs="from_events", partitions=1)


@few
@given(case=adapty_cases())
def test_drawn_events(sail, case):
    events = local(sparkling(sail, case.frame))
    installs = case.installs_as
    if isinstance(installs, pl.DataFrame):
        installs = local(sparkling(sail, installs))
    options = {"conventions": cl.adapty.Conventions(**case.conventions), **case.settings}
    who = sparkling(sail, installs) if isinstance(installs, pl.DataFrame) else installs
    expected = outcome(cl.adapty.cohort, events, case.request, installs=installs, **options)
    frame = sparkling(sail, events)
    found = outcome(cl.spark.adapty_cohort, frame, case.request, installs=who, partitions=3, **options)
    if isinstance(expected, cl.adapty.Answer) and isinstance(found, cl.adapty.Answer):
        same(found, expected)
    else:
        assert type(found) is type(expected), (found, expected)


# --------------------------------------------------------------------------------------------------- The general table


SEGMENTED = ROWS.with_columns(
    plan=pl.col("user_id") % 3 / 4, kind=pl.when(pl.col("user_id") % 5 > 0).then(pl.col("name").str.head(10)),
)  # fmt: skip


@each(
    "options",
    on_both({"by": ["plan", "kind", "day"], "age": "30d", "amounts": "exact", "confidence": 0.95}),
    {"split": "plan", "amount": None, "retention": "unbounded"},
    {"by": "kind", "joined": "table", "before_joined": "clip", "brackets": [0, 2], "freq": "W", "age": "M"},
    {"by": "tier", "users": pl.DataFrame({"user_id": [1, 2, 3], "tier": ["a", "b", None]}), "retention": "consecutive"},
)
def test_general_tables_are_those_of_the_local_run(session, options):
    mine, theirs = asked(session, SEGMENTED, options)
    table = quietly(cl.spark.cohorts, sparkling(session, SEGMENTED), partitions=3, **mine)
    assert_frame_equal(table, quietly(cl.cohorts, SEGMENTED, **theirs), check_exact=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"by": "nix"}, "by='nix' is not a column"), ({"by": "plan", "users": "frame"}, "join its columns"),
     ({"split": "plan", "joined": "since"}, "exclude each other in sums"), ({"age": "0d"}, "clock of 0 days")],
)  # fmt: skip
def test_general_tables_that_cannot_be(sail, options, words):
    frame = sparkling(sail, SEGMENTED)
    options = {name: frame if value == "frame" else value for name, value in options.items()}
    with pytest.raises(cl.errors.CohortlibError, match=words):
        cl.spark.cohorts(frame, **options)


@few
@given(case=general_cases())
def test_drawn_general_tables(sail, case):
    """The table of all settings, from any rows: the same, or the same kind of error."""
    frame = local(sparkling(sail, case.frame))
    options = case.options()
    joined = None if case.joined is None else local(sparkling(sail, case.joined_frame))
    assume(not (case.joined is not None and ("split" in options or {"end", "complete_only"} & set(options))))
    expected = outcome(cl.cohorts, frame, **options | {"joined": joined})
    mine = None if joined is None else sparkling(sail, joined)
    found = outcome(cl.spark.cohorts, sparkling(sail, frame), partitions=3, **options | {"joined": mine})
    if isinstance(found, SettingError) and "end" in options:
        return  # within a period of ages
    if isinstance(expected, pl.DataFrame) and isinstance(found, pl.DataFrame):
        assert_frame_equal(found, expected, check_exact=True, check_dtypes=bool(frame.height))
    else:
        assert type(found) is type(expected), (found, expected)
