"""Events that take more memory than there is give what they give in memory, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import quietly
from strategies_adapty import cases
from test_adapty_laws import chunked
from test_adapty_sums import REQUEST, rows, same

import cohortlib as cl
from benchmarks.subscriptions import history
from cohortlib.adapty import spill, spill_files
from cohortlib.adapty.read import tables
from cohortlib.engine import memory
from cohortlib.engine import spill as engine_spill
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SettingError, SourceError

pytestmark = pytest.mark.disk

few = settings(max_examples=settings().max_examples // 2)


@contextmanager
def little_memory(batch=3, least=1):
    """Let any amount of memory do, and batches and files be short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MINIMUM", 1)
        patch.setattr(tables, "_BATCH", batch)
        patch.setattr(spill_files, "_MIN_BYTES", least)
        patch.setattr(engine_spill, "_CHUNK_ROWS", 2)
        yield


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Give a folder of temporary files of the test's own."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def spills(monkeypatch):
    """Count the parts that were added up from disk."""
    counts = []
    parts = spill.SpilledRows.partitions

    def counted(self):
        for one in parts(self):
            counts.append(one)
            yield one

    monkeypatch.setattr(spill.SpilledRows, "partitions", counted)
    return counts


rooms = st.sampled_from((1, 3_000, 20_000))


@given(cases(poison=False), rooms, st.integers(1, 9))
def test_by_parts_as_in_memory(case, room, batch):
    whole = case.ask()
    with little_memory(batch):
        same(case.ask(case.frame, max_memory=room), whole)
        same(case.ask(case.frame.lazy(), max_memory=room), whole)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@few
