"""Sums of the general table: parts of users add to the table from rows, to the bit."""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import quietly
from strategies_general import cases
from test_general import ask, tables_equal, tiny_memory

import cohortlib as cl
from cohortlib.cli.main import cli
from cohortlib.transactions import keywords

pytestmark = pytest.mark.search


def parts_of(case, at):
    """Cut a case's rows and join dates by user; users without an id are in the first part."""
    user = pl.col("user_id").cast(pl.String).hash(at) % 3
    for number in range(3):
        mine = (user == number).fill_null(value=number == 0)
        options = case.options()
        if case.joined is not None:
            options["joined"] = case.joined_frame.filter(mine)
        yield case.frame.filter(mine), options


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sums")


@given(case=cases(), at=st.integers(0, 2**32))
def test_parts_of_users_add_to_the_table(folder, case, at):
    """Whatever the settings, in whichever order; and a saved file holds the same."""
    table = ask(case, cl.cohorts)
    assume(table is not None and not ("split" in case.settings and case.joined is not None))
    parts = []
    options = {name: value for name, value in case.options().items() if name not in ("start", "end", "complete_only")}
    try:
        with tiny_memory():
            whole = quietly(cl.sums, case.frame, max_memory=1, **options)
    except cl.errors.DataError:  # rows that an edge cuts off are before a join date, or dates differ and rows lack
        assert case.joined is not None
        return
    for rows, options in parts_of(case, at):
        edges = {name: options.pop(name) for name in ("start", "end", "complete_only") if name in options}
        parts.append(quietly(cl.sums, rows, **options))
    assert parts[0] + parts[1] + parts[2] == parts[2] + (parts[0] + parts[1]) == whole
    whole.save(folder / "sums.parquet")
    whole = cl.Sums.load(folder / "sums.parquet")
    try:
        ours = quietly(whole.cohorts, **edges)
    except cl.errors.SettingError:
        assert {"end", "complete_only"} & set(edges)
        return
    tables_equal(ours, table)


ROWS = pl.DataFrame(
    {
        "user_id": ["a", "a", "b", "c", "c"],
        "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20), date(2026, 2, 2), date(2026, 3, 15)],
        "amount": [100, 80, 50, 30, -10],
        "country": ["DE", "FR", "FR", None, "DE"],
        "margin": [9, 8, 7, 6, 5],
    }
)
CALENDAR = pl.DataFrame({"day": [date(2026, 1, 1), date(2026, 3, 1), date(2026, 5, 1)], "label": ["P1", "P2", ""]})


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"by": "country"}, {}, r"by=\['country'\] and by=\[\]"),
        ({"age": "7d"}, {"age": "30d"}, "age='7d' and age='30d'"),
        ({"amounts": "margin"}, {}, "amounts="),
        ({"amount": None}, {}, "amount=None and amount="),
        ({"retention": "unbounded"}, {}, "retention="),
        ({"brackets": [0, 1]}, {"brackets": [0, 2]}, "brackets="),
        ({"confidence": 0.95}, {}, "confidence=0.95 and confidence=None"),
        ({"calendar": CALENDAR}, {}, "calendar= and calendar=None"),
        ({"by": "country"}, {"by": "country", "users": ROWS[[0, 2, 3], ["user_id", "country"]]}, "users="),
    ],
)
def test_other_settings_do_not_add(one, other, message):
    with pytest.raises(cl.errors.SettingError, match=f"sums with .*{message}.* do not add"):
        cl.sums(ROWS, **one) + cl.sums(ROWS, **other)


def test_parts_without_rows_and_of_other_types():
    whole = cl.sums(ROWS, by="country")
    nothing = cl.sums(ROWS.clear(), by="country")
    assert nothing + whole == whole + nothing == whole
    tables_equal(nothing.cohorts(), cl.cohorts(ROWS.clear(), by="country"))
    numbers = ROWS.with_columns(country=pl.lit(1, pl.Int8))
    more = cl.sums(numbers[:2], by="country") + cl.sums(numbers[2:].cast({"country": pl.Int32}), by="country")
    assert more == cl.sums(numbers.cast({"country": pl.Int32}), by="country")
    with pytest.raises(cl.errors.SchemaError, match="segments 'country' are Int8 and String"):
        whole + cl.sums(numbers, by="country")


