"""Small tables run as plain Python, large ones compiled, and both return the same to the bit."""

import subprocess
import sys
import warnings
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
import strategies
import strategies_adapty
from hypothesis import given
from polars.testing import assert_frame_equal

from cohortlib.engine import jit
from cohortlib.errors import CohortlibError
from cohortlib.read.text import parse_units

pytestmark = pytest.mark.unit


@pytest.fixture
def interpreter(monkeypatch):
    fresh = jit.Interpreter()
    monkeypatch.setattr(jit, "INTERPRETER", fresh)
    return fresh


def kernel():
    @jit.njit(nogil=True)
    def total(values, counts, out):
        s = np.uint64(0)
        for i in range(values.size):
            s += values[i]
        out[0] = s
        return s, values.size

    return total


def call(total, rows):
    values, out = np.full(rows, 2**63 + 1, np.uint64), np.zeros(1, np.uint64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numbers wrap without a warning, as in compiled code
        result = total(values, (np.zeros(rows, np.int64), 1), out)
    assert result == ((2**63 + 1) * rows % 2**64, rows)
    assert [type(each) for each in result] == [int, int]
    assert out[0] == result[0]
    return total._compiled is not None


def test_few_rows_run_as_python(interpreter):
    total = kernel()
    assert not call(total, 3)
    assert not call(total, jit.SMALL)
    assert call(total, jit.SMALL + 1)
    assert call(total, 3), "compiled code stays"


def test_patience_ends(interpreter):
    total = kernel()
    assert not call(total, jit.SMALL)
    assert interpreter.patience < jit.PATIENCE
    interpreter.patience = 0
    assert call(total, 3)


def test_buffers_with_room_do_not_count(interpreter):
    rows, room = np.zeros(10), np.zeros(10 * jit.SMALL)
    assert interpreter.takes((rows, 3, (rows, room)))
    assert not interpreter.takes((rows, (room, room)))


def test_kernels_within_a_kernel_run_as_python(interpreter):
    inner = kernel()

    @jit.njit(nogil=True)
    def outer(values, out):
        return inner(values, (values, 1), out)

    values = np.ones(3, np.uint64)
    assert outer(values, np.zeros(1, np.uint64)) == (3, 3)
    assert outer._compiled is inner._compiled is None
    interpreter.patience = 0
    assert outer(values, np.zeros(1, np.uint64)) == (3, 3)
    assert outer._compiled is not None
    assert inner._compiled is not None


def test_an_error_ends_plain_running(interpreter):
    @jit.njit(nogil=True)
    def fails(values):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(np.zeros(3))
    assert call(kernel(), jit.SMALL + 1)


def test_a_small_table_loads_no_numba():
    code = """
import sys, datetime, polars as pl, cohortlib as cl
rows = pl.DataFrame({"user_id": [1, 2], "timestamp": datetime.date(2026, 1, 5), "amount": [1.0, 2.0]})
cl.termina.cohorts(rows), cl.termina.customer_cohorts(rows)
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@contextmanager
def as_python():
    """Run all kernels of this thread as Python, compiled or not."""
    jit._running.plain = True
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        jit._running.plain = False


def outcome(ask, *arguments):
    """Return a result, or the text of its error."""
    try:
        return ask(*arguments, threads=1)
    except CohortlibError as error:
        return str(error)


@given(case=strategies.cases())
@pytest.mark.parametrize("table", ["cohorts", "customer_cohorts"])
def test_tables_are_the_same_as_python(case, table):
    compiled = outcome(case.ask, table)
    with as_python():
        plain = outcome(case.ask, table)
    if isinstance(compiled, str):
        assert plain == compiled
    else:
        assert_frame_equal(plain, compiled, check_exact=True)


@given(case=strategies_adapty.cases())
def test_answers_are_the_same_as_python(case):
    compiled = outcome(case.ask)
    with as_python():
        plain = outcome(case.ask)
    if isinstance(compiled, str):
        assert plain == compiled
    else:
        strategies_adapty.assert_same(plain.to_dict(), compiled.to_dict())


def test_amounts_at_the_limit_are_the_same_as_python():
    limits = ["9223372036854.775807", "9223372036854.775808", "-9223372036854.775808", "99999999999999.9", "1"]
    texts = pl.Series(limits)
    compiled = parse_units(texts, ".", 6)
    with as_python():
        plain = parse_units(texts, ".", 6)
    assert sorted(plain.too_large) == sorted(compiled.too_large) == sorted(texts[1:4])
    assert plain.units.tolist() == compiled.units.tolist()
