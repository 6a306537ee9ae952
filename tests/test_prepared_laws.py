"""Compare tables from the prepared form with the reference implementation and with tables from raw rows."""

import re
from datetime import date, timedelta
from pathlib import Path

import naive
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import FREQS, cases, customer_settings, exactly, quietly

import cohortlib as cl
from cohortlib.engine import memory
from cohortlib.errors import CohortlibError
from cohortlib.read import tables
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

READING = ("timezone", "decimals", "nulls")  # settings that prepare takes too
TABLES = ("cohorts", "customer_cohorts")
FROM_FINE_TO_COARSE = ("D", "W", "M", "Q", "A")
plain = cases(joined=("none", "table"), poison=False)


def prepared(case, folder, *, frame=None, keep=()):
    """Prepare the rows of a case, or other rows with its settings."""
    reading = {name: value for name, value in case.settings.items() if name in READING}
    source = case.frame if frame is None else frame
    return quietly(cl.prepare, source, folder / "prepared", keep=keep, threads=case.threads, **case.names, **reading)


def computed(case, source, table="cohorts", **more):
    """Compute a table from a prepared form with the settings of the case."""
    options = {**case.names, **case.settings, "joined": case.joined_as, "threads": case.threads, **more}
    return quietly(getattr(cl.termina, table), source, **options)


def same(left, right):
    """Compare two tables to the last bit."""
    assert_frame_equal(left, right, check_exact=True)


# --- the reference --------------------------------------------------------------------------------------------


@given(case=cases(joined=("none", "none", "table")), more=customer_settings())
def test_tables_match_the_reference(case, more, tmp_path_factory):
    folder = tmp_path_factory.mktemp("form")
    try:
        expected = [case.judge("cohorts"), case.judge("customer_cohorts", **more)]
    except naive.Refused:
        with pytest.raises(CohortlibError):
            computed(case, prepared(case, folder))
        return
    form = prepared(case, folder)
    for table, options, rows in zip(TABLES, ({}, more), expected, strict=True):
        found = computed(case, form, table, **options)
        assert [[exactly(cell) for cell in row] for row in found.rows()] == [
            [exactly(row[name]) for name in found.columns] for row in rows
        ]
        same(found.clear(), case.ask(table, **options).clear())


# --- other settings -------------------------------------------------------------------------------------------


@st.composite
def other_settings(draw, case):
    """Draw settings that the same prepared rows can be used with; periods are no finer than those of the case."""
    freq = case.settings.get("freq", "M")
    some = FROM_FINE_TO_COARSE[FROM_FINE_TO_COARSE.index(freq) :]
    days = [naive.local_day(instant, "UTC") for _, instant, _ in case.rows if instant is not None]
    near = st.sampled_from(days or [naive.date(2026, 1, 1)])
    more = st.builds(lambda day, by: day + timedelta(days=by), near, st.sampled_from((0, 1, -1, 31, -31)))
    drawn = draw(
        st.fixed_dictionaries(
            {"freq": st.sampled_from(some)},
            optional={
                "week_start": st.sampled_from(naive.WEEKDAYS),
                "refunds": st.sampled_from(("net", "signed", "drop")),
                "before_joined": st.sampled_from(("clip", "drop")),
                "start": more,
                "end": more,
                "complete_only": st.booleans(),
            },
        )
    )
    assume("start" not in drawn or "end" not in drawn or drawn["start"] <= drawn["end"])
    return drawn


@given(data=st.data(), case=cases(joined=("none", "table"), poison=False))
def test_other_settings(data, case, tmp_path_factory):
    """Prepare once, compute many tables."""
    for name in ("start", "end"):
        case.settings.pop(name, None)
    case.settings["before_joined"] = "clip"
    try:
        form = prepared(case, tmp_path_factory.mktemp("form"))
    except cl.errors.DataError:
        assume(False)
    for _ in range(3):
        settings = data.draw(other_settings(case))
        for table in TABLES:
            try:
                expected = case.ask(table, **settings)
            except cl.errors.DataError:
                with pytest.raises(cl.errors.DataError):
                    computed(case, form, table, **settings)
            else:
                same(computed(case, form, table, **settings), expected)


