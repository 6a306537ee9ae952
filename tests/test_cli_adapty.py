"""The command of Adapty's cohort table: the request, the conventions, the answer's ways out, and failures."""

import inspect
import json
import re
from dataclasses import fields, replace
from datetime import date

import click
import polars as pl
import pytest
from click.testing import CliRunner
from test_demo import BACKGROUND, in_terminal, without_bar

from cohortlib import adapty
from cohortlib.adapty import compute
from cohortlib.adapty.conventions import Conventions
from cohortlib.cli import adapty as commands
from cohortlib.cli import main, output
from cohortlib.errors import Arg, CohortlibWarning, DataError

pytestmark = pytest.mark.process

# The worked example of the specification, with a sandbox row, a row without money, and two repeats.
MONEY = """\
u1,trial_started,2026-02-03,10,A,0
u1,trial_converted,2026-02-10,11,A,10
u1,subscription_renewed,2026-03-10,12,A,10
u1,subscription_renewed,2026-03-10,12,A,10
u1,subscription_renewed,2026-03-10,12,A,10
u1,subscription_refunded,2026-03-20,12,A,10
u1,subscription_renewed,2026-04-10,13,A,10
u2,subscription_started,2026-02-10,20,B,10
u2,subscription_refunded,2026-04-05,20,B,10
u4,subscription_started,2026-03-05,40,C,60
u4,non_subscription_purchase,2026-03-06,41,D,5
u4,subscription_cancelled,2026-03-07,42,C,0
"""
COLUMNS = (
    "profile_id,event_type,event_datetime,transaction_id,original_transaction_id,revenue_usd,proceeds_usd,"
    "net_revenue_usd,environment,product_id,customer_user_id,device_id,consecutive_payments,store\n"
)
INSTALLS = "profile_id,install_date\nu1,2026-02-03\nu2,2026-02-10\nu3,2026-02-25\nu4,2026-03-02\n"
REQUEST = {"filters": {"date": ["2026-02-01", "2026-06-30"]}}
LEFT_OUT = "left out of 13 rows: 1 sandbox, 1 of events without money, 2 repeated\n"
REAL = compute.cohort
GIVEN = ("events.csv", "--installs", "installs.csv", "--request", "request.json")


def written(environment="Production"):
    for line in MONEY.splitlines():
        user, kind, day, transaction, chain, revenue = line.split(",")
        share = 0.7 * float(revenue)
        yield (
            f"{user},{kind},{day}T12:00:00Z,{transaction},{chain},{revenue},{share},{share},{environment},gold,"
            f"{user},{user},1,app_store\n"
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "events.csv").write_text(COLUMNS + "".join(written()) + next(written("Sandbox")), encoding="utf-8")
    (tmp_path / "installs.csv").write_text(INSTALLS, encoding="utf-8")
    ask(REQUEST)
    return tmp_path


def ask(body, name="request.json"):
    with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(body, file)


def run(*args, **options):
    return CliRunner().invoke(main.cli, ["adapty", "cohort", *args], prog_name="cohortlib", **options)


def good(*args, told=LEFT_OUT, **options):
    result = run(*args, **options)
    assert (result.exit_code, result.stderr) == (0, told), result.output
    return result.stdout


