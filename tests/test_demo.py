"""What a person sees: the demo, triangles in terminals of all kinds, and the bar for long work."""

import io
import os
import re
import shlex
import struct
import subprocess
import sys
import time

import click
import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console

import cohortlib as cl
from cohortlib.cli import demo, main, terminal
from cohortlib.cli.termina import write_or_print

pytestmark = pytest.mark.process

BACKGROUND = re.compile(r"\x1b\[[0-9;]*48;5;(\d+)m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": None, "NO_COLOR": None}


def run(*args, **env):
    result = CliRunner().invoke(main.cli, args, env={"COLUMNS": None, "FORCE_COLOR": None} | env)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def table(columns=3, cohorts=3):
    """Return a cohort table of regular numbers."""
    return pl.DataFrame(
        [
            {
                "cohort": f"2026-{cohort + 1:02}",
                "period": age,
                "cohort_size": 1000 + cohort,
                "active_users": (1000 + cohort) // (age + 1),
                "logo_retention": 1 / (age + 1),
                "amount": 1234.5 / (age + 1),
                "amount_retention": None if cohort == 1 else 1.5 if age else 1.0,
                "ltv": 10.0 * (age + 1),
            }
            for cohort in range(cohorts)
            for age in range(columns - cohort)
        ],
        schema_overrides={"amount_retention": pl.Float64},
    )


def drawn(frame, field, width=80, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    terminal.print_triangle(console, frame, field, **options)
    return stream.getvalue().splitlines()


# --- the demo ---


def test_demo_shows_both_triangles():
    lines = run("demo").splitlines()
    at = lines.index("logo_retention: % of the cohort's users who are active, by age in months")
    assert lines[at + 1].split() == ["cohort", "users", *map(str, range(18))]
    assert lines[at + 2].split()[:6] == ["1997-01", "777", "100", "16", "12", "9"]
    assert [len(line.split()) for line in lines[at + 2 : at + 5]] == [20, 19, 18]
    at = lines.index("ltv: amount per user up to the age, by age in months")
    assert lines[at + 2].split()[:4] == ["1997-01", "777", "36.80", "45.81"]
    assert lines[at + 2].split()[-1] == "101.47"
    assert [len(line.split()) for line in lines[at + 2 : at + 5]] == [20, 19, 18]


def test_demo_numbers_are_those_of_the_library():
    with demo.as_file(demo.SAMPLE) as path:
        orders = pl.read_parquet(path)
    assert orders.shape == (6_919, 5)
    text = run("demo")
    cohorts = cl.termina.cohorts(orders)
    for row in cl.triangle(cohorts, "ltv").iter_rows():
        assert " ".join(f"{value:.2f}" for value in row[1:] if value is not None) in re.sub(" +", " ", text)
    first = cl.termina.customer_cohorts(orders).row(0, named=True)
    assert f"{first['cohort']} {first['user_id']} " in text
    assert "6,919 orders of 2,357 users, 1997-01-01 to 1998-06-30." in text
    assert re.search(r"6,919 rows of 2,357 users: [\d.]+ m?s\.", text)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 139, 200])
def test_demo_fits(width):
    lines = run("demo", COLUMNS=str(width)).splitlines()
    rows = lines.index("cohort  user_id period       amount retention amount retention    ltv")
    triangles = [line for line in lines[:rows] if line.startswith(("cohort  ", "1997-0"))]
    assert len(triangles) == 8
    assert max(map(len, triangles)) <= width
    assert any("17" in line for line in triangles)
    assert ("not shown" in " ".join(lines)) == (width < 139)


def test_demo_fits_eighty_columns_all_over():
    lines = run("demo", COLUMNS="80").splitlines()
    assert all(len(line) <= 80 for line in lines if "cohortlib termina" not in line)
    assert "(ages 8 to 16 not shown: 139 columns needed)" in lines


