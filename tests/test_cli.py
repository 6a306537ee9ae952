"""The command line: input, output and errors, and nothing else on either stream."""

import inspect
import io
import json
import os
import re
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import click
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

import cohortlib
from cohortlib import __main__, termina
from cohortlib.cli import main, messages, output
from cohortlib.cli import termina as commands
from cohortlib.errors import Arg, CohortlibError, CohortlibWarning, DataError

pytestmark = pytest.mark.process

# The worked example of the docs: c is active in March only.
ROWS = """\
user_id,timestamp,amount
a,2026-01-05,100
a,2026-02-10,80
a,2026-03-03,-10
b,2026-01-20,50
b,2026-03-01,70
c,2026-02-02,30
c,2026-02-20,-40
c,2026-03-15,60
"""
TABLES = {"cohorts": termina.cohorts, "customer-cohorts": termina.customer_cohorts}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "orders.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path


def run(*args, **env):
    return CliRunner().invoke(main.cli, args, env=env, prog_name="cohortlib")


def good(*args, **env):
    result = run(*args, **env)
    assert (result.exit_code, without_report(result.stderr)) == (0, "")
    return result


def without_report(text):
    """Leave out the line that says what a command wrote."""
    return re.sub(r"(Prepared|Built|Updated|Compacted) .* rows.*\n|Updated .* nothing.*\n", "", text)


def failing(*args):
    """Run what must fail, check that it says so in one line, and give the line."""
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


def process(*args, **options):
    """Run the command line as a process of its own."""
    command = [sys.executable, "-m", "cohortlib", *args]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, **options)


def orders():
    return pl.read_csv(ROWS.encode(), try_parse_dates=True)


def read(data, kind):
    if kind == "parquet":
        return pl.read_parquet(io.BytesIO(data))
    return pl.read_csv(data) if kind == "csv" else pl.DataFrame(json.loads(data), infer_schema_length=None)


# --- tables out ---


@pytest.mark.parametrize("kind", commands.FORMATS)
@pytest.mark.parametrize("table", TABLES)
def test_file(folder, table, kind):
    good("termina", table, "orders.csv", "-o", f"out.{kind}")
    assert_frame_equal(read((folder / f"out.{kind}").read_bytes(), kind), TABLES[table](orders()))
    assert sorted(path.name for path in folder.iterdir()) == ["orders.csv", f"out.{kind}"]


@pytest.mark.parametrize("kind", commands.FORMATS)
@pytest.mark.parametrize("table", TABLES)
def test_standard_output(folder, table, kind):
    result = good("termina", table, "orders.csv", "--format", kind)
    assert_frame_equal(read(result.stdout_bytes, kind), TABLES[table](orders()))
    assert good("termina", table, "orders.csv", "--format", kind, "-o", "-").stdout_bytes == result.stdout_bytes


def test_a_parquet_file_of_customers_is_written_piece_by_piece(folder, monkeypatch):
    monkeypatch.setattr(termina, "customer_cohorts", raising(AssertionError("the table is never whole")))
    good("termina", "customer-cohorts", "orders.csv", "-o", "table", "--format", "parquet", "--top-n", "2")
    monkeypatch.undo()
    assert_frame_equal(pl.read_parquet(folder / "table"), termina.customer_cohorts(orders(), top_n=2))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["orders.csv", "-o", "nowhere/x.parquet"], "cannot write nowhere/x.parquet: No such file or directory"),
        (["orders.csv", "-o", "orders.csv", "--format", "parquet"], "it is a file of the source orders.csv"),
        (["orders.csv", "-o", "x.parquet", "--top-n", "2", "--rank-by", "age"], "--rank-by age"),
    ],
)
def test_a_parquet_file_of_customers_that_is_refused(folder, args, expected):
    assert expected in failing("termina", "customer-cohorts", *args)
    assert [path.name for path in folder.iterdir()] == ["orders.csv"]


