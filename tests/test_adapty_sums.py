"""Parts of disjoint users add to the whole: to the bit, by whatever way they come together."""

import subprocess
import sys
import warnings
from dataclasses import replace
from functools import reduce
from operator import add

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import quietly
from strategies_adapty import assert_same, cases

import cohortlib as cl
from cohortlib.adapty import Sums
from cohortlib.adapty.compute import make_plan
from cohortlib.adapty.read.events import read_events
from cohortlib.adapty.read.installs import read_installs
from cohortlib.errors import CohortlibWarning, DataError, SettingError

pytestmark = pytest.mark.unit

few = settings(max_examples=settings().max_examples // 2)
REQUEST = {"filters": {"date": ["2026-02-01", "2026-04-30"]}, "period_unit": "month"}


def users_of(case):
    """Return the user of each row of events and of installs, as the door reads them; None for counts."""
    unit = case.conventions.get("user_unit", "profile_id")
    events = read_events(case.frame, user_unit=unit, refund_upgraded="zero", nulls="drop").frame["user"]
    if isinstance(case.installs_as, str):
        return events, None
    # Rows of installs without a date are left out here, so each keeps its number.
    numbered = case.installs_as.with_columns(install_date=pl.lit("2026-01-01"))
    installs, _ = read_installs(numbered.with_row_index("installs_row"), user_unit=unit, nulls="drop")
    return events, installs["user"] if "user" in installs.columns else None


def parts_of(case, group, **more):
    """Cut a case by users: `group` gives the number of a user's part."""
    events, installs = users_of(case)
    numbers = pl.Series([group(user) for user in events], dtype=pl.Int64)
    theirs = None if installs is None else pl.Series([group(user) for user in installs], dtype=pl.Int64)
    known = set(numbers) | set([] if theirs is None else theirs) or {0}
    options = {**case.settings, "conventions": cl.adapty.Conventions(**case.conventions), "threads": case.threads}
    for first, part in enumerate(sorted(known)):
        who = case.installs_as
        if theirs is not None:
            who = who.filter(theirs == part)
        elif not isinstance(who, str) and first:
            who = who.head(0)
        yield quietly(
            cl.adapty.sums,
            case.frame.filter(numbers == part),
            case.request,
            installs=who,
            **{**options, **more},
        )


def cut(drawn):
    """Draw the number of each user's part, the same every time that it is asked for."""
    numbers = {}

    def group(user):
        if user not in numbers:
            numbers[user] = drawn.draw(st.integers(0, 3), label=f"part of {user}")
        return numbers[user]

    return group


def same(answer, whole):
    assert_same(answer.to_dict(), whole.to_dict())
    assert answer.report == whole.report


@given(cases(poison=False), st.data())
def test_parts_add_to_the_whole(case, drawn):
    parts = [*parts_of(case, cut(drawn))]
    same(reduce(add, drawn.draw(st.permutations(parts))).answer(), case.ask())


@few
@given(cases(poison=False), st.data())
def test_tables_of_parts_add_as_any_engine_adds(case, drawn):
    whole = case.ask()
    options = {name: case.settings[name] for name in ("timezone", "decimals") if name in case.settings}
    question = make_plan(case.request, conventions=cl.adapty.Conventions(**case.conventions), **options)
    table = pl.concat([part.table() for part in parts_of(case, cut(drawn), secret=b"all")])
    assert table.schema == cl.adapty.additive.SCHEMA
    same(Sums.of_table(table, question).answer(), whole)
    summed = table.group_by("name", "segment", "column").agg(pl.col("value").sum())
    same(Sums.of_table(summed, question).answer(), whole)
    # Chains may be counted where they are, so that only the small rest travels.
    chain = pl.col("name") == "chain"
    zero = pl.lit(0, pl.Int64)
    counted = summed.filter(chain, pl.col("value") > 1).with_columns(
        name=pl.lit("report.shared_chains"), segment=zero, column=zero, value=zero + 1
    )
    same(Sums.of_table(pl.concat([summed.filter(~chain), counted]), question).answer(), whole)


@few
@given(cases(poison=False))
def test_a_part_is_its_own_table(case):
    (part,) = parts_of(case, lambda user: 0)
    again = Sums.of_table(part.table(), part.plan)
    assert again.table().sort(pl.all()).equals(part.table().sort(pl.all()))
    same(again.answer(), part.answer())
    assert (again.dropped, again.magnitudes, again.secret_id if part.chains.size else part.secret_id) == (
        part.dropped,
        part.magnitudes,
        part.secret_id,
    )


def rows(*users, **given):
    """Make a payment of each user."""
    plain = {
        "profile_id": list(users),
        "event_type": "subscription_started",
        "event_datetime": "2026-02-10T09:00:00Z",
        "transaction_id": [f"t{user}" for user in users],
        "original_transaction_id": [f"c{user}" for user in users],
        "environment": "Production",
        "product_id": "monthly",
        "revenue_usd": 10.0,
        "proceeds_usd": 7.0,
        "net_revenue_usd": 7.0,
    }
    return pl.DataFrame(plain | given)


def part(*users, request=REQUEST, **options):
    given = {name: options.pop(name) for name in [*options] if name.endswith(("_usd", "_id", "_datetime"))}
    return quietly(cl.adapty.sums, rows(*users, **given), request, installs="from_events", **options)


def test_parts_of_other_questions_do_not_add():
    one = part("a")
    for other, what in (
        (part("b", request=REQUEST | {"period_unit": "week"}), "request"),
        (part("b", timezone="Asia/Kolkata"), "timezone"),
        (part("b", decimals=2), "decimals"),
        (part("b", conventions=cl.adapty.Conventions(averages="per_period")), "conventions"),
    ):
        with pytest.raises(SettingError, match=f"sums of different requests or settings cannot be added: {what} "):
            one + other
        with pytest.raises(SettingError, match="sums of another request or of other settings"):
            Sums.of_table(other.table(), one.plan)
        with pytest.raises(SettingError, match="sums of 2 different requests or settings"):
            Sums.of_table(pl.concat([one.table(), other.table()]), one.plan)
    with pytest.raises(TypeError):
        one + 1
    part("b", threads=2, progress=print) + one  # how it is done is no question


def test_a_table_of_something_else():
    one = part("a")
    with pytest.raises(DataError, match="the table of sums has no column 'segment'"):
        Sums.of_table(one.table().drop("segment"), one.plan)
    with pytest.raises(SettingError, match="does not hold sums"):
        Sums.of_table(one.table().filter(~pl.col("name").str.starts_with("plan.")), one.plan)


def test_keys_of_chains_compare_only_where_the_secret_is_the_same():
    chain = {"original_transaction_id": "shared"}
    for secrets, ok in (((b"x", b"x"), True), ((None, None), True), ((b"x", b"y"), False), ((None, b"y"), False)):
        one, other = (part(user, secret=secret, **chain) for user, secret in zip("ab", secrets, strict=True))
        if ok:
            assert (one + other).report["shared_chains"] == 1
            continue
        with pytest.raises(SettingError, match="pass the same secret="):
            one + other
        with pytest.raises(SettingError, match="pass the same secret="):
            Sums.of_table(pl.concat([one.table(), other.table()]), one.plan)
        # Counted elsewhere, they need not compare.
        assert (one.without_chains() + other.without_chains(1)).report["shared_chains"] == 1


def test_chains_of_three_users_count_once():
    shared = {"original_transaction_id": ["s", "s", "own"]}
    total = part("a", "b", "x", **shared) + part("c", "d", "y", **shared) + part("e")
    assert total.report["shared_chains"] == 2


def test_parts_of_processes_add(tmp_path):
    """Make each part in a process of its own, that draws its own keys of users."""
    for name, user in (("one", "a"), ("other", "b")):
        rows(user, original_transaction_id="shared").write_parquet(tmp_path / f"{name}.parquet")
    code = (
        "import sys, cohortlib as cl\n"
        f"part = cl.adapty.sums(sys.argv[1], {REQUEST!r}, installs='from_events', secret=b's')\n"
        "part.table().write_parquet(sys.argv[2])\n"
    )
    for name in ("one", "other"):
        place = tmp_path / name
        subprocess.run([sys.executable, "-c", code, f"{place}.parquet", f"{place}.part"], check=True)
    table = pl.concat([pl.read_parquet(tmp_path / f"{name}.part") for name in ("one", "other")])
    total = Sums.of_table(table, make_plan(REQUEST))
    whole = quietly(cl.adapty.cohort, str(tmp_path / "*.parquet"), REQUEST, installs="from_events")
    same(total.answer(), whole)
    assert whole.report["shared_chains"] == 1


def test_sums_beyond_64_bits_are_refused():
    huge = {"revenue_usd": 6e12}
    one, other = part("a", **huge), part("b", **huge)
    with pytest.raises(DataError, match="the sum of all, is beyond 9"):
        one + other
    with pytest.raises(DataError, match="the sum of all, is beyond 9"):
        Sums.of_table(pl.concat([one.table(), other.table()]), one.plan)


def test_the_sum_tells_what_the_whole_tells():
    """Warn once of all that was left out, not in each part."""
    holes = {"revenue_usd": [None, 10.0]}
    frame = pl.concat([rows("a", "b", **holes), rows("c", "d", **holes)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = [cl.adapty.sums(half, REQUEST, installs="from_events", nulls="drop") for half in (frame[:2], frame[2:])]
    with pytest.warns(CohortlibWarning) as whole:
        cl.adapty.cohort(frame, REQUEST, installs="from_events", nulls="drop")
    with pytest.warns(CohortlibWarning) as total:
        reduce(add, parts).warn()
    assert [str(one.message) for one in total] == [str(one.message) for one in whole]
    assert "2 of 4 rows of the events dropped for nulls: 2 in column 'revenue_usd'" in str(whole[0].message)


def test_what_only_the_whole_column_tells_is_told_to_parts():
    """Most of the column are instants; the part is one value that reads as a date."""
    column = ["2026-02-10", "2026-02-10T09:00:00Z", "2026-02-11T09:00:00Z"]
    ours = {"event_type": ["subscription_expired", "subscription_started", "subscription_started"]}
    frame = rows("a", "b", "c", event_datetime=column, **ours)
    whole = cl.adapty.cohort(frame, REQUEST, installs="from_events")
    same(
        reduce(add, [cl.adapty.sums(frame[[at]], REQUEST, installs="from_events") for at in range(3)]).answer(),
        whole,
    )


def test_empty_parts_change_nothing():
    one = part("a")
    nobody = part()
    same((nobody + one + nobody).answer(), one.answer())
    assert nobody.report["rows"] == 0


def test_parts_are_frozen_and_not_changed_by_adding():
    one, other = part("a"), part("b")
    before = one.table(), other.table()
    one + other
    one.answer()
    assert one.table().equals(before[0])
    assert other.table().equals(before[1])
    with pytest.raises(AttributeError):
        one.counts = {}
    assert replace(one, counts={}).counts == {}
