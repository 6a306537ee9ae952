"""What does not fit in memory goes to disk; the table cannot tell."""

import pytest

from cohortlib import spilling


@pytest.fixture(params=[1, 3, 1000], ids=["a row a run", "three rows a run", "one run"], autouse=True)
def capacity(request, monkeypatch):
    """The rows of a run; and a part has few."""
    monkeypatch.setattr(spilling.Plan, "capacity", lambda plan, extras: request.param)
    monkeypatch.setattr(spilling, "_PART", 4)
    monkeypatch.setattr(spilling, "_SMALL", 4)
    return request.param


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where rows go; nothing stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.iterdir())
