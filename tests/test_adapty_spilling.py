"""Events that take more memory than there is give what they give in memory, and leave nothing behind."""

import tempfile
from contextlib import contextmanager

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies_adapty import cases
from test_adapty_laws import chunked
from test_adapty_parts import same

from cohortlib import memory
from cohortlib.adapty import spilling, tables

few = settings(max_examples=settings().max_examples // 2)


@contextmanager
def little_memory(batch=3):
    """Let any amount of memory do, and batches and files be short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "LEAST", 1)
        patch.setattr(tables, "_BATCH", batch)
        patch.setattr(spilling, "_LEAST", 1)
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
    parts = spilling._Spilled.parts

    def counted(self):
        for one in parts(self):
            counts.append(one)
            yield one

    monkeypatch.setattr(spilling._Spilled, "parts", counted)
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
