"""Imports point down the layers, and importing the package loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cohortlib

pytestmark = pytest.mark.unit

PACKAGE = Path(cohortlib.__file__).parent

LAYERS = (
    ("errors", "literals", "samples"),
    ("forks",),
    ("periods", "signatures"),
    ("fields",),
    ("engine",),
    ("read", "network"),
    ("transactions", "adapty"),
    ("termina",),
    ("spark", "show"),
    ("compare",),
    ("cli",),
    ("__main__",),
)
"""Folders and modules of the package, lowest first. Each imports from lower layers and from itself only."""

LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
CLIENTS = ("network", "termina.client", "adapty.client")
# What clients check requests with and return; none of these loads the engine.
ANSWERS = ("termina.frames", "adapty.request", "adapty.validation", "adapty.answer")


def imports(module):
    """List the modules of the package that a module imports, anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = [name.removeprefix("cohortlib.") for name in names if name.startswith("cohortlib.")]
    return {
        max((found for found in (name, name.rpartition(".")[0]) if found in MODULES), default="") for name in inside
    }


IMPORTS = {module: imports(module) - {""} for module in MODULES}


def layer(module):
    """Return the folder or module directly below the package."""
    return module.partition(".")[0]


def inside(module, folders):
    """Check whether a module lies in one of some folders."""
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def test_imports_point_down():
    up = [
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if module != "__init__" and layer(other) != layer(module) and LEVEL[layer(other)] >= LEVEL[layer(module)]
    ]
    assert not up


def test_imports_have_no_circle():
    waiting = dict(IMPORTS)
    while ready := [module for module, others in waiting.items() if not others & set(waiting) - {module}]:
        for module in ready:
            del waiting[module]
    assert not waiting


def test_clients_import_no_engine_and_nothing_imports_them():
    for module, others in IMPORTS.items():
        if inside(module, CLIENTS):
            allowed = (*CLIENTS, *ANSWERS, "errors", "fields", "literals", "periods")
            assert all(inside(other, allowed) for other in others), module
        elif layer(module) not in ("compare", "cli") and not module.endswith("__init__"):
            assert not any(inside(other, CLIENTS) for other in others), module


def test_folders_have_a_docstring():
    for folder in {path.parent for path in MODULES.values()}:
        if len(list(folder.glob("*.py"))) > 4:  # three modules and __init__
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder


def test_modules_and_functions_are_short():
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if "kernels" in module.split("."):
            continue
        assert text.count("\n") <= 410, module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = node.body[0]
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node):
                    lines -= doc.end_lineno - doc.lineno + 1
                assert lines <= 70, f"{module}.{node.name}"


def test_kernels_import_no_frames():
    for module, path in MODULES.items():
        if "kernels" in module.split("."):
            assert "import polars" not in path.read_text(encoding="utf-8")


def test_numba_is_imported_by_the_first_kernel_that_compiles():
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", None) or ""]
            heavy = [name for name in names if name.partition(".")[0] in ("numba", "llvmlite")]
            assert not heavy, f"{module} imports {heavy}: take njit from cohortlib.engine.jit"


def test_import_is_light():
    code = "import sys, cohortlib; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cohortlib" in loaded
    heavy = {"numba", "polars", "nanoarrow", "click", "rich", "altair", "jinja2", "httpx", "httpx2", "pyspark"}
    assert not loaded & heavy


def test_fetching_loads_no_engine():
    code = """
import sys, cohortlib as cl
cl.termina.Client, cl.adapty.Client
print(*({"numba", "cohortlib.transactions.load", "cohortlib.engine.kernels.words", "httpx2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_public_names_exist():
    for name in cohortlib.__all__:
        assert getattr(cohortlib, name) is not None
    assert dir(cohortlib) == cohortlib.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = cohortlib.nothing
