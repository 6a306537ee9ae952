"""Every Python block of the pages runs, in order, and prints the text block that follows it."""

import contextlib
import inspect
import io
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib import fields as registry
from cohortlib.cli.main import cli

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(?:ba)?sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"^```sh\n((?:cohortlib [^\n]*\n)+)```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = re.compile(r"^(`\w+\.(?:csv|tsv|json)`.*:)\n\n((?:```(?:csv|tsv|json)\n[^`]*```\n\n?)+)", re.MULTILINE)
NEEDS = {"spark.md": ("pyspark", "pysail", "dask")}
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def write_files(page):
    """Write the files of a page into this folder: blocks after a line that begins with their names."""
    text = page.read_text(encoding="utf-8")
    for line, blocks in FILES.findall(text):
        names = re.findall(r"`([\w.]+\.(?:csv|tsv|json))`", line)
        contents = re.findall(r"```\w+\n(.*?)^```\n", blocks, re.MULTILINE | re.DOTALL)
        for name, content in zip(names, contents, strict=False):
            Path(name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_follows_them(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_files(page)
    for commands, expected in OUTPUT.findall(page.read_text(encoding="utf-8")):
        printed = ""
        for line in commands.splitlines():
            result = CliRunner().invoke(cli, shlex.split(line)[1:], env={"COLUMNS": "100"})
            assert result.exit_code == 0, result.output
            printed += result.output
        assert printed == expected, commands


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks(page, monkeypatch, tmp_path):
    for module in NEEDS.get(page.name, ()):
        pytest.importorskip(module, reason=f"{module} is not installed (extra ci)")
    monkeypatch.chdir(tmp_path)
    write_files(page)
    names = {"__name__": page.stem}
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + block["code"], str(page), "exec"), names)
        if block["output"] is not None:
            assert printed.getvalue() == block["output"], f"{page.name}, line {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_are_known(page):
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            name, *words = shlex.split(line.split("|")[0], comments=True) or [""]
            if name != "cohortlib":
                continue
            command = cli
            while words and hasattr(command, "commands"):
                assert words[0] in command.commands, line
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert {word for word in words if word.startswith("-") and word != "-"} <= known, line


def test_readme_shows_two_commands():
    commands = re.findall(r"^python3 -m venv .*$", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    assert [command.rsplit("/", 1)[1] for command in commands] == ["cohortlib demo", "pytest"]


def missing(page, names):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [name for name in names if f"`{name}`" not in text]


def tables(page, heading):
    """Return the rows of the first table after a text, without its header, as lists of cells."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(heading)[2]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def plain(cell):
    return cell.replace("\\|", "|").replace("\u2212", "-").replace("`", "").replace("*", "")


def check_fields(rows, table):
    """Check that the rows (fields, type, definition) are those of the registry, with its types and formulas."""
    names = [re.findall(r"`(\w+)`", cell) for cell, _, _ in rows]
    assert sorted(name for group in names for name in group) == sorted(table)
    for group, (_, dtype, definition) in zip(names, rows, strict=True):
        assert {table[name].dtype for name in group} == {dtype}, group
        if len(group) == 1:
            assert table[group[0]].formula in plain(definition), group


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## `cohorts`: one row", registry.COHORTS),
        ("## `customer_cohorts`: one row", registry.CUSTOMER_COHORTS),
        ("`user_accounting`, one row", registry.USER_ACCOUNTING),
        ("`growth_accounting`, one row", registry.GROWTH_ACCOUNTING),
    ],
)
def test_definitions_have_the_fields_types_and_formulas_of_the_registry(heading, table):
    check_fields(tables("definitions.md", heading), table)


def test_definitions_have_the_fields_of_concentration():
    rows, frame = {}, None
    for name, *row in tables("definitions.md", "`concentration`, an object with three frames"):
        frame = name.strip("`") or frame
        rows.setdefault(frame, []).append(row)
    assert list(rows) == list(registry.CONCENTRATION)
    for frame, table in registry.CONCENTRATION.items():
        check_fields(rows[frame], table)


@pytest.mark.parametrize(
    ("call", "table"),
    [(cl.termina.cohorts, registry.COHORTS), (cl.termina.customer_cohorts, registry.CUSTOMER_COHORTS)],
)
def test_docstrings_have_the_fields_types_and_formulas_of_the_registry(call, table):
    listed = re.findall(r"- ``(\w+)`` \((\w+)\): (.*)", call.__doc__)
    assert [(name, dtype) for name, dtype, _ in listed] == [(name, field.dtype) for name, field in table.items()]
    assert all(table[name].formula in text for name, _, text in listed)


def test_adapty_page_has_the_types_of_the_registry():
    table = registry.SEGMENTS | registry.VALUES
    rows = dict(tables("adapty.md", "### Fields of both types"))
    for dtype in ("String", "Int64", "Boolean"):
        assert {name for name, field in table.items() if field.dtype == dtype} == set(
            re.findall(r"`(\w+)`", rows[dtype])
        )
    parts = {part.name: part.dtype for part in table["predict"].parts}
    assert parts == {"revenue_usd": "Float64", "ltv_usd": "Float64", "months": "Int64"}
    assert re.findall(r"`(\w+)`", rows["Struct"]) == ["predict", *parts]
    assert all(name.endswith(("_usd", "_relative")) for name, field in table.items() if field.dtype == "Float64")


def test_plots_page_has_the_fields_and_quotients_of_the_registry():
    calls = {row[0]: re.findall(r'`"(\w+)"`', row[1]) for row in tables("plots.md", "when it is the last expression")}
    quotients = registry.quotients(registry.COHORTS)
    assert calls["`heatmap(table, value)`"] == list(registry.by_age(registry.COHORTS))
    assert calls["`retention_curves(table, value)`"] == list(quotients)
    means = {plain(field): plain(mean) for field, mean in tables("plots.md", "## The weighted mean")}
    assert {name: f"Σ {above} / Σ {below}" for name, (above, below) in quotients.items()}.items() <= means.items()


def test_termina_page_defines_every_field_and_setting():
    tables = [*registry.TABLES.values(), *registry.CONCENTRATION.values()]
    calls = [cl.termina.cohorts, cl.termina.customer_cohorts, cl.termina.growth_accounting]
    names = [
        *(name for table in tables for name in table),
        *(name for c in calls for name in inspect.signature(c).parameters),
    ]
    assert missing("definitions.md", names) == []


def test_adapty_page_defines_every_field_and_setting():
    asked = [field.name for part in (cl.adapty.Request, cl.adapty.Conventions) for field in fields(part)]
    asked = [name for name in asked if name not in ("date", "compare_date", "filters")]
    asked += ["filters.date", "filters.compare_date", *(field.name for field in fields(cl.adapty.Filters))]
    answered = [*registry.SEGMENTS, *registry.VALUES, *(part.name for part in registry.SEGMENTS["predict"].parts)]
    settings = [
        name for name in inspect.signature(cl.adapty.cohort).parameters if name not in ("request", "conventions")
    ]
    assert missing("adapty.md", [*asked, *answered, *settings]) == []
