"""Number of drawn cases, parallel runs, temporary folders in memory, and the real data beside the repository."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Every profile but "hunt" draws the same cases in every run and on every machine, so no run fails by chance.
settings.register_profile(
    "default",
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=5)
settings.register_profile("ci", settings.get_profile("default"), max_examples=50)
settings.register_profile(
    "hunt", settings.get_profile("default"), max_examples=2000, derandomize=False, print_blob=True
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)

KINDS = ("unit", "search", "disk", "process", "spark", "browser", "docs")  # described in pyproject.toml
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"

# Each of these files is run by one worker: two compile the kernels of one vendor each, which the others then load from
# numba's cache, and the rest start Spark, a browser or Sphinx. (The marker xdist_group does not work with pytest 9.2.)
TOGETHER = ("test_termina.py", "test_adapty.py", "test_spark.py", "test_report_browser.py", "test_site.py")

# Temporary folders of tests are in memory where Linux has room for them there.
MEMORY = Path("/dev/shm")  # noqa: S108
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Read Parquet in batches of one row group, however small: the files of tests would be one batch."""
    monkeypatch.setattr("cohortlib.read.parquet.FULL", 1)
    monkeypatch.setattr("cohortlib.read.parquet._SMALL", 0)
    monkeypatch.setattr("cohortlib.read.row_groups.SLICE", 1)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Compile kernels for tables of any size; tests/test_jit.py compares them with plain Python."""
    monkeypatch.setattr("cohortlib.engine.jit.INTERPRETER.patience", 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Run a single test file without workers: it would end before they have started."""
    files = [Path(argument.split("::")[0]) for argument in config.args]
    return 0 if len(files) == 1 and files[0].is_file() else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker one test after the other, but the files of ``TOGETHER`` whole, and those first."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return file if file.rpartition("/")[2] in TOGETHER else nodeid

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the examples in docstrings; every other test states its kind in its file. Skip what .ci/run alone runs."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker("docs")
        if item.get_closest_marker("ci") and PROFILE not in ("ci", "hunt"):
            item.add_marker(pytest.mark.skip(reason="one of many alike, which .ci/run runs (HYPOTHESIS_PROFILE=ci)"))
    unmarked = {item.path.name for item in items if not any(item.get_closest_marker(kind) for kind in KINDS)}
    if unmarked:
        raise pytest.UsageError(f"{', '.join(sorted(unmarked))}: no marker. Expected pytestmark with one of {KINDS}")


@pytest.fixture(autouse=True)
def drawn_cases_are_not_synced(request, monkeypatch):
    """Drawn tests write thousands of small files; tests about durability draw nothing."""
    if getattr(getattr(request, "function", None), "is_hypothesis_test", False):
        monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def disk_folder():
    """Return a new temporary folder on disk, for tests about durability."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shared():
    """Return the folder of real data; skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the real data (../shared/data) are not beside this repository")
    return SHARED