def test_demo_names_a_command_that_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = shlex.split(run("demo").splitlines()[-1])
    assert command[0] == "cohortlib"
    assert run(*command[1:]) == ""
    assert (tmp_path / "cohorts.csv").read_text().startswith("cohort,period,")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0123, "12 ms"), (0.9996, "1.0 s"), (1.23, "1.2 s"), (12.0, "12.0 s")]
)
def test_times(seconds, words):
    assert demo.in_words(seconds) == words


# --- colours ---


def test_colours_where_there_are_256():
    text = run("demo", COLUMNS="80", **COLOURS)
    assert set(map(int, BACKGROUND.findall(text))) == set(terminal.SHADES)
    assert CONTROL.sub("", text).splitlines()[3:12] == run("demo", COLUMNS="80").splitlines()[3:12]


@pytest.mark.parametrize(
    "env",
    [
        COLOURS | {"NO_COLOR": "1"},
        COLOURS | {"TERM": "dumb"},
        COLOURS | {"TERM": "xterm"},  # 16 colours, whose looks are the reader's own: no shades can be made of them
        COLOURS | {"FORCE_COLOR": None},
    ],
)
def test_no_colours(env):
    assert not re.search(r"\x1b\[[0-9;]*4[0-9]", run("demo", **env))


def test_darker_is_more():
    levels = [terminal.SHADES.index(int(shade)) for shade in BACKGROUND.findall(shaded("ltv").splitlines()[2])]
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert levels[-1] == len(terminal.SHADES) - 1


def test_age_0_does_not_make_the_rest_pale():
    line = shaded("logo_retention").splitlines()[2]
    levels = [terminal.SHADES.index(int(shade)) for shade in BACKGROUND.findall(line)]
    assert levels[:2] == [len(terminal.SHADES) - 1] * 2
    assert levels[-1] == 0


def test_one_value_has_a_shade():
    assert BACKGROUND.findall(shaded("ltv", table(1, 1)))


def shaded(field, frame=None):
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="256", no_color=False)
    terminal.print_triangle(console, table(6, 1) if frame is None else frame, field)
    return stream.getvalue()


# --- triangles ---


def test_triangle():
    assert drawn(table(), "active_users") == [
        "active_users: users who are active, by age in months",
        "cohort  users     0   1   2",
        "2026-01 1,000 1,000 500 333",
        "2026-02 1,001 1,001 500",
        "2026-03 1,002 1,002",
    ]


def test_unobserved_is_blank_and_no_value_is_a_dash():
    assert drawn(table(), "amount_retention", freq="Q") == [
        "amount_retention: % of the amount at age 0, by age in quarters",
        "cohort  users   0   1   2",
        "2026-01 1,000 100 150 150",
        "2026-02 1,001   -   -",
        "2026-03 1,002 100",
    ]


def test_no_values_at_all():
    frame = table().filter(pl.col("cohort") == "2026-02")
    assert drawn(frame, "amount_retention")[2] == "2026-02 1,001 - -"


def test_large_amounts_lose_their_cents():
    assert drawn(table(), "amount")[2].split()[2:] == ["1,234.50", "617.25", "411.50"]
    large = table().with_columns(pl.col("amount") * 1000)
    assert drawn(large, "amount")[2].split()[2:] == ["1,234,500", "617,250", "411,500"]


@pytest.mark.parametrize(
    ("width", "shown", "note"),
    [
        (40, "0 1 2 3 4 5 6 7 8", None),
        (39, "0 1 2 3 4 5 .. 8", "(ages 6 to 7 not shown: 40 columns needed)"),
        (36, "0 1 2 3 4 .. 8", "(ages 5 to 7 not shown: 40 columns needed)"),
        (10, "0 .. 8", "(ages 1 to 7 not shown: 40 columns needed)"),
    ],
)
def test_narrow(width, shown, note):
    lines = drawn(table(9, 2).with_columns(pl.lit(0.1).alias("logo_retention")), "logo_retention", width=width)
    text = " ".join(" ".join(lines).split())
    header = next(line for line in lines if line.startswith("cohort "))
    assert header.split()[2:] == shown.split()
    assert note is None or note in text
    assert ("not shown" in text) == (note is not None)


