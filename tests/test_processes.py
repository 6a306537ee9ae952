"""Work in other processes, in threads and beside asyncio, again and again."""

import asyncio
import multiprocessing
import os
import threading
import warnings
from datetime import date
from pathlib import Path

import polars as pl
import pytest

import cohortlib as cl
from cohortlib.errors import CohortlibError

pytestmark = pytest.mark.process

ROWS = pl.DataFrame(
    {
        "user_id": [user % 7 for user in range(40)],
        "timestamp": [date(2026, 1 + user % 5, 1) for user in range(40)],
        "amount": range(40),
    }
)


def answer(pipe, path):
    """Send the number of rows of a table, or the error."""
    try:
        pipe.send(cl.termina.cohorts(path).height)
    except CohortlibError as error:
        pipe.send(str(error))


def run(method, path):
    """Compute a table in another process; return what it sends."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs, path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of a fork beside threads
        process.start()
    try:
        assert ours.poll(60), f"a process by {method!r} does not answer"
        return ours.recv()
    finally:
        process.kill()
        process.join()


@pytest.fixture
def path(tmp_path):
    ROWS.write_parquet(tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_started_anew(method, path):
    expected = cl.termina.cohorts(path).height
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("no such start method here")
    assert run(method, path) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_refused(path):
    ROWS.lazy().group_by("user_id").agg(pl.col("amount").sum()).collect()
    found = run("fork", path)
    assert found.startswith("this process was forked from one that used polars")
    assert "multiprocessing.get_context('spawn')" in found


def test_threads_and_tasks_agree(path):
    expected = cl.termina.cohorts(path)
    tables = []
    threads = [threading.Thread(target=lambda: tables.append(cl.termina.cohorts(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def tasks():
        return await asyncio.gather(*(asyncio.to_thread(cl.termina.cohorts, path) for _ in range(4)))

    tables += asyncio.run(tasks())
    assert len(tables) == 8
    assert all(table.equals(expected) for table in tables)


@pytest.mark.ci
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_thousand_calls_leave_nothing_behind(path):
    def used():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    def calls(count):
        for _ in range(count):
            cl.termina.cohorts(ROWS)

    calls(200)
    memory, files, threads = used()
    calls(1000)
    assert (used()[1], used()[2]) == (files, threads)
    assert used()[0] - memory < 20 << 20