def test_csv_is_the_default(folder):
    text = good("termina", "cohorts", "orders.csv").stdout
    assert text == good("termina", "cohorts", "orders.csv", "-o", "-").stdout
    assert text.splitlines()[:2] == [
        "cohort,period,cohort_size,cohort_size_amount,active_users,logo_retention,amount,amount_retention,ltv",
        "2026-01,0,2,150.0,2,1.0,150.0,1.0,75.0",
    ]


def test_format_outdoes_the_ending(folder):
    good("termina", "cohorts", "orders.csv", "-o", "table.txt", "--format", "json")
    assert json.loads((folder / "table.txt").read_text())[0]["cohort"] == "2026-01"


def test_ending_in_capitals(folder):
    good("termina", "cohorts", "orders.csv", "-o", "TABLE.CSV")
    assert (folder / "TABLE.CSV").read_text().startswith("cohort,")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_slices_make_one_table(folder, monkeypatch, kind):
    whole = good("termina", "customer-cohorts", "orders.csv", "--format", kind).stdout
    monkeypatch.setattr(commands, "SLICE", 2)
    assert good("termina", "customer-cohorts", "orders.csv", "--format", kind).stdout == whole


def test_bytes_that_are_written_in_parts():
    class Reluctant(io.BytesIO):
        def write(self, data):
            return super().write(bytes(data)[:3])

    stream = Reluctant()
    output.write_all([b"0123456789", b"", b"ab"], stream)
    assert stream.getvalue() == b"0123456789ab"


@pytest.mark.parametrize(("kind", "expected"), [("csv", "cohort,period,"), ("json", "[]\n")])
def test_no_cohorts(folder, kind, expected):
    (folder / "free.csv").write_text("user_id,timestamp,amount\na,2026-01-01,0\n")
    result = run("termina", "cohorts", "free.csv", "--format", kind)
    assert result.exit_code == 0
    assert result.stdout.startswith(expected)
    assert len(result.stdout.splitlines()) == 1


def test_glob_and_parquet(folder):
    for name, rows in orders().with_columns(user=pl.col("user_id")).partition_by("user", as_dict=True).items():
        rows.write_parquet(f"part-{name[0]}.parquet")
    assert good("termina", "cohorts", "part-*.parquet").stdout == good("termina", "cohorts", "orders.csv").stdout


# --- settings in ---


@pytest.fixture
def seen(monkeypatch):
    """Catch what reaches the engine."""
    settings = {}
    table = termina.customer_cohorts(orders())

    def compute(source, **given):
        settings.update(given, transactions=source)
        return table

    for name in ("cohorts", "customer_cohorts"):
        monkeypatch.setattr(termina, name, compute)
    monkeypatch.setattr("cohortlib.cli.termina.check_exist", list)
    return settings


@pytest.mark.parametrize(("table", "function"), TABLES.items())
def test_every_setting_is_an_option_with_the_same_default(table, function, seen):
    parameters = inspect.signature(function).parameters.values()
    expected = {parameter.name: parameter.default for parameter in parameters}
    del expected["transactions"], expected["progress"]
    good("termina", table, "x.csv")
    assert seen == expected | {"transactions": "x.csv"}


def test_options_reach_the_engine(seen):
    line = (
        "x.csv --user u --timestamp t --amount m --freq W --timezone Europe/Berlin --week-start sunday "
        "--refunds signed --joined since --before-joined clip --start 2025 --end 2026-02 --complete-only "
        "--nulls drop --decimals 2 --threads 2 --basis cohort_mean --rows active --top-n 3 --rank-by ltv "
        "--ids native --timestamp-format epoch_s --decimal , --assume-zone UTC --normalize strip "
        "--encoding cp1252 --sheet 2 --storage-option aws_region=eu --storage-option key=a=b"
    )
    good("termina", "customer-cohorts", *line.split())
    assert seen == {
        "transactions": "x.csv",
        "user": "u",
        "timestamp": "t",
        "amount": "m",
        "freq": "W",
        "timezone": "Europe/Berlin",
        "week_start": "sunday",
        "refunds": "signed",
        "joined": "since",
        "before_joined": "clip",
        "start": "2025",
        "end": "2026-02",
        "complete_only": True,
        "nulls": "drop",
        "timestamp_format": "epoch_s",
        "decimal": ",",
        "assume_zone": "UTC",
        "normalize": "strip",
        "encoding": "cp1252",
        "sheet": "2",
        "storage_options": {"aws_region": "eu", "key": "a=b"},
        "decimals": 2,
        "threads": 2,
        "basis": "cohort_mean",
        "rows": "active",
        "ids": "native",
        "top_n": 3,
        "rank_by": "ltv",
    }