def test_one_age_left_out_is_listed():
    assert "(age 1 not shown: 31 columns needed)" in " ".join(" ".join(drawn(table(3), "ltv", width=30)).split())


def test_two_ages_are_never_left_out():
    assert drawn(table(2, 2), "active_users", width=5)[-1].split() == ["2026-02", "1,001", "1,001"]


def test_rows_beyond_the_limit():
    lines = drawn(table(4, 4), "ltv", limit=2)
    assert lines[-1] == "(the first 2 of 4 cohorts)"
    assert len(lines) == 5


def test_empty():
    assert drawn(table().clear(), "ltv")[-1] == "(no cohorts: no user is active in any period)"


def test_customers_in_the_order_of_the_table():
    orders = pl.DataFrame(
        {
            "user_id": ["z", "a\x1b[31m\n", "用户" * 9, "z"],
            "timestamp": pl.Series(["2026-01-01", "2026-01-02", "2026-01-03", "2026-02-01"]).str.to_date(),
            "amount": [30.0, 10.0, 20.0, 1.0],
        }
    )
    customers = cl.termina.customer_cohorts(orders)
    assert drawn(customers, "amount") == [
        "amount: the customer's amount at the age, by age in months",
        "cohort  user_id              0    1",
        "2026-01 z                30.00 1.00",
        "2026-01 用户用户用户用.. 20.00 0.00",
        "2026-01 a?[31m?          10.00 0.00",
    ]
    assert drawn(customers, "amount", limit=1)[-1] == "(the first 1 of 3 customers)"
    active = cl.termina.customer_cohorts(orders, rows="active")
    assert drawn(active, "logo_retention")[2:] == [
        "2026-01 z                100 100",
        "2026-01 用户用户用户用.. 100",
        "2026-01 a?[31m?          100",
    ]


# --- in a terminal ---