def test_what_does_not_follow_from_sums_is_refused():
    joined = ROWS.select("user_id", joined="timestamp").unique("user_id", keep="first")
    with pytest.raises(cl.errors.SettingError, match="exclude each other in sums"):
        cl.sums(ROWS, split="country", joined=joined)
    weeks = cl.sums(ROWS, freq="W", age="M")
    with pytest.raises(cl.errors.SettingError, match="cuts through a period of age='M'"):
        weeks.cohorts(end="2026-01-20")
    tables_equal(weeks.cohorts(end="2026-04-01"), cl.cohorts(ROWS, freq="W", age="M", end="2026-04-01"))
    with pytest.raises(cl.errors.SettingError, match="segments and cohorts depend on them"):
        cl.sums(ROWS, by="country", joined=joined).cohorts(end="2026-01")
    with pytest.raises(cl.errors.KeywordError, match=r"'by'\. Hint: cl\.cohorts and cl\.sums take it"):
        cl.termina.sums(ROWS, by="country")


def test_amounts_beyond_64_bits_do_not_add():
    rows = ROWS.with_columns(margin=pl.lit(5 * 10**12))[:1]
    with pytest.raises(cl.errors.DataError, match=r"exceed 9\.22e"):
        cl.sums(rows, amounts="margin") + cl.sums(rows.with_columns(user_id=pl.lit("z")), amounts="margin")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"age": -1}, "ages from 0"),
        ({"first_day": 20_500}, "begin a period"),
        ({"first_day": 99_999}, "first days from"),
        ({"size": -1}, "counts from 0"),
        ({"active": 7}, "as many active users"),
        ({"amount": 10**12}, "larger absolute sum"),
        ({"amounts.margin": 10**12}, "larger absolute sum"),
        ({"next_age": 0}, "in next_age"),
        ({"growth.0": 0}, "squares that cannot be"),
        ({"growth.1": -1}, "limbs of 32 bits"),
        ({"segment.country": "ZZ"}, "ascending order"),
        ({"country": "DE"}, "has columns"),
    ],
)
def test_a_file_of_sums_that_cannot_be(tmp_path, changed, message):
    sums = cl.sums(ROWS, by="country", amounts="margin", retention="unbounded", confidence=0.95)
    sums.save(tmp_path / "sums.parquet")
    assert cl.Sums.load(tmp_path / "sums.parquet") == sums
    assert cl.verify(tmp_path / "sums.parquet").ok
    first = pl.int_range(pl.len()) == (sums.table.height - 1 if "first_day" in changed else 0)
    values = [
        pl.when(first).then(pl.lit(value)).otherwise(pl.col(name) if name in sums.table.columns else None).alias(name)
        for name, value in changed.items()
    ]
    replace(sums, table=sums.table.with_columns(values)).save(tmp_path / "sums.parquet")
    with pytest.raises(cl.errors.SourceError, match=message):
        cl.Sums.load(tmp_path / "sums.parquet")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"age": "0d"}, "setting that cannot be"), ({"by": ("nix",)}, "has columns"), ({"money": 1}, "cannot be"),
     ({"brackets": (2, 1)}, "setting that cannot be"), ({"users": ("nix",)}, "cannot be")],
)  # fmt: skip
def test_settings_of_a_file_that_cannot_be(tmp_path, changed, message):
    sums = cl.sums(ROWS, by="country")
    replace(sums, settings=replace(sums.settings, **changed)).save(tmp_path / "sums.parquet")
    with pytest.raises(cl.errors.SourceError, match=message):
        cl.Sums.load(tmp_path / "sums.parquet")
    data = (tmp_path / "sums.parquet").read_bytes()
    (tmp_path / "sums.parquet").write_bytes(data[:400] + bytes([data[400] ^ 1]) + data[401:])
    with pytest.raises(cl.errors.SourceError):
        cl.Sums.load(tmp_path / "sums.parquet")


