"""A writer can be killed at any moment: the target is the old or the new version, and the next writer cleans up.

Two kills per writer; ``COHORTLIB_KILLS=100`` makes it a hundred.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

import cohortlib as cl

KILLS = int(os.environ.get("COHORTLIB_KILLS", "2"))
SPAN = 0.25  # seconds after the first writing within which the process is killed

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here"),
]

# Each writes `version` to `target`; it does so again and again, one version after the other, until it is killed.
LOOP = """
import sys
from itertools import count
from pathlib import Path
target, first, runs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
{write}
for version in range(first, first + runs) if runs else count(first):
    write(target, version)
    print(version, flush=True)
"""

FILE = """
from cohortlib.engine.files import atomic_write
def write(target, version):
    with atomic_write(target) as stream:
        for part in range(50):
            stream.write(b"%d %d\\n" % (version, part) * 400)
"""

FOLDER = """
from cohortlib.engine.files import atomic_folder
def write(target, version):
    with atomic_folder(target, lambda folder: (folder / "manifest").is_file()) as folder:
        (folder / "parts").mkdir()
        for part in range(8):
            (folder / "parts" / str(part)).write_bytes(b"%d\\n" % version * 5000)
        (folder / "manifest").write_text(str(version))
"""

COMMIT = """
from cohortlib.engine.files import commit, locked
def write(target, version):
    target.mkdir(exist_ok=True)
    with locked(target):
        (target / f"{version}.part").write_bytes(b"%d\\n" % version * 5000)
        commit(target, "manifest", str(version))
        for old in target.glob("*.part"):
            if not old.name.startswith("."):
                if int(old.stem) != version:
                    old.unlink()
"""

SINK = """
import polars as pl
from datetime import date
from cohortlib.termina import sink_customer_cohorts
users = range(3000)
def write(target, version):
    rows = pl.DataFrame({"user_id": users, "timestamp": [date(2026, 1 + user % 9, 1) for user in users]})
    sink_customer_cohorts(rows.with_columns(amount=pl.lit(version)), target)
"""

PARTS = SINK.replace("target)\n", "f'{target}/')\n")

PREPARE = """
import polars as pl
from datetime import date
from cohortlib import prepare
users = range(3000)
def write(target, version):
    rows = pl.DataFrame({"user_id": users, "timestamp": [date(2026, 1 + user % 9, 1) for user in users]})
    prepare(rows.with_columns(amount=pl.lit(version)), target)
"""

# Some users pay again, some of them late: their cohorts move.
STATE = """
import polars as pl
from datetime import date, timedelta
from cohortlib.termina import State
def rows_of(version):
    users = list(range(version * 100, version * 100 + 300))
    days = [date(2026, 1, 1) + timedelta(version * 9 - (version * user) % 50) for user in users]
    return pl.DataFrame({"user_id": users, "timestamp": days, "amount": [version % 7 + 1] * 300})
def write(target, version):
    if version == 1:
        State.build(rows_of(1), target)
    else:
        State.open(target).update(rows_of(version))
