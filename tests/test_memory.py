"""Free memory is read from this system and from files of other systems; `max_memory` is parsed strictly."""

import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.engine import buffers, memory, partitions
from cohortlib.errors import DataError, SettingError

pytestmark = pytest.mark.unit

GB = 10**9


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        (64 << 20, 64 << 20),
        (5 * GB, 5 * GB),
        ("4GB", 4 * GB),
        ("4gb", 4 * GB),
        (" 1.5 GB ", 3 * GB // 2),
        ("512MiB", 512 << 20),
        ("2GiB", 2 << 30),
        ("1TiB", 1 << 40),
        ("900000KB", 900_000_000),
        ("100000000B", 100_000_000),
    ],
)
def test_amounts_of_memory(value, bytes_):
    assert memory.budget(value) == bytes_


@pytest.mark.parametrize("value", ["", "4", "4G", "4g", "GB", "-4GB", "4 GBs", "1e9B", "4,5GB", 4.0, True, [], "٤GB"])
def test_invalid_amounts(value):
    with pytest.raises(SettingError, match=r"max_memory=.* is not an amount of memory\. Expected bytes, text such as"):
        memory.budget(value)


@pytest.mark.parametrize("value", [0, -1, 1000, "63MiB", "0GB"])
def test_too_little(value):
    with pytest.raises(SettingError, match=r"max_memory=.* is too little memory\. Expected '64MiB' or more"):
        memory.budget(value)


def test_default_is_a_share_of_the_free_memory():
    assert memory.MINIMUM <= memory.budget(None) <= memory.SHARE * 1.1 * memory.free() + memory.MINIMUM


def limited(kind, size):
    code = f"import resource; resource.setrlimit(resource.{kind}, ({size}, {size}))\n"
    code += "from cohortlib.engine import memory; print(memory.free(), memory.budget(None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has is read from /proc")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_process_with_a_limit(kind):
    size = 600 << 20
    if resource.getrlimit(getattr(resource, kind))[1] != resource.RLIM_INFINITY:
        pytest.skip("this process has a limit already")
    free, budget = limited(kind, size)
    assert size // 2 < free < size
    assert budget == int(0.6 * free)
    # With almost nothing left, the minimum is tried anyway.
    assert limited(kind, 80 << 20)[1] == memory.MINIMUM


def system(folder, files):
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


AVAILABLE = {"proc/meminfo": "MemTotal:  16000000 kB\nMemFree:  1 kB\nMemAvailable:  8000000 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8_192_000_000),
        (  # version 2: of the groups above each other the least, and what files have cached is free
            {
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/memory.max": "5000000000\n",
                "sys/fs/cgroup/user/memory.current": "3000000000\n",
                "sys/fs/cgroup/user/memory.stat": "anon 7\ninactive_file 400000000\nactive_file 600000000\n",
                "sys/fs/cgroup/user/job/memory.max": "max\n",
                "sys/fs/cgroup/user/job/memory.current": "3000000000\n",
            },
            3_000_000_000,
        ),
        (  # in a container the root is the group itself
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "4000000000\n",
                "sys/fs/cgroup/memory.current": "1000000000\n",
            },
            3_000_000_000,
        ),
        (  # version 1, whose path is the host's
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
                "sys/fs/cgroup/memory/memory.stat": "cache 9\ntotal_inactive_file 1000\ntotal_active_file 0\n",
            },
            500_001_000,
        ),
        (  # version 1 without a limit
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
            },
            8_192_000_000,
        ),
        (  # more is used than may be
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "4000000000\n",
                "sys/fs/cgroup/memory.current": "5000000000\n",
            },
            0,
        ),
    ],
)
def test_limits_of_systems(tmp_path, monkeypatch, files, expected):
    system(tmp_path, AVAILABLE | files)
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path)
    assert memory.free() == expected


def test_a_system_without_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path)
    assert memory.free() > memory.MINIMUM


def test_a_result_is_counted_against_the_free_memory(monkeypatch):
    monkeypatch.setattr(partitions, "POOL", buffers.Pool())
    monkeypatch.setattr(memory, "free", lambda: 3 * GB)
    partitions.check_size(30_000_000, "a coarser freq")
    with pytest.raises(DataError, match=r"30,000,001 rows, more than fit into 3\.0 GB of free memory"):
        partitions.check_size(30_000_001, "a coarser freq")


def test_a_table_larger_than_the_free_memory_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(partitions, "POOL", buffers.Pool())
    monkeypatch.setattr(memory, "free", lambda: 200_000)
    rows, users = 3000, pl.int_range(3000, eager=True)
    days = pl.select(pl.date(2020, 1, 1) + pl.duration(days=pl.int_range(rows) * 7 % 1000)).to_series()
    frame = pl.DataFrame({"user_id": users % 900, "timestamp": days, "amount": 1.0, "segment": users % 900})
    refused = r"the table would have .* rows, more than fit into 0 MB of free memory\. Hint: "
    with pytest.raises(DataError, match=f"{refused}fewer segments"):
        cl.cohorts(frame, by="segment")
    wrong = (
        frame[:30]
        .with_columns(timestamp=pl.date(2020, 1, 1))
        .vstack(frame[:1].with_columns(timestamp=pl.date(1901, 1, 1)))
    )
    with pytest.raises(DataError, match=refused):
        cl.termina.cohorts(wrong.select("user_id", "timestamp", "amount"), freq="D")


LIMITED = """
import os, sys
from pathlib import Path
os.environ["POLARS_MAX_THREADS"] = "2"
group, file, warm, out = sys.argv[1:]
import cohortlib as cl
cl.termina.cohorts(warm), cl.termina.cohorts(warm, max_memory="64MiB")  # compilation takes memory of its own
(Path(group) / "cgroup.procs").write_text(str(os.getpid()))
cl.termina.cohorts(file).write_parquet(out)
"""


@contextmanager
def control_group(size):
    """Make a control group with limited memory, version 1 or 2; skip where the machine does not allow one."""
    root = Path("/sys/fs/cgroup")
    base, name = (root / "memory", "memory.limit_in_bytes") if (root / "memory").is_dir() else (root, "memory.max")
    group = base / f"cohortlib-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    try:
        try:
            (group / name).write_text(str(size))
        except OSError as error:
            pytest.skip(f"memory of a control group cannot be limited: {error.strerror}")
        yield group
    finally:
        for _ in range(50):  # until its last process has ended
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                break


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_container_that_is_smaller_than_the_rows(tmp_path):
    rows = 12_000_000  # 290 MB in memory, and more while they are read
    at = pl.int_range(rows, dtype=pl.Int64)
    days = pl.datetime(2024, 1, 1) + pl.duration(minutes=at % 500_000)
    file, warm, out = (tmp_path / f"{name}.parquet" for name in ("rows", "warm", "table"))
    frame = pl.select(user_id=at * 7919 % 600_011, timestamp=days, amount=(at % 90).cast(pl.Float64) - 5.5)
    frame.write_parquet(file, row_group_size=500_000)
    frame.head(2_000_000).write_parquet(warm, row_group_size=500_000)
    with control_group(160 << 20) as group:
        arguments = [sys.executable, "-c", LIMITED, *map(str, (group, file, warm, out))]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "killed: too much memory"
    assert_frame_equal(pl.read_parquet(out), cl.termina.cohorts(frame), check_exact=True)