# --- kept columns ---------------------------------------------------------------------------------------------

CONDITIONS = (
    pl.col("country") == "DE",
    pl.col("country").is_in(["DE", "US"]),
    pl.col("country").is_null(),
    pl.col("country") != "DE",
    pl.col("price") > 1.5,
    pl.col("price").is_nan(),
    (pl.col("country") == "US") | (pl.col("price") <= 1),
    pl.col("store") == "web",
    pl.col("country").fill_null("?").str.len_chars() * 2 < pl.col("price").fill_null(3) + 4,
    pl.lit(value=True),
    pl.lit(value=False),
)


@st.composite
def kept_columns(draw, rows):
    """Draw columns to keep, of several types and with nulls."""
    countries = st.sampled_from(("DE", "US", "a country with a long name", "", None))
    prices = st.sampled_from((0.5, 1.0, 2.5, float("nan"), None))
    return pl.DataFrame(
        {
            "country": pl.Series([draw(countries) for _ in range(rows)], dtype=pl.String),
            "price": pl.Series([draw(prices) for _ in range(rows)], dtype=pl.Float64),
            "store": pl.Series([draw(st.sampled_from(("web", "app"))) for _ in range(rows)], dtype=pl.Categorical),
        }
    )


@given(data=st.data(), case=cases(joined=("none", "table")), condition=st.sampled_from(CONDITIONS))
def test_a_filter_on_a_kept_column(data, case, condition, tmp_path_factory):
    case.settings["nulls"] = "drop"
    frame = case.frame.hstack(data.draw(kept_columns(case.frame.height)))
    some = {**case.names, **case.settings, "joined": case.joined_as, "threads": case.threads}
    try:
        form = prepared(case, tmp_path_factory.mktemp("form"), frame=frame, keep=("country", "price", "store"))
        expected = [quietly(getattr(cl.termina, table), frame.filter(condition), **some) for table in TABLES]
        everything = quietly(cl.termina.cohorts, frame, **some)
    except cl.errors.DataError:
        assume(False)
    chosen = form.filter(condition)
    for table, want in zip(TABLES, expected, strict=True):
        same(computed(case, chosen, table), want)
    same(computed(case, form), everything)  # the form itself is unchanged


def with_nulls(data, frame, columns):
    """Set some cells of these columns to null."""
    masks = st.lists(st.sampled_from((False, False, False, True)), min_size=frame.height, max_size=frame.height)
    return frame.with_columns(
        pl.when(~pl.Series(data.draw(masks), dtype=pl.Boolean)).then(pl.col(name)).alias(name) for name in columns
    )


def outcome(table, source, **settings):
    """Return a table, for sums with their last day, or the type of the error."""
    try:
        result = quietly(getattr(cl.termina, table), source, **settings)
        return (quietly(result.cohorts), result.last_day) if table == "sums" else (result, None)
    except CohortlibError as error:
        return type(error), None


@given(
    data=st.data(),
    case=cases(joined=("column",)),
    condition=st.one_of(st.none(), st.sampled_from(CONDITIONS)),
    more=customer_settings(),
    again=st.booleans(),
)
def test_joined_by_a_kept_column(data, case, condition, more, again, tmp_path_factory):
    """The dates of dropped rows count, too."""
    folder = tmp_path_factory.mktemp("form")
    early = data.draw(st.sampled_from(("clip", "drop", "clip", "error")))
    case.settings.update(nulls="drop", before_joined=early)
    keep = ("country", "price", "store", "since")
    frame = case.frame.hstack(data.draw(kept_columns(case.frame.height)))
    frame = with_nulls(data, frame, frame.columns[:3])
    try:
        form = prepared(case, folder, frame=frame, keep=keep)
    except cl.errors.DataError:
        assume(False)
    if again:
        (folder / "again").mkdir()
        form = prepared(case, folder / "again", frame=form, keep=keep)
    if condition is not None:
        frame, form = frame.filter(condition), form.filter(condition)
    settings = {**case.names, **case.settings, "joined": "since", "threads": case.threads}
    whole = {name: value for name, value in settings.items() if name not in ("start", "end", "complete_only")}
    for table, options in (("cohorts", settings), ("customer_cohorts", settings | more), ("sums", whole)):
        expected, last_day = outcome(table, frame, **options)
        result, its_last_day = outcome(table, form, **options)
        assert its_last_day == last_day
        if isinstance(expected, type):
            assert result is expected
        else:
            same(result, expected)