"""


@pytest.fixture
def tmp_path(disk_folder):
    """Durability is tested on a disk, not in memory."""
    return disk_folder


def read_file(target):
    lines = target.read_bytes().split(b"\n")
    version = int(lines[0].split()[0])
    assert lines == [b"%d %d" % (version, part) for part in range(50) for _ in range(400)] + [b""]
    return version


def read_folder(target):
    version = int((target / "manifest").read_text())
    assert {one.name for one in target.iterdir()} - {".lock"} == {"manifest", "parts"}
    assert {part.name: part.read_bytes() for part in (target / "parts").iterdir()} == {
        str(part): b"%d\n" % version * 5000 for part in range(8)
    }
    return version


def read_commit(target):
    version = int((target / "manifest").read_text())
    assert (target / f"{version}.part").read_bytes() == b"%d\n" % version * 5000
    return version


def read_sink(target):
    rows = pl.read_parquet(target / "part-*.parquet" if target.is_dir() else target)
    version = int(rows["amount"][0])
    assert rows.group_by("cohort").agg(pl.len(), pl.col("amount").sum()).sort("cohort").rows() == [
        (f"2026-0{month}", users * (10 - month), float(version * users))
        for month, users in enumerate([334, 334, 334, 333, 333, 333, 333, 333, 333], 1)
    ]
    return version


def read_prepared(target):
    rows = cl.Prepared.open(target).frame()
    (version,) = rows["amount"].unique()
    assert sorted(rows["user_id"].cast(pl.Int64)) == list(range(3000))
    return int(version)


def read_state(target):
    state = cl.termina.State.open(target)
    version, more = divmod(cl.Prepared.open(target).manifest.rows, 300)
    assert more == 0
    made = {}
    exec(STATE, made)
    rows = pl.concat([made["rows_of"](each) for each in range(1, version + 1)])
    assert state.cohorts().equals(cl.termina.cohorts(rows))
    assert cl.termina.cohorts(target, freq="W").equals(cl.termina.cohorts(rows, freq="W"))
    return version


WRITERS = {
    "a file": (FILE, read_file),
    "a folder": (FOLDER, read_folder),
    "a file of a folder": (COMMIT, read_commit),
    "the table of customers": (SINK, read_sink),
    "the table of customers in parts": (PARTS, read_sink),
    "the prepared form": (PREPARE, read_prepared),
    "a state": (STATE, read_state),
}


def writer(write, target, first, runs=0):
    command = [sys.executable, "-c", LOOP.format(write=write), str(target), str(first), str(runs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def leftovers(target):
    return sorted(one.name for one in target.parent.iterdir() if one.name != target.name)


@pytest.mark.parametrize("name", WRITERS)
def test_killed(tmp_path, name):
    write, read = WRITERS[name]
    target = tmp_path / "target"
    moments = random.Random(name)  # noqa: S311 - the same moments every time
    version = 0
    for _ in range(KILLS):
        with writer(write, target, version + 1) as process:
            reported = int(process.stdout.readline())
            assert reported == version + 1
            end = time.monotonic() + moments.uniform(0, SPAN)
            while time.monotonic() < end:  # the target always exists
                assert target.exists()
                time.sleep(0.0005)
            process.kill()
            reported = [reported, *map(int, process.stdout.read().split())][-1]
        written = read(target)
        assert reported <= written <= reported + 1  # the reported version, or the next one
        assert len(leftovers(target)) <= 1
        version = written
    with writer(write, target, version + 1, runs=1) as process:
        assert process.wait(timeout=60) == 0
    assert read(target) == version + 1
    assert leftovers(target) == []
    if target.is_dir():
        assert list(target.rglob(".*")) == []
    if name == "a state":
        manifest = cl.Prepared.open(target).manifest
        files = {f"{part.name}.{kind}.parquet" for run in manifest.runs for part in run for kind in ("users", "rows")}
        assert {one.name for one in target.iterdir()} == files | {"cohortlib.json", manifest.state["sums"]}


@pytest.mark.parametrize("name", ["a file", "a folder", "a file of a folder", "a state"])
def test_killed_at_the_first_write(tmp_path, name):
    """A first write that is killed leaves all or nothing."""
    write, read = WRITERS[name]
    target = tmp_path / "target"
    moments = random.Random(name)  # noqa: S311
    for _ in range(KILLS):
        with writer(write, target, 1, runs=1) as process:
            end = time.monotonic() + 60
            while not leftovers(target) and not target.exists() and time.monotonic() < end:
                pass
            time.sleep(moments.uniform(0, 0.01))
            process.kill()
        if name == "a file of a folder":  # written in place, and only valid with its manifest
            assert not (target / "manifest").exists() or read(target) == 1
        elif target.exists():
            assert read(target) == 1
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    with writer(write, target, 1, runs=1) as process:
        assert process.wait(timeout=60) == 0
    assert read(target) == 1
    assert leftovers(target) == []
