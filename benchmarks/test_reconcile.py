"""Compare two tables: the contenders agree and are timed."""

import pytest

from benchmarks.reconcile import CONTENDERS, ORDERS, sides


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CONTENDERS)
def test_reconcile(benchmark, rows, threads, name, order):
    local, remote = sides(rows, order)
    counts = benchmark.pedantic(CONTENDERS[name], (local, remote, threads), rounds=3, warmup_rounds=1)
    assert counts == (*[local.height] * 5, local.height - 1)