@pytest.mark.parametrize("dtype", [pl.Int128, pl.Decimal(20, 0)], ids=str)
def test_wide_integers_joined_by_a_kept_column(dtype, tmp_path):
    days = [date(2026, 1, 5), date(2026, 2, 5)]
    rows = pl.DataFrame({"user_id": [1, 2], "timestamp": days, "amount": [1.0, 2.0], "since": date(2026, 1, 1)})
    rows = rows.cast({"user_id": dtype})
    form = cl.prepare(rows, tmp_path / "form", keep=["since"])
    same(cl.termina.cohorts(form, joined="since"), cl.termina.cohorts(rows, joined="since"))
    table = rows.select("user_id", "since")
    same(cl.termina.cohorts(form, joined=table), cl.termina.cohorts(rows, joined=table))


@pytest.mark.parametrize("name", ["key", "key2", "rows", "user"])
def test_kept_columns_may_be_called_as_those_of_the_format(name, tmp_path):
    frame = ROWS.with_columns(pl.Series(name, ["a", None, "b", "b"]))
    form = cl.prepare(frame, tmp_path / "form", keep=[name])
    only = pl.col(name) == "b"
    same(cl.termina.cohorts(form.filter(only)), cl.termina.cohorts(frame.filter(only)))


ROWS = pl.DataFrame(
    {
        "user_id": [1, 1, 2, 3],
        "timestamp": [date(2026, month, 5) for month in (1, 2, 1, 3)],
        "amount": [1.0, 2.0, 3.0, 4.0],
        "price": [1.0, 2.0, None, 4.0],
    }
)


@pytest.mark.parametrize("same", [True, False, None])
def test_a_constant_filter(same, tmp_path):
    form = cl.prepare(ROWS, tmp_path / "form", keep=["price"]).filter(pl.lit(same))
    expected = ROWS if same else ROWS.clear()
    same_rows = cl.termina.cohorts(expected)
    same_customers = cl.termina.customer_cohorts(expected)
    assert_frame_equal(cl.termina.cohorts(form), same_rows)
    assert_frame_equal(cl.termina.customer_cohorts(form), same_customers)
    assert form.frame().height == expected.height


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (pl.col("price").max() > 2, "returned 1 values for 4 rows. Expected one boolean per row"),
        (pl.col("price").head(2) > 1, "returned 2 values for 4 rows. Expected one boolean per row"),
        (pl.col("price").cast(pl.String) + "x", "Expected one boolean per row"),
    ],
)
def test_a_filter_without_one_boolean_per_row(only, message, tmp_path):
    form = cl.prepare(ROWS, tmp_path / "form", keep=["price"]).filter(only)
    for table in TABLES:
        with pytest.raises(cl.errors.SettingError, match=message):
            getattr(cl.termina, table)(form)


@given(data=st.data(), case=plain, conditions=st.lists(st.sampled_from(CONDITIONS), min_size=2, max_size=3))
def test_filters_one_by_one_and_at_once(data, case, conditions, tmp_path_factory):
    frame = case.frame.hstack(data.draw(kept_columns(case.frame.height)))
    try:
        form = prepared(case, tmp_path_factory.mktemp("form"), frame=frame, keep=("country", "price", "store"))
        case.ask("cohorts")
    except cl.errors.DataError:
        assume(False)
    one_by_one = form
    for condition in conditions:
        one_by_one = one_by_one.filter(condition)
    at_once = form.filter(pl.all_horizontal(conditions))
    try:
        expected = computed(case, at_once)
    except cl.errors.DataError as error:  # a refund is filtered out, so a user is active before the joined date
        with pytest.raises(cl.errors.DataError, match=f"^{re.escape(str(error))}$"):
            computed(case, one_by_one)
    else:
        same(computed(case, one_by_one), expected)