def failing(*args, **options):
    """Run what must fail, check that it says so in one line, and give the line."""
    result = run(*args, **options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


def answer(body=REQUEST, **settings):
    return adapty.cohort("events.csv", body, **({"installs": "installs.csv"} | settings))


# --- the answer out ---


@pytest.mark.parametrize("where", [[], ["-o", "-"], ["-o", "answer.json"], ["-o", "ANSWER.JSON"]])
def test_json(folder, where):
    text = good(*GIVEN, *where)
    if where and where[1] != "-":
        assert text == ""
        text = (folder / where[1]).read_text(encoding="utf-8")
    assert json.loads(text) == answer().to_dict()
    assert text.endswith("}\n")


@pytest.mark.parametrize("where", [["--format", "csv"], ["-o", "answer.csv"], ["-o", "answer.json", "--format", "csv"]])
def test_csv(folder, where):
    text = good(*GIVEN, *where)
    if "-o" in where:
        assert text == ""
        text = (folder / where[1]).read_text(encoding="utf-8")
    assert text == answer().to_csv()


def test_the_requests_own_format(folder):
    ask(REQUEST | {"format": "csv"})
    csv, as_json = answer().to_csv(), answer().to_dict()
    assert good(*GIVEN) == csv
    for name in ("answer", "answer.txt"):
        good(*GIVEN, "-o", name)
        assert (folder / name).read_text(encoding="utf-8") == csv
    good(*GIVEN, "-o", "answer.json")
    assert json.loads((folder / "answer.json").read_text(encoding="utf-8")) == as_json
    assert json.loads(good(*GIVEN, "--format", "json")) == as_json


def test_the_csv_shows_what_the_request_asks_for(folder):
    body = REQUEST | {"value_field": "subscribers", "period_type": "days", "renewal_days": [0, 7, 61]}
    ask(body)
    assert good(*GIVEN, "--format", "csv") == answer(body).to_csv()
    assert "day_61" in good(*GIVEN, "--format", "csv").splitlines()[0]


def test_globs_and_many_files(folder):
    lines = list(written())
    for at in range(2):
        (folder / f"part-{at}.csv").write_text(COLUMNS + "".join(lines[at::2]), encoding="utf-8")
    args = ("part-*.csv", *GIVEN[1:])
    told = "left out of 12 rows: 1 of events without money, 2 repeated\n"
    assert json.loads(good(*args, told=told)) == answer().to_dict()


# --- the request in ---


def test_the_request_from_standard_input(folder):
    args = ("events.csv", "--installs", "installs.csv", "--request", "-")
    assert json.loads(good(*args, input=json.dumps(REQUEST))) == answer().to_dict()
    assert json.loads(good(*args, input=b"\xef\xbb\xbf" + json.dumps(REQUEST).encode())) == answer().to_dict()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not JSON: Expecting value in line 1, column 1"),
        ('{"filters":\n {"date": }}', "is not JSON: Expecting value in line 2, column 11"),
        ("{'filters': 1}", "is not JSON: Expecting property name"),
        (b"\xff{", "cannot be read as a request: "),
        ("[" * 100_000, "cannot be read as a request: maximum recursion depth"),
        ("[1]", "does not contain a JSON object. Expected the request body of the API"),
        ("null", "does not contain a JSON object"),
        ('"x"', "does not contain a JSON object"),
        ('{"format": "csv", "format": "json"}', "'format' occurs twice in one object"),
        ('{"filters": {"store": [], "store": ["x"]}}', "'store' occurs twice in one object"),
    ],
)
def test_broken_requests(folder, text, expected):
    (folder / "request.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    line = failing(*GIVEN)
    assert line.startswith("request.json ")
    assert expected in line
    line = failing("events.csv", "--request", "-", input=text)
    assert line.startswith("standard input ")
    assert expected in line


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "filters.date: missing. Expected two ISO dates"),
        (REQUEST | {"period_unit": "weeks"}, "period_unit: 'weeks' is unknown. Expected one of 'month', 'day', 'week'"),
        ({"filters": {"date": ["2026-06-30", "2026-02-01"]}}, "filters.date: 2026-06-30 is after 2026-02-01"),
        (REQUEST | {"formats": 1, "value_type": 5}, "formats: unknown field. Hint: format; value_type: 5 is"),
    ],
)
def test_refused_requests(folder, body, expected):
    ask(body)
    line = failing(*GIVEN)
    assert line.startswith("the request is invalid: ")
    assert expected in line


def test_a_request_is_refused_before_the_events_are_looked_for(folder):
    ask({"filters": {}})
    assert "filters.date" in failing("nothing.csv", "--request", "request.json")


@pytest.mark.parametrize(("path", "expected"), [("no.json", "No such file or directory"), (".", "Is a directory")])
def test_requests_that_cannot_be_read(folder, path, expected):
    assert failing("events.csv", "--request", path) == f"cannot read {path}: {expected}"


# --- settings in ---


