"""Options of `pytest benchmarks`."""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", type=float, default=1_000_000, help="number of generated rows")
    parser.addoption("--threads", type=int, default=os.cpu_count(), help="number of threads of every contender")


def pytest_configure(config: pytest.Config) -> None:
    # polars reads this once, on import; the test modules are imported later.
    os.environ["POLARS_MAX_THREADS"] = str(config.getoption("--threads"))


def pytest_xdist_auto_num_workers() -> int:
    """Run benchmarks one after the other: a second one at the same time would change the first one's times."""
    return 0


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rows"))


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--threads")
