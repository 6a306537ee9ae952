"""Without a folder for compiled code, kernels are compiled in each process, with one warning."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numba.core.caching
import pytest

import cohortlib
from cohortlib.engine import jit
from cohortlib.errors import CohortlibWarning


@pytest.mark.unit
def test_kernels_compile_without_a_cache(monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    jit._warn_of_no_cache.cache_clear()
    with pytest.warns(CohortlibWarning, match="NUMBA_CACHE_DIR"):
        assert jit.njit(nogil=True, cache=True)(lambda x: x + 1).compiled(1) == 2
    with warnings.catch_warnings():  # only once
        warnings.simplefilter("error")
        assert jit.njit(nogil=True, cache=True)(lambda x: x + 2).compiled(1) == 3


CODE = """
import cohortlib as cl, numpy as np, polars as pl
from datetime import date
from cohortlib.engine import jit
from cohortlib.engine.kernels import money
rows = pl.DataFrame({"user_id": [1, 2, 1], "timestamp": [date(2026, 1, 5)] * 3, "amount": [1, 2, 3]})
jit.INTERPRETER.patience = 100
print(cl.termina.cohorts(rows)["ltv"].to_list())
jit.INTERPRETER.patience = 0
print(money.magnitude(np.array([1, -2])))
"""


@pytest.mark.process
def test_a_package_that_cannot_be_written(tmp_path):
    """Neither the package nor the home folder can be written, as in many containers."""
    package = tmp_path / "site" / "cohortlib"
    package.parent.mkdir()
    source = Path(cohortlib.__file__).parent
    for folder, _, files in os.walk(source):
        target = package / Path(folder).relative_to(source)
        if target.name == "__pycache__":
            continue
        target.mkdir()
        for file in files:
            (target / file).write_bytes((Path(folder) / file).read_bytes())
        (target / "__pycache__").write_text("a file, so that no folder can be here")
    (tmp_path / "home").write_text("a file")
    blocked = str(tmp_path / "home" / "none")
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(package.parent), "HOME": blocked, "XDG_CACHE_HOME": blocked,
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "[3.0]\n(0, 3)\n", done.stderr
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