@pytest.fixture
def seen(monkeypatch):
    """Note what reaches the engine."""
    settings = {}

    def noting(events, request, **given):
        settings.update(given, events=events, request=request)
        return REAL(events, request, **given)

    monkeypatch.setattr(adapty, "cohort", noting)
    return settings


def test_every_setting_is_an_option_with_the_same_default(folder, seen):
    defaults = {one.name: one.default for one in inspect.signature(REAL).parameters.values()}
    good(*GIVEN)
    del defaults["progress"]
    given = {"events": "events.csv", "request": adapty.Request.of(REQUEST), "installs": "installs.csv"}
    assert seen == defaults | given | {"conventions": Conventions()}


def test_every_convention_is_an_option():
    options = {param.name for param in main.cli.commands["adapty"].commands["cohort"].params}
    assert {field.name for field in fields(Conventions)} <= options


def test_options_reach_the_engine(folder, seen):
    line = (
        "--timezone Europe/Berlin --user-unit device_id --refund-upgraded negative --period-number consecutive "
        "--restart-per-product yes --averages per_period --after-to payments --as-of 2026-03-31 "
        "--week-start sunday --nulls drop --decimals 2 --threads 2 --max-memory 1GiB"
    )
    installs = INSTALLS.replace("profile_id", "device_id")
    (folder / "installs.csv").write_text(installs, encoding="utf-8")
    good(*GIVEN, *line.split())
    conventions = Conventions(
        user_unit="device_id",
        refund_upgraded="negative",
        period_number="consecutive",
        restart_per_product=True,
        averages="per_period",
        after_to="payments",
        as_of=date(2026, 3, 31),
        week_start="sunday",
    )
    assert seen["conventions"] == conventions
    assert {name: seen[name] for name in ("timezone", "nulls", "decimals", "threads", "predict", "max_memory")} == {
        "timezone": "Europe/Berlin",
        "nulls": "drop",
        "decimals": 2,
        "threads": 2,
        "predict": False,
        "max_memory": "1GiB",
    }


def choices():
    for param in commands.cohort.params:
        if isinstance(param.type, click.Choice) and param.name not in ("kind", "nulls"):
            for value in param.type.choices:
                yield param.opts[0], param.name, value


@pytest.mark.parametrize(("option", "name", "value"), list(choices()))
def test_every_choice_is_known_to_the_engine(folder, option, name, value):
    if value == ",":
        rows = (folder / "events.csv").read_text(encoding="utf-8")
        (folder / "events.csv").write_text(re.sub(r"(\d)\.(\d)", r"\1,\2", rows.replace(",", ";")), encoding="utf-8")
    if name == "user_unit":
        (folder / "installs.csv").write_text(INSTALLS.replace("profile_id", value), encoding="utf-8")
    chosen = {name: {"yes": True, "no": False}.get(value, value)}
    expected = answer(**chosen) if name in ("decimal", "normalize") else answer(conventions=Conventions(**chosen))
    assert json.loads(good(*GIVEN, option, value)) == expected.to_dict()


def test_installs_from_events(folder):
    text = good("events.csv", "--installs", "from_events", "--request", "request.json")
    assert json.loads(text) == answer(installs="from_events").to_dict()
    assert json.loads(text)["data"][0]["total_installs"] == 3


def test_predict(folder):
    assert json.loads(good(*GIVEN, "--predict")) == answer(predict=True).to_dict()