def choices():
    params = commands.termina.commands["customer-cohorts"].params
    for param in params:
        if isinstance(param.type, click.Choice) and param.name not in ("kind", "show"):
            for value in param.type.choices:
                yield param.opts[0], param.name, value


@pytest.mark.parametrize(("option", "name", "value"), list(choices()))
def test_every_choice_is_known_to_the_engine(folder, option, name, value):
    text = good("termina", "customer-cohorts", "orders.csv", option, value).stdout
    assert text == termina.customer_cohorts(orders(), **{name: value}).write_csv()


def test_several_files_are_one_source(folder):
    lines = ROWS.splitlines(keepends=True)
    for name, rows in (("a.csv", lines[1:4]), ("b.csv", lines[4:])):
        (folder / name).write_text(lines[0] + "".join(rows), encoding="utf-8")
    expected = good("termina", "cohorts", "orders.csv").stdout
    assert good("termina", "cohorts", "a.csv", "b.csv").stdout == expected
    customers = good("termina", "customer-cohorts", "orders.csv").stdout
    assert good("termina", "customer-cohorts", "b.csv", "a.csv").stdout == customers
    good("prepare", "a.csv", "b.csv", "prepared")
    assert good("termina", "cohorts", "prepared").stdout == expected
    good("termina", "state", "build", "a.csv", "state")
    good("termina", "state", "update", "state", "b.csv")
    assert good("termina", "state", "cohorts", "state").stdout == expected
    good("termina", "state", "build", "a.csv", "b.csv", "state")
    assert good("termina", "state", "cohorts", "state").stdout == expected
    good("report", "a.csv", "b.csv", "-o", "page.html")
    assert '<p class="note">From a.csv, b.csv, by month.</p>' in Path("page.html").read_text(encoding="utf-8")
    (folder / "remote.csv").write_text(expected, encoding="utf-8")
    assert "agree without any change" in good("explain", "a.csv", "b.csv", "remote.csv").stdout
    printed = good("inspect", "a.csv", "b.csv").stdout.splitlines()
    assert "cohortlib termina cohorts a.csv b.csv" in printed
    assert "cl.termina.cohorts(['a.csv', 'b.csv'])" in printed
    assert "'prepared' is a prepared form, in a list" in failing("termina", "cohorts", "prepared", "a.csv")
    assert "b.csv" in failing("prepare", "a.csv", "b.csv")  # without a folder
    assert (folder / "b.csv").is_file()
    error = failing("termina", "cohorts", "a.csv", "b.csv", "-o", "b.csv")
    assert error == "cannot write b.csv: it is a file of the source b.csv"


def test_joined_as_a_file_and_as_a_column(folder):
    (folder / "since.csv").write_text("user_id,joined\na,2025-12-31\nb,2026-01-01\nc,2026-01-31\nd,2026-02-01\n")
    text = good("termina", "cohorts", "orders.csv", "--joined", "since.csv").stdout
    joined = pl.read_csv("since.csv", try_parse_dates=True)
    assert text == termina.cohorts(orders(), joined=joined).write_csv()
    orders().join(joined, on="user_id").write_csv("both.csv")
    rows = good("termina", "cohorts", "both.csv", "--joined", "joined").stdout
    assert "2025-12,0,1,0.0,0,0.0,0.0,,0.0" in rows.splitlines()


# --- errors ---