def in_terminal(args, columns=80, start=("-m", "cohortlib")):
    """Run the command line in a pseudo-terminal and return its output."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    test_end, terminal_end = pty.openpty()
    fcntl.ioctl(terminal_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in COLOURS and name != "COLUMNS"}
    env["TERM"] = "xterm-256color"
    command = [sys.executable, *start, *args]
    with subprocess.Popen(command, stdin=terminal_end, stdout=terminal_end, stderr=terminal_end, env=env) as running:
        os.close(terminal_end)
        shown = b""
        while True:
            try:
                piece = os.read(test_end, 65536)
            except OSError:  # Linux's word for the end
                break
            if not piece:
                break
            shown += piece
        assert running.wait(timeout=120) == 0
    os.close(test_end)
    return shown.decode().replace("\r\n", "\n")


def without_bar(text):
    """Return the lines without a progress bar, which a slow machine shows for a while."""
    return CONTROL.sub("", text.rpartition("\x1b[2K")[2]).splitlines()


@pytest.fixture
def sample():
    with demo.as_file(demo.SAMPLE) as path:
        yield str(path)


def test_a_terminal_gets_triangles(sample):
    text = in_terminal(["termina", "cohorts", sample, "--freq", "Q"])
    lines = without_bar(text)
    assert lines[0] == "logo_retention: % of the cohort's users who are active, by age in quarters"
    assert lines[1].split() == ["cohort", "users", *"012345"]
    assert "ltv: amount per user up to the age, by age in quarters" in lines
    assert BACKGROUND.search(text)
    assert "1997Q1,0" not in text


def test_a_terminal_gets_the_first_customers(sample):
    lines = without_bar(in_terminal(["termina", "customer-cohorts", sample], columns=60))
    assert lines[0] == "amount: the customer's amount at the age, by age in months"
    assert lines[-1] == "(the first 40 of 2,349 customers)"
    assert max(map(len, lines)) <= 60


def test_a_terminal_gets_data_where_asked(sample):
    text = in_terminal(["termina", "cohorts", sample, "-o", "-"])
    assert text.endswith(cl.termina.cohorts(sample).write_csv())
    assert "logo_retention:" not in text


def test_parquet_is_not_printed_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(click.UsageError, match=r"-o FILE\.parquet"), demo.as_file(demo.SAMPLE) as path:
        write_or_print(None, str(path), {"joined": None}, output="-", kind="parquet", show=(), shown=())


def test_show_in_a_pipe_is_whole(sample):
    text = run("termina", "cohorts", sample, "--show", "ltv", "--show", "active_users", "--freq", "W")
    titles = [line for line in text.splitlines() if ": " in line]
    assert [title.partition(":")[0] for title in titles] == ["ltv", "active_users"]
    assert "not shown" not in text
    assert len(text.splitlines()) == 2 * (2 + 13) + 1


# --- the bar ---


def bar(steps, delay, wait=0.0, width=80, size=None):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    with terminal.progress_bar(console, delay=delay, size=size) as report:
        for done, total in steps:
            time.sleep(wait)
            report(done, total)
    return stream.getvalue()


def test_short_work_has_no_bar():
    assert bar([(1, 3), (2, 3), (3, 3)], delay=60) == ""


def test_long_work_has_a_bar_that_goes_away():
    text = bar([(1000, 3000), (2000, 3000), (3000, 3000)], delay=0, wait=0.01)
    assert "3.0/3.0 k" in text
    assert text.endswith("\x1b[2K")


def test_a_bar_shows_rows_bytes_rate_and_time_left():
    million = 10**6
    steps = [(done * million, 200 * million) for done in range(10, 190, 20)]
    text = CONTROL.sub("", bar(steps, delay=0, wait=0.05, size=12_345_678_901))
    (*_, last) = re.findall(r"rows \S+ +(\S+) M ([^ ]+) GB (\S+) M/s (\S+)", text)
    assert last[:2] == ("170.0/200.0", "10.5/12.3")
    assert float(last[2]) > 0
    assert re.fullmatch(r"\d:\d\d:\d\d", last[3])
    narrow = bar(steps, delay=0, wait=0.05, size=12_345_678_901, width=60)
    assert "170.0/200.0 M" in narrow
    assert "GB" not in narrow


@pytest.mark.parametrize(
    ("done", "total", "units", "text"),
    [
        (0, 9, terminal.COUNTS, "0/9"),
        (999, 999, terminal.COUNTS, "999/999"),
        (999, 1000, terminal.COUNTS, "1.0/1.0 k"),
        (12_345_678, 200_000_000, terminal.COUNTS, "12.3/200.0 M"),
        (10**12, 2 * 10**12, terminal.COUNTS, "1,000.0/2,000.0 bn"),
        (7, None, terminal.COUNTS, "7"),
        (0, 512, terminal.BYTES, "0/512 B"),
        (10**8, 3.4e9, terminal.BYTES, "0.1/3.4 GB"),
    ],
)
def test_how_much_is_done(done, total, units, text):
    assert terminal._share(done, total, units) == text


def test_work_that_ends_as_the_bar_would_appear():
    assert bar([(3, 3)], delay=0) == ""


def test_a_bar_in_a_terminal(sample):
    code = """
import sys, time
from cohortlib import termina
from cohortlib.__main__ import main
real = termina.cohorts

def slow(source, progress, **settings):
    for done in range(1, 9):
        time.sleep(0.1)
        progress(done, 9)
    return real(source, **settings)

termina.cohorts = slow
main()
"""
    text = in_terminal(["termina", "cohorts", sample, "-o", "-"], start=("-c", code))
    assert "8/9" in text
    assert cl.termina.cohorts(sample).write_csv() in text