# --- errors ---


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["missing.csv", *GIVEN[1:]], "missing.csv"),
        (["missing-*.csv", *GIVEN[1:]], "missing-*.csv"),
        (["events.csv", "events.csv", *GIVEN[1:]], "'events.csv' twice"),
        ([], "EVENTS"),
        (["events.csv"], "Missing option '--request'"),
        (["events.csv", "--request", "request.json"], "--installs: "),
        (["events.csv", "--request", "request.json"], "Hint: --installs from_events"),
        ([*GIVEN, "--installs", "nothing.csv"], "nothing.csv"),
        ([*GIVEN, "--timezone", "Mars"], "--timezone Mars is not a time zone"),
        ([*GIVEN, "--as-of", "2026-1-1"], "'--as-of': '2026-1-1' is not a date. Expected one such as 2026-01-31"),
        ([*GIVEN, "--as-of", "2026"], "'--as-of'"),
        ([*GIVEN, "--user-unit", "user"], "'profile_id', 'customer_user_id', 'device_id'"),
        ([*GIVEN, "--restart-per-product", "true"], "'auto', 'yes', 'no'"),
        ([*GIVEN, "--week-start", "Monday"], "'monday'"),
        ([*GIVEN, "--decimals", "10"], "--decimals"),
        ([*GIVEN, "--threads", "0"], "--threads"),
        ([*GIVEN, "--max-memory", "1"], "--max-memory"),
        ([*GIVEN, "--format", "parquet"], "'json', 'csv'"),
        ([*GIVEN, "-o", "answer.parquet"], "Parquet is not supported. Expected JSON or CSV. Hint: -o FILE.json"),
        ([*GIVEN, "-o", "nowhere/answer.json"], "cannot write nowhere/answer.json: No such file or directory"),
        ([*GIVEN, "-o", "events.csv"], "it is a file of the source events.csv"),
        (["*.csv", *GIVEN[1:], "-o", "events.csv"], "it is a file of the source *.csv"),
        ([*GIVEN, "-o", "installs.csv"], "it is a file of the source installs.csv"),
        ([*GIVEN, "-o", "request.json"], "it is a file of the source request.json"),
    ],
)
def test_refused(folder, args, expected):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert expected in failing(*args)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "consecutive_payments",
            ["--period-number", "consecutive"],
            "--period-number consecutive needs it. Hint: ",
        ),
        ("revenue_usd", [], "revenue_usd"),
        ("device_id", ["--user-unit", "device_id"], "device_id"),
    ],
)
def test_columns_that_are_missing(folder, name, options, expected):
    pl.read_csv("events.csv", infer_schema=False).drop(name).write_csv("less.csv")
    assert expected in failing("less.csv", *GIVEN[1:], *options)


def test_a_filter_without_its_column(folder):
    ask({"filters": REQUEST["filters"] | {"offer_id": ["spring"]}})
    assert "filters.offer_id needs the column 'offer_id'" in failing(*GIVEN)


def test_nulls(folder):
    text = (folder / "events.csv").read_text(encoding="utf-8")
    (folder / "events.csv").write_text(text.replace("u4,sub", ",sub", 1), encoding="utf-8")
    assert "Hint: --nulls drop" in failing(*GIVEN)
    result = run(*GIVEN, "--nulls", "drop")
    assert result.exit_code == 0
    *report, warning = result.stderr.splitlines(keepends=True)
    assert warning.startswith("warning: 1 of 13 rows of ")
    assert report == ["left out of 13 rows: 1 sandbox, 1 of events without money, 1 with nulls, 2 repeated\n"]


def test_a_failure_leaves_the_old_file(folder, monkeypatch):
    (folder / "answer.json").write_text("old")

    def compute_nothing(*inputs, **settings):
        raise DataError((Arg("nulls", "drop"), " or ", Arg("averages", "per_period")))

    monkeypatch.setattr(adapty, "cohort", compute_nothing)
    assert failing(*GIVEN, "-o", "answer.json") == "--nulls drop or --averages per_period"
    assert (folder / "answer.json").read_text() == "old"
    assert {path.name for path in folder.iterdir()} == {"answer.json", "events.csv", "installs.csv", "request.json"}


# --- what is told beside the answer ---


def test_nothing_left_out_is_nothing_told(folder):
    lines = [line for line in dict.fromkeys(written()) if "cancelled" not in line]
    (folder / "events.csv").write_text(COLUMNS + "".join(lines), encoding="utf-8")
    good(*GIVEN, told="")