@pytest.mark.parametrize(
    ("given", "hint"), [("customer-cohorts", "termina customer-cohorts"), ("cohort", "adapty cohort")]
)
def test_a_command_of_a_group_is_pointed_to(given, hint):
    assert f"Hint: cohortlib {hint}" in failing(given, "orders.csv")
    assert "Hint" not in failing("cohots", "orders.csv")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["missing.csv"], "missing.csv"),
        (["missing-*.parquet"], "missing-*.parquet"),
        (["orders.csv", "--user", "customer"], "--user"),
        (["orders.csv", "--amount", "user_id", "--user", "amount"], "user_id"),
        (["orders.csv", "--timestamp", "amount", "--amount", "timestamp"], "amount '100' is not a date"),
        (["orders.csv", "--freq", "X"], "'D', 'W', 'M', 'Q', 'A'"),
        (["orders.csv", "--freq", "m"], "'D', 'W', 'M', 'Q', 'A'"),
        (["orders.csv", "--timezone", "Mars"], "--timezone Mars is not a time zone"),
        (["orders.csv", "--end", "soon"], "--end soon"),
        (["orders.csv", "--decimals", "10"], "--decimals"),
        (["orders.csv", "--threads", "0"], "--threads"),
        (["orders.csv", "--joined", "nothing"], "--joined nothing"),
        (["orders.csv", "--unknown"], "--unknown"),
        (["orders.csv", "-o", "table.xlsx"], "Hint: --format csv"),
        (["orders.csv", "-o", "table"], "Hint: --format csv"),
        (["orders.csv", "-o", "nowhere/table.csv"], "cannot write nowhere/table.csv: No such file or directory"),
        (["orders.csv", "-o", ".", "--format", "csv"], "cannot write .: Is a directory"),
        (["orders.csv", "-o", "orders.csv"], "it is a file of the source orders.csv"),
        (["*.csv", "-o", "orders.csv"], "it is a file of the source *.csv"),
        (["orders.csv", "--show", "ltv", "-o", "table.csv"], "--show"),
        (["orders.csv", "--show", "ltv", "--format", "csv"], "--show"),
        (["orders.csv", "--show", "cohort"], "'logo_retention'"),
        (["orders.csv", "other.csv"], "there is no file 'other.csv'"),
        (["orders.csv", "*.csv"], "'orders.csv' twice"),
        (["orders.csv", "--refunds", "all"], "'all' is none of 'net', 'signed', 'drop'. Periods of a user that net"),
        ([], "TRANSACTIONS"),
    ],
)
def test_refused(folder, args, expected):
    assert expected in failing("termina", "cohorts", *args)
    assert [path.name for path in folder.iterdir()] == ["orders.csv"]
    assert (folder / "orders.csv").read_text() == ROWS


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("empty.csv", "", "empty.csv"),
        ("nan.csv", "user_id,timestamp,amount\na,2026-01-01,nan\n", "'nan' is not a number"),
        ("null.csv", "user_id,timestamp,amount\na,2026-01-01,\nb,2026-01-01,1\n", "Hint: --nulls drop"),
        ("text.csv", "user_id,timestamp,amount\na,2026-01-01,much\n", "'much'"),
        ("when.csv", "user_id,timestamp,amount\na,yesterday,1\n", "timestamp"),
        ("false.parquet", "no such thing", "false.parquet"),
        ("orders.txt", ROWS, "orders.txt"),
    ],
)
def test_bad_files(folder, name, text, expected):
    (folder / name).write_text(text)
    assert expected in failing("termina", "cohorts", name)


@pytest.mark.parametrize(
    "args", [["nothing"], ["termina", "nothing"], ["adapty", "nothing"], ["--nothing"], ["demo", "more"]]
)
def test_usage(args):
    failing(*args)


@pytest.mark.parametrize("args", [[], ["termina"], ["adapty"]])
def test_nothing_asked_shows_help(args):
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: cohortlib")


def raising(error):
    def compute(source, **settings):
        raise error

    return compute


def test_names_cannot_break_the_line(folder, monkeypatch):
    monkeypatch.setattr(termina, "cohorts", raising(DataError("user 'a\nb\x1b[31m' is\n  wrong")))
    assert failing("termina", "cohorts", "orders.csv") == "user 'a b?[31m' is wrong"