@given(
    case=cases(poison=False, money=("cents", "awkward", "text")),
    cuts=st.lists(st.integers(0, 24), max_size=3),
    room=rooms,
)
def test_files_by_parts_as_in_memory(case, cuts, room, kind, tmp_path_factory):
    assume(case.frame.height)
    folder = tmp_path_factory.mktemp("parts")
    for at, part in enumerate(chunked(case.frame, cuts)):
        getattr(part, f"write_{kind}")(folder / f"events-{at:02}.{kind}")
    installs = case.installs_as
    if not isinstance(installs, str):
        # A CSV file's users are text, so the installs' must be.
        getattr(installs, f"write_{kind}")(folder / f"installs.{kind}")
        installs = folder / f"installs.{kind}"
    events = folder / f"events-*.{kind}"
    whole = case.ask(events, installs=installs)
    with little_memory():
        same(case.ask(events, installs=installs, max_memory=room), whole)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Write some years of an app with everything that is odd in it."""
    folder = tmp_path_factory.mktemp("app")
    events, installs = history(30_000, seed=3)
    for at, part in enumerate(events.iter_slices(7_000)):
        part.write_parquet(folder / f"events-{at}.parquet")
    events.write_csv(folder / "events.csv")
    events.write_ndjson(folder / "events.jsonl")
    installs.write_parquet(folder / "installs.parquet")
    installs.write_ndjson(folder / "installs.jsonl")
    return folder


ASKED = {"filters": {"date": ["2024-01-01", "2025-12-31"]}, "period_unit": "month"}
ROOM = 4_000_000


@pytest.mark.parametrize(
    "request_",
    [
        ASKED,
        ASKED | {"period_type": "days", "renewal_days": [0, 7, 30, 365]},
        ASKED | {"filters": ASKED["filters"] | {"store_product_id": ["premium.monthly.999"], "country": ["us", "DE"]}},
    ],
    ids=["renewals", "days", "filtered"],
)
@pytest.mark.parametrize("events", ["events-*.parquet", "events.csv", "events.jsonl"])
def test_an_app_by_parts(app, spills, scratch, events, request_):
    installs = app / ("installs.jsonl" if events == "events.jsonl" else "installs.parquet")
    whole = quietly(cl.adapty.cohort, app / events, request_, installs=installs)
    assert not spills
    with little_memory(batch=4_096):
        found = quietly(cl.adapty.cohort, app / events, request_, installs=installs, max_memory=ROOM)
    assert len(spills) > 3
    same(found, whole)
    assert whole.report["shared_chains"] > 1
    assert not [*scratch.iterdir()]


@pytest.mark.parametrize("unit", ["month", "year"])
def test_predictions_by_parts(app, spills, unit):
    events = pl.scan_parquet(app / "events-*.parquet")
    asked = {"filters": {"date": ["2024-07-01", "2025-12-31"]}, "period_unit": unit}
    given = {"installs": app / "installs.parquet", "predict": True}
    whole = quietly(cl.adapty.cohort, events, asked, **given)
    with little_memory(batch=4_096):
        found = quietly(cl.adapty.cohort, events, asked, **given, max_memory=ROOM)
    assert len(spills) > 3
    same(found, whole)
    assert found.segments["predict_reason"].to_list() == whole.segments["predict_reason"].to_list()
    assert unit == "year" or whole.segments["predict"].drop_nulls().len()


@pytest.mark.parametrize("room", [200, 2_000, 10**9])
def test_chains_are_counted_over_parts(room):
    chains = [f"c{at % 50}" for at in range(100)] + [f"alone {at}" for at in range(100)] + ["c0"] * 100
    frame = rows(*(f"u{at}" for at in range(300)), original_transaction_id=chains)
    with little_memory(batch=90):
        found = quietly(cl.adapty.cohort, frame, REQUEST, installs="from_events", max_memory=room)
    assert found.report["shared_chains"] == 50


def cohort(events, room=1, installs="from_events", request=REQUEST, batch=1, least=1, **options):
    with little_memory(batch, least):
        return quietly(cl.adapty.cohort, events, request, installs=installs, max_memory=room, **options)


def test_dates_and_instants_share_a_column(tmp_path):
    """Each value is read by itself, whichever batch it is in: a date is that day in any zone."""
    ours = {"event_type": "subscription_started"}
    moments = rows(*"abc", event_datetime=["2026-02-28", "2026-02-28T18:29:00Z", "2026-02-28T18:30:00Z"], **ours)
    days = rows(*"abc", event_datetime=["2026-02-28T09:00:00Z", "2026-02-01", "2026-03-01"], **ours)
    for frame in (moments, days):
        whole = cl.adapty.cohort(frame, REQUEST, installs="from_events", timezone="Asia/Kolkata")
        assert whole.segments["total_installs"].to_list() == [3, 2, 1, 0]
        same(cohort(frame, timezone="Asia/Kolkata"), whole)
        same(cohort(frame.cast({"event_datetime": pl.Categorical}), timezone="Asia/Kolkata"), whole)
        frame.write_csv(tmp_path / "events.csv")
        same(cohort(tmp_path / "events.csv", timezone="Asia/Kolkata"), whole)
        frame.write_ndjson(tmp_path / "events.jsonl")
        same(cohort(tmp_path / "events.jsonl", timezone="Asia/Kolkata"), whole)


def test_files_that_differ_in_their_types(tmp_path):
    rows("a", revenue_usd=10).write_parquet(tmp_path / "1.parquet")
    rows("b", revenue_usd=2.5).write_parquet(tmp_path / "2.parquet")
    rows("c", revenue_usd=[None], event_type="subscription_expired").write_parquet(tmp_path / "3.parquet")
    rows("d").with_columns(install_date=pl.lit("2026-02-01")).write_parquet(tmp_path / "4.parquet")
    events = tmp_path / "*.parquet"
    same(cohort(events), cl.adapty.cohort(events, REQUEST, installs="from_events"))
    same(cohort(events, least=10**6), cl.adapty.cohort(events, REQUEST, installs="from_events"))
    rows(5).write_parquet(tmp_path / "5.parquet")
    with pytest.raises(SchemaError, match="column 'user' is String in one file and Int64 in another"):
        cohort(events)


@pytest.mark.parametrize("kinds", [(pl.Int64, pl.UInt64), (pl.Decimal(38, 0), pl.Int64), (pl.Int32, pl.Int128)])
def test_users_are_the_same_in_whatever_integers(kinds):
    frame = rows(*range(5)).cast({"profile_id": kinds[0]})
    installs = pl.DataFrame({"profile_id": [*range(7)], "install_date": "2026-02-01"}).cast({"profile_id": kinds[1]})
    whole = cl.adapty.cohort(frame, REQUEST, installs=installs)
    assert whole.report["not_in_installs"] == 0
    same(cohort(frame, installs=installs), whole)
    with pytest.raises(SchemaError, match="Expected the same type in both"):
        cohort(frame, installs=installs.cast({"profile_id": pl.String}))


def test_ids_of_more_than_64_bits():
    ids = pl.Series("profile_id", [1, 2, 2**70], dtype=pl.Int128)
    frame = rows(*range(3)).with_columns(ids)
    installs = pl.DataFrame([ids]).with_columns(install_date=pl.lit("2026-02-01"))
    whole = cl.adapty.cohort(frame, REQUEST, installs=installs)
    assert whole.report["not_in_installs"] == 0
    same(cohort(frame, installs=installs), whole)


def test_lines_with_attributions(tmp_path):
    asked = {"filters": REQUEST["filters"] | {"attribution_source": ["apple"]}, "period_unit": "month"}
    frame = rows(*"abcd")
    told = ['{"apple": {"status": "x"}}', '{"meta": {"status": "y"}}', None, '{"apple": {"status": "z"}}']
    frame.with_columns(pl.Series("attributions", told)).write_ndjson(tmp_path / "events.jsonl")
    whole = cl.adapty.cohort(tmp_path / "events.jsonl", asked, installs="from_events")
    assert whole.segments["total_paid_subscribers"][0] == 2
    same(cohort(tmp_path / "events.jsonl", request=asked), whole)
    # One network told in another way, and nobody has an attribution.
    odd = pl.Series("attributions", [*told[:3], '{"apple": {"status": {}}, "meta": [5]}'])
    frame.with_columns(odd).write_ndjson(tmp_path / "events.jsonl")
    for room in (10**9, 1):
        with pytest.raises(SchemaError, match="attribution_source"):
            cohort(tmp_path / "events.jsonl", room, request=asked)


def test_counts_of_installs_count_once(tmp_path):
    counts = pl.DataFrame({"install_date": ["2026-02-01", "2026-02-10"], "installs": [5, 7]})
    frame = rows(*(f"u{at}" for at in range(20)))
    whole = cl.adapty.cohort(frame, REQUEST, installs=counts)
    assert whole.segments["total_installs"][0] == 12
    same(cohort(frame, installs=counts), whole)
    counts[:1].write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"profile_id": ["u"], "install_date": ["2026-02-01"]}).write_parquet(tmp_path / "2.parquet")
    with pytest.raises(SchemaError, match="some files of installs hold users and others ready counts"):
        cohort(frame, installs=tmp_path / "*.parquet")


def test_nobody_and_nothing():
    frame = rows("a").head(0)
    whole = cl.adapty.cohort(frame, REQUEST, installs="from_events")
    with little_memory():
        arriving = cl.adapty.read.events.batched_events(
            frame, user_unit="profile_id", refund_upgraded="zero", nulls="error"
        )
        part, predictions = spill.aggregate(cl.adapty.compute.make_plan(REQUEST), arriving, None, room=1, predict=False)
    same(part.answer(predictions), whole)


def test_nulls_are_told_once():
    frame = rows(*"abcd", revenue_usd=[None, 1.0, None, 1.0])
    with pytest.raises(DataError, match="rows that count: 2 in column 'revenue_usd'"):
        cohort(frame)
    with little_memory(1), pytest.warns(CohortlibWarning) as told:
        found = cl.adapty.cohort(frame, REQUEST, installs="from_events", nulls="drop", max_memory=1)
    assert [str(one.message) for one in told] == [
        "2 of 4 rows of the events dropped for nulls: 2 in column 'revenue_usd'",
        "payments were dropped for nulls: the numbers of later payments of their chains are lower",
    ]
    assert found.report["nulls"] == 2


def test_a_sum_beyond_64_bits_is_refused_over_parts():
    with pytest.raises(DataError, match="the sum of all, is beyond 9"):
        cohort(rows("a", "b", revenue_usd=6e12))


def test_progress_ends_with_all_rows():
    told = []
    cohort(rows(*(f"u{at}" for at in range(50))), progress=lambda done, rows: told.append((done, rows)), batch=7)
    assert told[-1] == (50, 50)
    assert all(0 <= done <= rows for done, rows in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_memory_that_is_none():
    for wrong in (0, "a lot", "4", 1.5, -1):
        with pytest.raises(SettingError, match="max_memory="):
            cl.adapty.cohort(rows("a"), REQUEST, installs="from_events", max_memory=wrong)


# --- litter ------------------------------------------------------------------------------------------------


def test_nothing_is_left_by_what_fails(tmp_path, scratch):
    for at in range(3):
        rows(*(f"{at} {n}" for n in range(20))).write_parquet(tmp_path / f"{at}.parquet")
    whole = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[: len(whole) // 4] + bytes(200) + whole[len(whole) // 4 + 200 :])
    with pytest.raises(SourceError, match=r"1\.parquet' cannot be read"):
        cohort(tmp_path / "*.parquet")
    with pytest.raises(KeyboardInterrupt):
        cohort(rows(*"abc"), progress=interrupt)
    assert not [*scratch.iterdir()]


def interrupt(done, rows):
    raise KeyboardInterrupt


SPILLING = """
import os, sys, resource
import cohortlib as cl
from cohortlib.engine import memory
from cohortlib.adapty import spill_files as spilling
from cohortlib.adapty.read import tables
request = {"filters": {"date": ["2024-01-01", "2025-12-31"]}}
cl.adapty.cohort(sys.argv[1], request, installs="from_events")  # so that the kernels are compiled
memory.MINIMUM, spilling._MIN_BYTES, tables._BATCH = 1, 1, 500
REST
cl.adapty.cohort(sys.argv[1], request, installs="from_events", max_memory=1)
"""


def in_a_process(rest, app, scratch):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SPILLING.replace("REST", rest), str(app / "events-*.parquet")],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk_names_the_file(app, scratch):
    done = in_a_process("resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))", app, scratch)
    last = done.stderr.strip().splitlines()[-1]
    reason = "File too large (rows that do not fit into memory are spilled here. Hint: another TMPDIR, or a larger "
    assert last == f"OSError: [Errno 27] {reason}max_memory): '{scratch}'", done.stderr
    assert not [*scratch.iterdir()]


def test_what_a_killed_run_left_is_removed_by_the_next(app, scratch):
    kill = "spilling.ChainKeys.sink = lambda *_: os.kill(os.getpid(), 9)"
    assert in_a_process(kill, app, scratch).returncode == -signal.SIGKILL
    (left,) = scratch.iterdir()
    assert [one.name for one in left.iterdir()]
    cohort(rows(*"abc"))
    assert not [*scratch.iterdir()]