def test_all_of_the_report_is_told_or_warned_of(folder):
    with_warnings = {
        "refunds_without_payment", "shared_chains", "not_in_installs", "without_install", "missing_money",
        "missing_money_revenue", "unordered_states", "unfiltered_installs",
    }  # fmt: skip
    assert set(answer().report) == {"rows", "before_install", *commands.LEFT_OUT, *with_warnings}
    assert commands.report_lines(dict.fromkeys(answer().report, 0)) == []
    counts = {name: at for at, name in enumerate(answer().report, 1)}
    first, second = commands.report_lines(counts | {"rows": 1_234_567})
    assert first.startswith("left out of 1,234,567 rows: ")
    numbers = [int(number) for number in re.findall(r"\d+", first.partition(":")[2])]
    assert numbers == [counts[name] for name in commands.LEFT_OUT]
    assert second == f"counted at the install: {counts['before_install']} rows dated before it"


def test_before_install(folder):
    (folder / "installs.csv").write_text(INSTALLS.replace("u4,2026-03-02", "u4,2026-03-06"), encoding="utf-8")
    good(*GIVEN, told=LEFT_OUT + "counted at the install: 1 rows dated before it\n")


def test_warnings_are_lines(folder):
    ask({"filters": REQUEST["filters"] | {"compare_date": ["2025-02-01", "2025-06-30"]}})
    (folder / "installs.csv").write_text(INSTALLS.replace("u4,", "u5,"), encoding="utf-8")
    result = run(*GIVEN)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0] == LEFT_OUT.strip()
    assert lines[1].startswith("warning: users of the events that are not in installs: 1;")
    assert lines[2:] == ["warning: filters.compare_date is ignored: cohorts of two ranges are not compared"]


# --- in a terminal ---


@pytest.fixture
def looked_at(folder, monkeypatch):
    """Let standard output be a terminal without colours."""
    for module in (commands, output):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    return folder


def table(body, *args, width=80, told=LEFT_OUT):
    ask(body)
    text = good(*GIVEN, *args, told=told, env={"COLUMNS": str(width), "NO_COLOR": "1"})
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    return text.splitlines()


def test_a_terminal_gets_a_table(looked_at):
    assert table(REQUEST) == [
        "revenue_usd: revenue in US dollars, by number of the payment",
        "segment    installs     1     2     3",
        "Total             4 75.00  0.00 10.00",
        "2026-02-01        3 10.00  0.00 10.00",
        "2026-03-01        1 65.00  0.00  0.00",
        "2026-04-01        0  0.00  0.00  0.00",
        "2026-05-01        0  0.00  0.00  0.00",
        "2026-06-01        0  0.00  0.00  0.00",
    ]


@pytest.mark.parametrize(
    ("asked", "title", "total"),
    [
        ({"value_field": "subscribers"}, "subscribers: distinct users with a payment, by number of the payment",
         ["3", "1", "1"]),
        ({"value_field": "subscriptions", "value_type": "relative"},
         "subscriptions_relative: % of the first column, by number of the payment", ["100", "25", "25"]),
        ({"accounting_type": "proceeds"}, "proceeds_usd: proceeds in US dollars, by number of the payment",
         ["52.50", "0.00", "7.00"]),
        ({"value_field": "arpu", "accounting_type": "net_revenue", "period_type": "days", "renewal_days": [31, 0]},
         "anrpu_usd: net revenue per user, by day since the install", ["1.75", "14.88"]),
        ({"value_field": "arpas", "value_type": "relative"},
         "arpas_usd: % of the first column, by number of the payment", ["100", "100", "113"]),
    ],
)  # fmt: skip
def test_a_table_of_what_is_asked_for(looked_at, asked, title, total):
    lines = table(REQUEST | asked)
    assert lines[0] == title
    assert lines[2].split() == ["Total", "4", *total]


def test_a_narrow_terminal(looked_at):
    lines = table(REQUEST | {"period_type": "days"}, width=50)
    assert lines[-1] == "(days 14 to 550 not shown: 91 columns needed)"
    assert lines[2].split() == ["segment", "installs", "0", "3", "7", "..", "731"]


def test_many_segments(looked_at):
    lines = table(REQUEST | {"period_unit": "day"})
    assert lines[-1] == "(the first 40 of 150 segments)"
    assert len(lines) == 2 + 41 + 1
    assert lines[2].startswith("Total ")