def test_unexpected_error(folder, monkeypatch):
    monkeypatch.setattr(termina, "cohorts", raising(ZeroDivisionError("by zero")))
    line = failing("termina", "cohorts", "orders.csv")
    assert line == "unexpected ZeroDivisionError: by zero. Hint: cohortlib --debug ... prints the traceback"


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), CohortlibError("odd")])
def test_debug_shows_the_traceback_and_the_line(folder, monkeypatch, error):
    monkeypatch.setattr(termina, "cohorts", raising(error))
    result = run("--debug", "termina", "cohorts", "orders.csv")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert result.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("error", [DataError("late"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_leaves_the_old_file(folder, monkeypatch, error):
    (folder / "table.csv").write_text("old")
    monkeypatch.setattr(termina, "cohorts", raising(error))
    result = run("termina", "cohorts", "orders.csv", "-o", "table.csv")
    assert result.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert (folder / "table.csv").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == ["orders.csv", "table.csv"]


@pytest.mark.parametrize(
    ("hint", "printed"),
    [
        ((Arg("rank_by"), " needs ", Arg("top_n")), "--rank-by needs --top-n"),
        ((Arg("nulls", "drop"), ", ", Arg("timezone", "Mars Base")), "--nulls drop, --timezone 'Mars Base'"),
        ((Arg("decimals", 7), " or ", Arg("threads", 2)), "--decimals 7 or --threads 2"),
        ((Arg("complete_only", True), ", ", Arg("joined", None)), "--complete-only, --joined"),
        ((Arg("source", "x"), " is not an option"), "source='x' is not an option"),
        ((Arg("restart_per_product", False), " or ", Arg("predict", True)), "--restart-per-product no or --predict"),
        ((Arg("averages", "per_period"), ", ", Arg("as_of", None)), "--averages per_period, --as-of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_in_messages_become_options(hint, printed):
    error = DataError("column 'x=1' is wrong", expected="1", hint=hint)
    with main.cli.make_context("cohortlib", ["demo"]):
        assert messages.error_text(error) == f"column 'x=1' is wrong. Expected 1. Hint: {printed}"


# --- warnings ---


def test_warnings_are_lines(folder):
    (folder / "null.csv").write_text("user_id,timestamp,amount\na,2026-01-01,\nb,2026-01-01,5\n")
    result = run("termina", "cohorts", "null.csv", "--nulls", "drop")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout.startswith("cohort,")


def test_other_warnings_are_left_to_python(recwarn):
    warnings.simplefilter("always")
    with messages.printed_warnings():
        warnings.warn("of another kind", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["of another kind"]


def test_a_warning_is_printed_once(capsys):
    with messages.printed_warnings():
        for _ in range(2):
            warnings.warn(CohortlibWarning("3 rows dropped"), stacklevel=1)
    assert capsys.readouterr().err == "warning: 3 rows dropped\n"


# --- files are replaced, not rewritten ---


def test_a_file_keeps_its_mode(folder):
    target = folder / "table.csv"
    target.write_text("old")
    target.chmod(0o640)
    good("termina", "cohorts", "orders.csv", "-o", "table.csv")
    assert target.read_text().startswith("cohort,")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_link_stays_a_link(folder):
    (folder / "real.csv").write_text("old")
    (folder / "table.csv").symlink_to("real.csv")
    good("termina", "cohorts", "orders.csv", "-o", "table.csv")
    assert (folder / "table.csv").is_symlink()
    assert (folder / "real.csv").read_text().startswith("cohort,")


def test_a_device_is_written_to(folder):
    if not Path("/dev/null").exists():
        pytest.skip("no such device here")
    good("termina", "cohorts", "orders.csv", "-o", "/dev/null", "--format", "csv")
    assert not Path("/dev/null").is_file()


def test_a_full_disk(folder):
    if not Path("/dev/full").exists():
        pytest.skip("no such device here")
    for kind in commands.FORMATS:
        for table in TABLES:
            line = failing("termina", table, "orders.csv", "-o", "/dev/full", "--format", kind)
            assert line == "cannot write /dev/full: No space left on device"
    for args in (["termina", "cohorts", "orders.csv"], ["demo"], ["--help"]):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "cohortlib", *args]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
        assert done.returncode == 2
        assert done.stderr == b"error: cannot write to standard output: No space left on device\n"


# --- as a process ---


def test_process(folder):
    done = process("termina", "cohorts", "orders.csv")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == termina.cohorts(orders()).write_csv()
    done = process("termina", "cohorts", "missing.csv")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")


def test_version():
    assert good("--version").stdout == f"cohortlib {cohortlib.__version__}\n"


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["termina", "--help"],
        ["termina", "cohorts", "-h"],
        ["termina", "state", "--help"],
        ["termina", "state", "build", "-h"],
        ["prepare", "-h"],
        ["adapty", "--help"],
        ["adapty", "cohort", "-h"],
        ["fetch", "--help"],
        ["fetch", "termina", "-h"],
        ["fetch", "termina", "cohorts", "-h"],
        ["fetch", "adapty", "cohort", "-h"],
        ["--version"],
    ],
)
def test_help_imports_nothing_heavy(args):
    code = f"""
import sys
from cohortlib.__main__ import main
sys.argv = ["cohortlib", *{args!r}]
try:
    main()
except SystemExit as end:
    assert end.code == 0
heavy = {{"polars", "numba", "numpy", "nanoarrow", "rich", "httpx2", "stamina"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_help_has_examples():
    for name in TABLES:
        text = good("termina", name, "--help").stdout
        assert "Examples:\n" in text
        assert f"  cohortlib termina {name} orders.csv" in text


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(monkeypatch, capsys, missing):
    monkeypatch.setattr(__main__, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "the command line needs the extra: pip install 'cohortlib[cli]'\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_reader_that_goes_away(folder, kind, unbuffered):
    pl.select(user_id=pl.int_range(20_000), timestamp=pl.date(2026, 1, 5), amount=1.5).write_parquet("many.parquet")
    command = [sys.executable, "-m", "cohortlib", "termina", "customer-cohorts", "many.parquet", "--format", kind]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as running:
        assert running.stdout.read(10)
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(timeout=120) == 1


def test_ascii_output(folder):
    """Nothing of our own needs more than ASCII, so that no terminal can stumble over it."""
    for args in (["demo"], ["termina", "cohorts", "orders.csv", "--show", "ltv"], ["termina", "cohorts", "--help"]):
        done = process(*args, env=os.environ | {"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()


@pytest.mark.parametrize("command", ["termina cohorts", "termina customer-cohorts", "inspect"])
def test_a_missing_file_is_named_before_anything_large_is_imported(command):
    code = f"""
import sys
from cohortlib.cli.main import cli
try:
    cli({(*command.split(), "nowhere.csv")!r})
except SystemExit as end:
    print(end.code, *({{"polars", "numba", "numpy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    assert "there is no file 'nowhere.csv'. Expected the path or glob of Parquet" in done.stderr


def test_triangles_of_up_to_12_segments(folder):
    """One triangle for each segment; more are refused with a hint, in the library and in the terminal."""
    rows = pl.DataFrame({
        "user_id": range(13), "timestamp": "2026-01-05", "amount": 1.0, "plan": [f"p{at:02}" for at in range(13)],
    })  # fmt: skip
    table = cohortlib.cohorts(rows, by="plan")
    triangles = cohortlib.triangle(table.filter(pl.col("plan") != "p12"), "ltv", mean=True)
    assert list(triangles) == [f"p{at:02}" for at in range(12)]
    with pytest.raises(DataError, match=r"the table has 13 segments\. Expected at most 12\. Hint: filter the segments"):
        cohortlib.triangle(table, "ltv")
    rows.write_csv("plans.csv")
    rows.filter(pl.col("plan") != "p12").write_csv("fewer.csv")
    shown = good("cohorts", "fewer.csv", "--by", "plan", "--show", "ltv").stdout
    assert [line for line in shown.splitlines() if line.startswith("plan: ")] == [f"plan: p{at:02}" for at in range(12)]
    error = failing("cohorts", "plans.csv", "--by", "plan", "--show", "ltv")
    assert error == "the table has 13 segments. Expected at most 12. Hint: -o FILE.csv writes all of them"
