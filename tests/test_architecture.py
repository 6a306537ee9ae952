"""The arrows between modules point one way, and importing the package brings nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cohortlib

pytestmark = pytest.mark.unit

PACKAGE = Path(cohortlib.__file__).parent

# From the ground up: each may import what stands before it.
ORDER = [
    "errors",
    "secrecy",
    "transport",
    "exchange",
    "periods",
    "replies",
    "kernels",
    "sources",
    "schema",
    "texts",
    "partitions",
    "records",
    "memory",
    "storage",
    "settings",
    "activity",
    "parts",
    "netting",
    "stores",
    "spilling",
    "preparing",
    "cohorts",
    "metrics",
    "termina.fields",
    "termina.replies",
    "termina.calls",
    "termina.fetch",
    "customers",
    "sinks",
    "termina.adding",
    "termina.state",
    "termina.compute",
    "spark.frames",
    "spark.termina",
    "shading",
    "triangles",
    "plotting.cells",
    "plotting.drawing",
    "plotting.heat",
    "plotting.curves",
    "plotting.bars",
    "adapty.kernels",
    "adapty.request",
    "adapty.filters",
    "adapty.columns",
    "adapty.tables",
    "adapty.revenuecat",
    "adapty.events",
    "adapty.question",
    "adapty.rows",
    "adapty.sums",
    "adapty.forecast",
    "adapty.fields",
    "adapty.replies",
    "adapty.answer",
    "adapty.calls",
    "adapty.fetch",
    "adapty.composing",
    "adapty.parts",
    "adapty.spilling",
    "adapty.compute",
    "spark.adapty",
    "pages.rendering",
    "reconciling.tolerances",
    "reconciling.files",
    "reconciling.sides",
    "reconciling.pairing",
    "reconciling.words",
    "reconciling.page",
    "reconciling.compare",
    "reporting.sheets",
    "reporting.findings",
    "reporting.pictures",
    "reporting.page",
    "reporting.report",
    "explaining.causes",
    "explaining.zones",
    "explaining.search",
    "explaining.termina.faults",
    "explaining.termina.evidence",
    "explaining.termina.maker",
    "explaining.adapty.plans",
    "explaining.adapty.amounts",
    "explaining.adapty.evidence",
    "explaining.adapty.maker",
    "explaining.explanation",
    "explaining.explain",
    "terminal",
    "demo",
    "commands.failures",
    "commands.delivery",
    "commands.options",
    "commands.termina",
    "commands.adapty",
    "commands.reconcile",
    "commands.explain",
    "commands.fetch",
    "commands.prepare",
    "commands.state",
    "commands.report",
    "cli",
    "__main__",
]


def named(path):
    """Name a module as its place below the package: "termina", "adapty.request"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(module):
    """Name the modules of this package that one of them imports, anywhere in it."""
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".")[1:] for name in names if name.startswith("cohortlib.")]
    return {".".join(part[:n]) for part in parts for n in (1, 2, 3)}


def test_every_module_has_its_place():
    assert {named(path) for path in PACKAGE.rglob("*.py") if path.stem != "__init__"} == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_arrows_point_down(module):
    below = set(ORDER[: ORDER.index(module)])
    assert imported(module) & set(ORDER) <= below


def test_vendors_stand_side_by_side():
    for module in ORDER:
        if module.startswith("adapty."):
            assert not imported(module) & {"cohorts", "termina"}


def test_fetching_and_computing_stand_side_by_side():
    """What talks to the vendors brings no engine, and the engine no HTTP."""
    code = """
import sys, cohortlib as cl
cl.termina.fetch_cohorts, cl.adapty.fetch_cohort
print(*({"numba", "cohortlib.cohorts", "cohortlib.kernels", "httpx2", "stamina"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    network = {"secrecy", "transport", "exchange", "termina.calls", "termina.fetch", "adapty.calls", "adapty.fetch"}
    engine = {module for module in ORDER if module.rpartition(".")[2] in ("kernels", "cohorts", "compute", "customers")}
    for module in ORDER:
        if module in network:
            assert not imported(module) & engine
        elif not module.startswith("commands."):
            assert not imported(module) & network


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("kernels.py")), ids=named)
def test_kernels_know_no_frames(path):
    text = path.read_text(encoding="utf-8")
    assert "polars" not in {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)
                            for alias in node.names}  # fmt: skip


def test_import_is_light():
    code = "import sys, cohortlib; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cohortlib" in loaded
    heavy = {"numba", "polars", "nanoarrow", "click", "rich", "altair", "jinja2", "httpx", "httpx2", "pyspark"}
    assert not loaded & heavy


def test_public_names_exist():
    for name in cohortlib.__all__:
        assert getattr(cohortlib, name) is not None
    assert dir(cohortlib) == cohortlib.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = cohortlib.nothing


@pytest.mark.parametrize("collecting", [True, False])
def test_imports_leave_the_garbage_collector_as_it_was(collecting):
    switch = "enable" if collecting else "disable"
    code = f"import gc, cohortlib; gc.{switch}(); cohortlib.termina; print(gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(collecting)