# ---- states


@given(case=cases(), seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_a_state_has_the_table_of_all_rows(folder, case, seed, order):
    """Whatever arrives when, with some users removed and all runs compacted: its table is that from rows."""
    assume(not (case.joined is not None or case.users is not None or case.settings.get("amount", 0) is None))
    options = case.options()
    options.pop("before_joined", None)
    edges = {name: options.pop(name) for name in ("start", "end", "complete_only") if name in options}
    rows = case.frame
    if case.settings.get("amounts"):
        rows = rows.drop_nulls("margin")
    places = list(range(rows.height))
    order.shuffle(places)
    cut = seed % (len(places) + 1)
    parts = [rows[places[:cut]], rows[places[cut:]]]
    path = folder / "state"
    try:
        quietly(cl.sums, rows, **options)
    except cl.errors.CohortlibError:
        return
    state = quietly(cl.State.build, parts[0], path, **options)
    quietly(state.update, parts[1], batch="more")
    if seed % 3 == 0:
        quietly(state.compact)
    if seed % 5 == 0 and rows["user_id"].drop_nulls().len():
        user = rows["user_id"].drop_nulls()[0]
        state.remove([user])
        if rows.drop_nulls(["timestamp", "amount"]).height < rows.height:
            return  # dropped rows of the user still count for the last day
        rows = rows.filter(pl.col("user_id") != user)
    assert cl.verify(path).ok
    if any(
        name in options and options[name] != keywords.TABLE_SETTINGS[name].default
        for name in options
        if name in keywords.TABLE_SETTINGS
    ):
        tables_equal(quietly(state.cohorts, **edges), quietly(cl.cohorts, rows, **options, **edges))
        assert quietly(state.table_sums) == quietly(cl.sums, rows, **options)


def test_a_state_refuses_other_columns(tmp_path):
    state = cl.State.build(ROWS, tmp_path / "state", by="country", amounts="margin")
    before = state.cohorts()
    assert cl.sums(tmp_path / "state", by="country") == cl.sums(ROWS, by="country")  # it is a prepared form
    for rows, message in (
        (ROWS.drop("country"), "column 'country' is not in the table"),
        (ROWS.with_columns(country=pl.lit(1)), "column 'country' is Int32 in these rows, and String in the state"),
        (ROWS.with_columns(margin=pl.lit(None, pl.Int64)), "nulls: 5 in column 'margin'"),
        (
            cl.prepare(ROWS.cast({"timestamp": pl.Datetime}), tmp_path / "prepared", keep=["country", "margin"]),
            "without the order of rows within a day",
        ),
    ):
        with pytest.raises(cl.errors.CohortlibError, match=message):
            state.update(rows, batch="new")
    tables_equal(state.cohorts(), before)
    more = ROWS.with_columns(pl.col("margin").cast(pl.Int8), timestamp=pl.col("timestamp").cast(pl.Datetime))
    state.update(more, batch="new")
    tables_equal(state.cohorts(), cl.cohorts(pl.concat([ROWS, ROWS]), by="country", amounts="margin"))
    with pytest.raises(cl.errors.SourceError, match="Termina's table alone"):
        cl.State.build(ROWS, tmp_path / "plain").table_sums()
    with pytest.raises(cl.errors.KeywordError, match="'users'"):
        cl.State.build(ROWS, tmp_path / "plain", by="country", users=ROWS)


def test_a_state_of_segments_by_command(tmp_path):
    ROWS.write_csv(tmp_path / "orders.csv")
    state, output = str(tmp_path / "state"), tmp_path / "out.parquet"
    for command in (
        ["build", str(tmp_path / "orders.csv"), state, "--by", "country", "--age", "30d"],
        ["cohorts", state, "-o", str(output)],
    ):
        assert CliRunner().invoke(cli, ["termina", "state", *command]).exit_code == 0
    assert pl.read_parquet(output).rows() == cl.cohorts(ROWS, by="country", age="30d").rows()
    assert "age='30d'" in str(cl.State.open(state).info())
