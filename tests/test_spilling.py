"""What does not fit in memory goes to disk; the table cannot tell."""

from datetime import date

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from strategies import cases, quietly, shaped

import cohortlib as cl
from cohortlib import spilling
from cohortlib.errors import DataError, SettingError


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