def test_a_filter_may_leave_a_user_active_before_the_joined_date(tmp_path):
    days = [date(2026, 1, 5), date(2026, 1, 5), date(2026, 2, 5)]
    rows = pl.DataFrame({"user_id": 1, "timestamp": days, "amount": [1.0, -1.0, 3.0], "price": [2.0, 0.5, 2.0]})
    joined = pl.DataFrame({"user_id": [1], "joined": [date(2026, 2, 1)]})
    only = pl.col("price") > 1
    form = cl.prepare(rows, tmp_path / "form", keep=["price"])
    assert_frame_equal(cl.termina.cohorts(form, joined=joined), cl.termina.cohorts(rows, joined=joined))
    for source in (rows, form):
        with pytest.raises(cl.errors.DataError, match="were active before their date"):
            cl.termina.cohorts(source.filter(only), joined=joined)


# --- only the rows matter -------------------------------------------------------------------------------------


@given(case=plain, random=st.randoms(use_true_random=False), cut=st.integers(0, 40))
def test_order_and_files_of_the_raw_rows(case, random, cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("form")
    order = list(range(case.frame.height))
    random.shuffle(order)
    case.frame[order][:cut].write_parquet(folder / "part-0.parquet")
    case.frame[order][cut:].write_parquet(folder / "part-1.parquet", row_group_size=7)
    try:
        expected = [case.ask(table) for table in TABLES]
    except cl.errors.DataError:
        assume(False)
    form = prepared(case, folder, frame=str(folder / "part-*.parquet"))
    for file in folder.glob("part-*.parquet"):
        file.unlink()  # the form does not need them
    for table, want in zip(TABLES, expected, strict=True):
        same(computed(case, form, table), want)


@given(case=plain)
def test_opened_by_path_and_moved(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("form")
    try:
        form = prepared(case, folder)
        expected = computed(case, form)
    except cl.errors.DataError:
        assume(False)
    moved = folder / "elsewhere"
    for place in (form, folder / "prepared", str(folder / "prepared"), cl.Prepared.open(folder / "prepared")):
        same(computed(case, place), expected)
    (folder / "prepared").rename(moved)
    same(computed(case, moved), expected)


# --- sums -----------------------------------------------------------------------------------------------------


@given(case=cases(joined=("none", "table"), poison=False), some=st.sets(st.integers(0, 5)))
def test_sums_of_prepared_parts_add(case, some, tmp_path_factory):
    """Disjoint users may be prepared separately; their sums add."""
    told = {name: value for name, value in case.settings.items() if name not in ("start", "end", "complete_only")}
    case.settings.clear()
    case.settings.update(told)
    settings = {**told, "joined": case.joined_as, **case.names}
    try:
        whole = quietly(cl.termina.sums, case.frame, **settings)
    except cl.errors.DataError:
        assume(False)
    folder = tmp_path_factory.mktemp("form")
    form = prepared(case, folder)
    assert computed(case, form, "sums") == whole

    user = case.names.get("user", "user_id")
    people = sorted({str(row[0]) for row in case.rows})
    chosen = pl.col(user).cast(pl.String).is_in([people[at] for at in some if at < len(people)])
    parts = []
    for name, mask in (("one", chosen), ("other", ~chosen)):
        joined = case.joined_as
        if joined is not None:
            joined = joined.filter(mask)
        (folder / name).mkdir()
        part = prepared(case, folder / name, frame=case.frame.filter(mask))
        parts.append(computed(case, part, "sums", joined=joined))
    assert sum(parts) == whole


@given(case=plain, freq=st.sampled_from(FREQS), refunds=st.sampled_from(("net", "signed", "drop")))
def test_sums_match_the_reference(case, freq, refunds):
    """Check each integer of the sums; the table only shows quotients."""
    freq = max(freq, case.settings.get("freq", "M"), key=FROM_FINE_TO_COARSE.index)
    told = {name: case.settings[name] for name in ("timezone", "week_start", "decimals") if name in case.settings}
    told |= {"freq": freq, "refunds": refunds}
    try:
        customers, _ = naive.settle(case.rows, **told)
    except naive.Refused:
        assume(False)
    expected = {}
    for customer in customers:
        at_first = expected.setdefault((customer.cohort, 0), [0, 0, 0, 0])
        at_first[0] += 1
        at_first[1] += customer.active[0]
        for age, units in customer.amount.items():
            cell = expected.setdefault((customer.cohort, age), [0, 0, 0, 0])
            cell[2] += age in customer.active
            cell[3] += units
    sums = cl.termina.sums(case.frame, **case.names, **told)
    labels = dict(zip(sums.table["cohort"].unique().sort(), sorted({cohort for cohort, _ in expected}), strict=True))
    found = {(labels[cohort], age): cells for cohort, age, *cells in sums.table.rows()}
    assert found == {key: cells for key, cells in expected.items() if key[1] == 0 or any(cells)}
    decimals = told.get("decimals", 6)
    assert sums.magnitude == sum(abs(naive.to_units(amount, decimals)) for _, _, amount in case.rows)


# --- dropped rows ---------------------------------------------------------------------------------------------


def dropping(source, table, **settings):
    """Compute with ``nulls="drop"``, without warnings; sums as their cohort table."""
    found = quietly(getattr(cl.termina, table), source, nulls="drop", **settings)
    return found.cohorts() if table == "sums" else found


def dropped_like(frame, keep, folder, **settings):
    """Prepare with ``nulls="drop"``, without warnings."""
    return quietly(cl.prepare, frame, Path(folder) / "form", keep=keep, nulls="drop", **settings)


ALL_TABLES = (*TABLES, "sums")
FAR = [naive.date(2026, 1, 1), naive.date(2026, 2, 1)]
DE = pl.col("country") == "DE"


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_dropped_row_counts_for_the_right_edge_under_a_filter(table, tmp_path):
    rows = pl.DataFrame({"user_id": [0, None], "timestamp": FAR, "amount": [1.0, 1.0], "country": ["DE", "DE"]})
    form = dropped_like(rows, ["country"], tmp_path)
    found = dropping(form.filter(DE), table)
    same(found, dropping(rows.filter(DE), table))
    if table != "customer_cohorts":
        assert found["period"].to_list() == [0, 1]
    same(found, dropping(form, table))


@pytest.mark.parametrize("table", ALL_TABLES)
@pytest.mark.parametrize(
    "only",
    [
        DE,
        pl.col("country") == "FR",
        pl.col("country") == "IT",
        pl.col("country").is_null(),
        pl.col("country").is_in(["FR", "IT"]),
        (pl.col("country") == "DE") & (pl.col("price") > 1),
        pl.col("price").is_nan(),
        pl.lit(value=True),
        pl.lit(value=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("settings", [{}, {"end": "2026-03-10"}, {"complete_only": True}, {"freq": "D"}], ids=str)
def test_dropped_rows_move_the_right_edge_under_a_filter(table, only, settings, tmp_path):
    """Null users, amounts and instants: only rows that pass the filter count for its right edge."""
    if table == "sums":
        settings = {"freq": settings.get("freq", "M")}
    day = naive.date
    rows = pl.DataFrame(
        [
            ("a", day(2026, 1, 5), 100, "DE", 2.0),
            (None, day(2026, 3, 3), 5, "DE", 1.0),
            (None, day(2026, 5, 31), 5, "DE", 2.0),
            ("b", day(2026, 2, 1), 50, "FR", float("nan")),
            ("b", day(2026, 4, 30), None, "FR", float("nan")),
            ("b", None, 7, "FR", 9.0),
            (None, day(2026, 6, 1), None, "IT", None),
            (None, day(2026, 7, 1), 1, None, None),
        ],
        schema={"user_id": str, "timestamp": pl.Date, "amount": int, "country": str, "price": float},
        orient="row",
    )
    form = dropped_like(rows, ["country", "price"], tmp_path)
    expected = dropping(rows.filter(only), table, **settings)
    for source in (form, cl.Prepared.open(form.folder)):
        same(dropping(source.filter(only), table, **settings), expected)
    joined = pl.DataFrame({"user_id": ["a", "b", "c"], "joined": [day(2026, 1, 1)] * 3})
    same(
        dropping(form.filter(only), table, joined=joined, **settings),
        dropping(rows.filter(only), table, joined=joined, **settings),
    )


@pytest.mark.parametrize("table", ALL_TABLES)
@pytest.mark.parametrize("only", [DE, ~DE, pl.lit(value=True), pl.lit(value=False)], ids=str)
def test_all_rows_are_dropped(table, only, tmp_path):
    rows = pl.DataFrame(
        {"user_id": pl.Series([None, None], dtype=pl.String), "timestamp": FAR, "amount": [1.0, 1.0], "country": "DE"}
    )
    form = dropped_like(rows, ["country"], tmp_path)
    same(dropping(form.filter(only), table), dropping(rows.filter(only), table))
    expected = quietly(cl.termina.sums, rows.filter(only), nulls="drop").last_day
    assert cl.termina.sums(form.filter(only), nulls="drop").last_day == expected


def test_each_combination_is_kept_once_with_its_latest_day(tmp_path, monkeypatch):
    """Memory is bounded by the combinations of kept values; more go to several files."""
    days = [naive.date(2026, 1, 1) + timedelta(days=by) for by in range(300)]
    rows = pl.DataFrame({"timestamp": days, "amount": 1.0, "country": ["DE", "FR", "IT"] * 100}).with_columns(
        user_id=pl.when(pl.col("timestamp") < naive.date(2026, 2, 1)).then(1)
    )
    form = dropped_like(rows, ["country"], tmp_path)
    (filed,) = form.manifest.dropped_files
    assert filed.rows == 3
    for module, name, small in ((memory, "MINIMUM", 1), (spill, "_MIN_ROWS", 3), (tables, "_BATCH", 3)):
        monkeypatch.setattr(module, name, small)
    rows.write_parquet(tmp_path / "rows.parquet", row_group_size=7)
    (tmp_path / "elsewhere").mkdir()
    several = dropped_like(str(tmp_path / "rows.parquet"), ["country"], tmp_path / "elsewhere", max_memory=500)
    assert len(several.manifest.dropped_files) > 1
    assert {f"{file.name}.dropped.parquet" for file in several.manifest.dropped_files} == {
        file.name for file in several.folder.glob("*.dropped.parquet")
    }
    for country in ("DE", "FR", "IT", "US"):
        only = pl.col("country") == country
        for each in (form, several):
            same(dropping(each.filter(only), "cohorts"), dropping(rows.filter(only), "cohorts"))


def test_without_kept_columns_no_dropped_row_is_kept(tmp_path):
    rows = pl.DataFrame({"user_id": [0, None], "timestamp": FAR, "amount": [1.0, 1.0]})
    form = dropped_like(rows, [], tmp_path)
    assert not form.manifest.dropped_files
    for only in (pl.lit(value=True), pl.lit(value=False)):
        for table in ALL_TABLES:
            same(dropping(form.filter(only), table), dropping(rows.filter(only), table))


@pytest.mark.parametrize("only", [None, DE, pl.lit(value=True)], ids=str)
@pytest.mark.parametrize("keep", [(), ("price",), ("country", "price")], ids=str)
def test_dropped_rows_of_a_form_that_is_prepared_again(only, keep, tmp_path):
    rows = pl.DataFrame(
        {
            "user_id": [0, None, None],
            "timestamp": [*FAR, naive.date(2026, 3, 1)],
            "amount": [1.0, 1.0, 1.0],
            "country": ["DE", "DE", "FR"],
            "price": [1, 2, 3],
        }
    )
    form = dropped_like(rows, ["country", "price"], tmp_path)
    passing = rows if only is None else rows.filter(only)
    form = form if only is None else form.filter(only)
    again = quietly(cl.prepare, form, tmp_path / "again", keep=keep)
    same(cl.termina.cohorts(again), dropping(passing, "cohorts"))
    for name in keep:
        value = rows[name][1]
        same(
            cl.termina.cohorts(again.filter(pl.col(name) == value)),
            dropping(passing.filter(pl.col(name) == value), "cohorts"),
        )
    state = quietly(cl.termina.State.build, form, tmp_path / "state")
    same(state.cohorts(), dropping(passing, "cohorts"))
    state = cl.termina.State.build(rows.head(1), tmp_path / "grown")
    state.update(quietly(cl.prepare, form, tmp_path / "later", keep=()))
    assert state.cohorts()["period"].to_list() == dropping(passing, "cohorts")["period"].to_list()


def test_a_damaged_file_of_dropped_rows_is_refused(tmp_path):
    rows = pl.DataFrame({"user_id": [0, None], "timestamp": FAR, "amount": [1.0, 1.0], "country": ["DE", "DE"]})
    form = dropped_like(rows, ["country"], tmp_path)
    (file,) = form.folder.glob("*.dropped.parquet")
    whole = pl.read_parquet(file)
    for damaged in (whole.clear(), whole.with_columns(pl.col("local_day") + 1), whole.cast({"local_day": pl.Int64})):
        damaged.write_parquet(file)
        with pytest.raises(cl.errors.SourceError, match="does not have the digest in cohortlib"):
            cl.termina.cohorts(form.filter(DE))
    file.unlink()
    with pytest.raises(cl.errors.SourceError, match="cannot be read"):
        cl.termina.cohorts(form.filter(DE))
    assert cl.termina.cohorts(form).height == 2  # without a filter it is not read


@pytest.mark.parametrize("column", ["dropped_user", "local_day"])
def test_a_damaged_user_or_day_of_a_dropped_row_is_refused(column, tmp_path):
    """A null day is valid: the row has a user and a joined date, but no instant."""
    rows = pl.DataFrame({"user_id": [0, 1], "timestamp": [FAR[0], None], "amount": 1.0, "since": [FAR[0]] * 2})
    form = dropped_like(rows, ["since"], tmp_path)
    assert dropping(form, "cohorts", joined="since")["cohort_size"].to_list() == [2]
    (file,) = form.folder.glob("*.dropped.parquet")
    pl.read_parquet(file).cast({column: pl.UInt16}).write_parquet(file)
    with pytest.raises(cl.errors.SourceError, match="does not have the digest in cohortlib"):
        dropping(form, "cohorts", joined="since")


@pytest.mark.parametrize("table", ALL_TABLES)
@pytest.mark.parametrize("hole", ["amount", "timestamp"])
def test_users_of_dropped_rows_have_joined(table, hole, tmp_path):
    rows = pl.DataFrame(
        {
            "user_id": ["a", "b", "c"],
            "timestamp": [FAR[0], FAR[1], FAR[1]],
            "amount": 1.0,
            "country": ["DE", "DE", "FR"],
            "since": FAR[0],
        }
    ).with_columns(pl.when(pl.col("user_id") == "a").then(pl.col(hole)))
    form = dropped_like(rows, ["country", "since"], tmp_path)
    for only, users in ((pl.lit(value=True), 3), (DE, 2), (~DE, 1)):
        expected = dropping(rows.filter(only), table, joined="since")
        same(dropping(form.filter(only), table, joined="since"), expected)
        if table != "customer_cohorts":
            assert expected["cohort_size"].unique().to_list() == ([users] if expected.height else [])


def test_users_of_dropped_rows_are_stored_if_a_kept_column_has_dates(tmp_path):
    rows = pl.DataFrame(
        {
            "user_id": [0, 1, 2, 2, None],
            "timestamp": [FAR[0], FAR[1], None, None, None],
            "amount": [1.0, None, 1.0, 1.0, 1.0],
            "country": "DE",
            "since": FAR[0],
        }
    )
    for keep, users in ((["country"], [None]), (["country", "since"], [1, 2])):
        folder = tmp_path / str(len(keep))
        folder.mkdir()
        (file,) = dropped_like(rows, keep, folder).folder.glob("*.dropped.parquet")
        assert pl.read_parquet(file)["dropped_user"].to_list() == users