def test_no_payments(looked_at):
    told = (
        "left out of 13 rows: 1 sandbox, 1 of events without money, 11 after the last day\n"
        "warning: no row counts: the events have 13 rows; left out: 1 sandbox, 1 other_events, 11 after_to\n"
    )
    lines = table({"filters": {"date": ["2025-01-01", "2025-02-28"]}}, told=told)
    assert lines[1:] == [
        "segment    installs",
        "Total             0",
        "2025-01-01        0",
        "2025-02-01        0",
        "(no periods: no payment counts)",
    ]


def test_predictions_are_shown(folder, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    found = answer()
    kind = found.segments.schema["predict"]
    one = dict.fromkeys((field.name for field in kind.fields), 12) | {"revenue_usd": 1234.5, "ltv_usd": 6.25}
    predict = pl.Series("predict", [one, None, *[None] * (len(found.segments) - 2)], dtype=kind)
    commands.print_answer(replace(found, segments=found.segments.with_columns(predict)), None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "                    predicted_ predicted_",
        "segment    installs    revenue        ltv     1     2     3",
        "Total             4   1,234.50       6.25 75.00  0.00 10.00",
        "2026-02-01        3          -          - 10.00  0.00 10.00",
    ]


def test_a_terminal_gets_text_where_asked(looked_at):
    for args in (["-o", "-"], ["--format", "json"]):
        assert json.loads(good(*GIVEN, *args)) == answer().to_dict()


def test_a_real_terminal(folder):
    shown = in_terminal(["adapty", "cohort", *GIVEN])
    lines = without_bar(shown)
    assert lines[-8] == "revenue_usd: revenue in US dollars, by number of the payment"
    assert lines[-6].split() == ["Total", "4", "75.00", "0.00", "10.00"]
    assert lines[-9] == LEFT_OUT.strip()
    total, february = shown.splitlines()[-6:-4]
    assert not BACKGROUND.search(total)
    assert BACKGROUND.search(february)


# --- help ---


def test_help():
    text = run("--help").stdout
    assert "Examples:\n" in text
    assert "  cohortlib adapty cohort events.csv --installs installs.csv --request request.json" in text
    assert text.isascii()


def test_the_warnings_of_the_library_are_of_the_library(folder):
    ask({"filters": REQUEST["filters"] | {"compare_date": REQUEST["filters"]["date"]}})
    with pytest.warns(CohortlibWarning):
        answer(json.loads((folder / "request.json").read_text()))


def test_an_answer_for_each_value(folder):
    both = [run(*GIVEN, "--by", "product_id", "--format", kind).stdout for kind in ("json", "csv")]
    body = json.loads(both[0])
    assert (body["by"], [each["value"] for each in body["answers"]]) == ("product_id", ["gold"])
    assert body["answers"][0]["data"][0]["total_revenue_usd"] == 85.0
    assert both[1].splitlines()[0].startswith("product_id,segment_start_date,type,title,total_installs")
    assert [line.split(",")[:2] for line in both[1].splitlines()[1:3]] == [["gold", "2026-02-01"]] * 2
    assert run(*GIVEN, "--by", "plan").exit_code == 2
    assert "by plan needs the column 'plan', which the events do not have" in run(*GIVEN, "--by", "plan").stderr


def test_users_behind_a_cell(folder):
    def users(*args):
        return CliRunner().invoke(main.cli, ["adapty", "users", *GIVEN, *args], prog_name="cohortlib")

    shown = users("--segment-start-date", "2026-02-01", "--period", "1")
    assert [line.split(",")[:4] for line in shown.stdout.splitlines()] == [
        ["user_id", "install_date", "installed", "activated"],
        ["u1", "2026-02-03", "true", "true"],
        ["u2", "2026-02-10", "true", "true"],
        ["u3", "2026-02-25", "true", "false"],
    ]
    assert len(users("--period", "2").stdout.splitlines()) == 5
    assert (
        "segment-start-date 2026-02-02 is not a segment"
        in users("--segment-start-date", "2026-02-02", "--period", "1").stderr
    )
