"""`cl.report` and `cohortlib report`: contents, a self-contained page, and data that cannot inject code."""

import inspect
import json
import re
import struct
import subprocess
import sys
import warnings
import zlib
from datetime import date, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib.cli import main
from cohortlib.engine import memory
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError, SettingError, recorded_warnings, warn
from cohortlib.read import tables
from cohortlib.show.report import sheets
from cohortlib.show.report.findings import Findings
from cohortlib.show.report.report import report_page
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.disk

DAYS = [(1, 5), (2, 10), (1, 20), (3, 1), (2, 20), (3, 15), (3, 9)]
ROWS = pl.DataFrame(
    {
        "user_id": ["a", "a", "b", "b", "c", "c", "d"],
        "timestamp": [date(2026, month, day) for month, day in DAYS],
        "amount": [100.0, 80.0, 50.0, 70.0, 30.0, 60.0, 20.5],
    }
)
HOSTILE = "</script><script>alert('\"&1')</script>"


class Outline(HTMLParser):
    """The tags of a page with their attributes, and the text in each tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data.strip()))

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def all_in(self, tag):
        return [text for name, text in self.texts if name == tag]

    @property
    def words(self):
        return [text for _, text in self.texts]


def headlines(source, **settings):
    lines = Findings.of(source, Settings.of(**settings)).headlines
    return {line.name: (line.value, line.note) for line in lines}


def row_counts(findings):
    return dict(findings.rows_block.rows)


# --- contents ---


def test_headline_numbers():
    numbers = headlines(ROWS)
    assert numbers["Users"] == ("4", "in 3 cohorts")
    assert numbers["Rows"] == ("7", "")
    assert numbers["Amount"][0] == "410.50"
    assert numbers["First day"][0] == "2026-01-05"
    assert numbers["Last day"] == ("2026-03-15", "its month is not over")
    assert numbers["LTV to date"][0] == "102.63"  # 410.5 / 4, the tie away from 0 as in the tables
    assert numbers["LTV of the oldest cohort"] == ("150.00", "cohort 2026-01 at age 2")
    # age 1: one of two users of January in February; February's month 1 is March, which is not over
    assert numbers["Logo retention at 1 month"] == ("50.0%", "at age 1, weighted over 1 cohort")
    assert numbers["Amount retention at 1 month"][0] == f"{100 * 80 / 150:.1f}%"


def test_a_finished_period_counts():
    numbers = headlines(pl.concat([ROWS, ROWS.tail(1).with_columns(timestamp=date(2026, 3, 31))]))
    assert numbers["Last day"] == ("2026-03-31", "")
    assert numbers["Logo retention at 1 month"] == ("66.7%", "at age 1, weighted over 2 cohorts")  # 2 of 3 users


def test_the_numbers_are_those_of_the_table():
    text = report_page(ROWS, freq="M")
    table = cl.termina.cohorts(ROWS)
    assert text.partition('id="rows">')[2].partition("</script>")[0] == table.write_csv()
    about = json.loads(text.partition('id="about">')[2].partition("</script>")[0])
    assert about["unfinished"] == {"2026-01": 2, "2026-02": 1, "2026-03": 0}
    assert list(about["kinds"]) == table.columns
    seen = Outline(text)
    cells = [text for tag, text in seen.texts if tag == "td"]
    shown = [cell for line in sheets.lines(table) for cell in line[1:]]
    assert any(cells[at : at + len(shown)] == shown for at in range(len(cells)))


def test_rows_and_warnings():
    holes = pl.concat([ROWS, ROWS.head(2).with_columns(amount=pl.lit(None, pl.Float64)), ROWS.head(1).with_columns(
        user_id=pl.lit(None, pl.String), amount=pl.lit(None, pl.Float64))])  # fmt: skip
    with pytest.warns(CohortlibWarning, match="3 of 10 rows of the table dropped") as caught:
        text = report_page(holes, nulls="drop")
    assert caught[0].filename == __file__
    assert str(caught[0].message) in Outline(text).words
    with pytest.warns(CohortlibWarning):
        findings = Findings.of(holes, Settings.of(nulls="drop"))
    assert row_counts(findings) == {
        "rows read": "10", "dropped for nulls": "3", "with a null in amount": "3", "with a null in user_id": "1",
        "rows kept": "7", "users in cohorts": "4", "cohorts": "3", "rows of the cohort table": "6",
    }  # fmt: skip
    with pytest.raises(DataError, match="nulls='drop'"):
        report_page(holes)


def test_the_page_has_all_warnings():
    joined = pl.DataFrame(
        {"user_id": ["a", "b", "z"], "joined": [date(2026, 1, 1), date(2026, 1, 1), date(2027, 1, 1)]}
    )
    with pytest.warns(CohortlibWarning):
        findings = Findings.of(ROWS, Settings.of(joined=joined))
    assert len(findings.warnings) == 2
    assert any("not in joined" in message for message in findings.warnings)
    assert "whose joined date" in dict(findings.definitions_block.rows)["cohort"]


def test_settings_and_definitions():
    findings = Findings.of(ROWS, Settings.of(freq="Q", refunds="signed", end="2026Q1"))
    shown = {row[0]: row[1:3] for row in findings.settings_block.rows}
    assert shown["freq"] == ("Q", "chosen")
    assert shown["refunds"] == ("signed", "chosen")
    assert shown["end"] == ("2026Q1", "chosen")
    assert shown["timezone"] == ("UTC", "default")
    assert shown["joined"] == ("none", "default")
    assert shown["complete_only"] == ("no", "default")
    machinery = {"threads", "progress", "max_memory"}  # without effect on the numbers
    customers = {"basis", "rows", "top_n", "rank_by"}  # of the customer table alone
    assert set(shown) == set(Settings.__dataclass_fields__) - machinery - customers
    words = dict(findings.definitions_block.rows)
    assert words["period"].startswith("A calendar quarter")
    assert "signed" in words["amount"]
    assert not any("{" in text for text in words.values())


@pytest.mark.parametrize("kind", ["frame", "lazy", "files", "arrow", "prepared", "spilled", "joined", "categorical"])
def test_every_kind_of_source_has_the_same_rows_and_days(kind, tmp_path, monkeypatch):
    rows = pl.concat([ROWS] * 3)
    settings, source = {}, rows
    if kind == "lazy":
        source = rows.lazy()
    elif kind == "files":
        for part, days in enumerate((pl.col("timestamp").dt.month() > 1, pl.col("timestamp").dt.month() == 1)):
            rows.filter(days).write_parquet(tmp_path / f"{part}.parquet")
        source = str(tmp_path / "*.parquet")
    elif kind == "spilled":
        monkeypatch.setattr(memory, "MINIMUM", 1)
        monkeypatch.setattr(spill, "_MIN_ROWS", 3)
        monkeypatch.setattr(tables, "_BATCH", 3)
        settings = {"max_memory": 200}
    elif kind == "arrow":
        source = rows.to_arrow()
    elif kind == "prepared":
        source = cl.prepare(rows, tmp_path / "prepared")
    elif kind == "joined":
        settings = {"joined": rows.group_by("user_id").agg(joined=pl.lit(date(2025, 12, 1))), "start": "2025-12"}
    elif kind == "categorical":
        source = rows.with_columns(pl.col("user_id").cast(pl.Categorical))
    findings = Findings.of(source, Settings.of(**settings))
    assert (findings.dropped.rows, findings.dropped.count) == (21, 0)
    assert (findings.first_day, findings.last_day) == (date(2026, 1, 5), date(2026, 3, 15))


def test_a_filter_is_named(tmp_path):
    rows = ROWS.with_columns(country=pl.Series(["DE", "DE", "FR", "FR", "FR", "FR", "FR"]))
    prepared = cl.prepare(rows, tmp_path / "mine", keep=["country"]).filter(pl.col("country") == "DE")
    findings = Findings.of(prepared, Settings.of())
    assert findings.source.startswith("mine, prepared, rows where")
    assert "DE" in findings.source
    assert (findings.first_day, findings.last_day) == (None, date(2026, 2, 10))
    assert findings.table.equals(cl.termina.cohorts(prepared))
    assert findings.headlines[1].note == "prepared, before the filter"
    assert row_counts(findings)["rows kept, before the filter"] == "7"
    assert "2026-02-10" in report_page(prepared)


def test_sources_are_named_without_their_folders(tmp_path):
    ROWS.write_parquet(tmp_path / "rows.parquet")
    text = report_page(tmp_path / "rows.parquet")
    assert "From rows.parquet, by month." in text
    assert str(tmp_path) not in text
    assert "a table in memory (polars DataFrame)" in report_page(ROWS)


def test_without_cohorts():
    text = report_page(ROWS.with_columns(amount=-pl.col("amount")))
    seen = Outline(text)
    assert "There are no cohorts to show" in " ".join(seen.words)
    assert not {"svg", "img", "script", "figure"} & {tag for tag, _ in seen.tags}
    assert "7" in seen.words
    assert "There are no cohorts" in report_page(ROWS.head(0))


def test_too_many_cells():
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(460)]
    rows = pl.DataFrame({"user_id": list(range(460)), "timestamp": days, "amount": 1})
    with pytest.raises(DataError, match=r"cells. Expected at most 100,000.*longer freq"):
        report_page(rows, freq="D")


# --- the page ---


@pytest.fixture(scope="module")
def page():
    return report_page(ROWS, title="Our <b>cohorts</b>")


def test_is_self_contained(page):
    policy = next(attrs["content"] for attrs in Outline(page).named("meta") if attrs.get("http-equiv"))
    assert re.fullmatch(
        r"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-[\w+/=]+'; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    assert not re.search(r"https?:|url\((?!#)|@import|<link|\bon\w+=", page)
    assert all(attrs["src"].startswith("data:") for attrs in Outline(page).named("img"))


def test_is_accessible(page):
    seen = Outline(page)
    assert seen.named("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert seen.tags[[tag for tag, _ in seen.tags].index("body") + 1] == ("a", {"class": "skip", "href": "#main"})
    ids = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in seen.tags:
        for name in ("aria-labelledby", "for"):
            assert attrs.get(name, ids[0]) in ids, (tag, attrs)
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert len(seen.named("table")) == len(seen.named("caption")) == 5
    assert all(attrs.get("scope") in ("col", "row") for attrs in seen.named("th"))
    figures = [attrs for attrs in seen.named("div") if attrs.get("role") == "img"]
    assert len(figures) == len(seen.named("figure")) == 6
    assert all("of 3 cohorts from 2026-01 to 2026-03." in attrs["aria-label"] for attrs in figures)
    assert all(attrs["aria-hidden"] == "true" for attrs in seen.named("svg"))
    assert "prefers-color-scheme: dark" in page


def test_pictures_say_what_is_unfinished(page):
    captions = [text for tag, text in Outline(page).texts if tag == "figcaption"]
    assert len(captions) == 6
    assert all("the month is not over, as the rows end on 2026-03-15." in caption for caption in captions)
    whole = report_page(ROWS, complete_only=True)
    assert "2026-03" not in whole.partition('id="rows">')[2].partition("</script>")[0]
    assert "is not over" not in whole


def test_hostile_names_do_no_harm(tmp_path):
    rows = ROWS.rename({"user_id": HOSTILE, "amount": "<img src=x onerror=alert(1)>"})
    rows = pl.concat([rows, rows.head(1).with_columns(pl.lit(None, pl.String).alias(HOSTILE))])
    rows = rows.with_columns(pl.col(HOSTILE).replace({"a": HOSTILE}), timestamp=pl.col("timestamp"))
    rows = rows.with_columns(pl.lit(date(2026, 1, 1)).alias("=cmd|' /C calc'!A0"))
    file = tmp_path / "<svg onload=alert(1)>.parquet"
    rows.write_parquet(file)
    with pytest.warns(CohortlibWarning):
        text = report_page(
            file, user=HOSTILE, amount="<img src=x onerror=alert(1)>", title=HOSTILE, nulls="drop",
            joined="=cmd|' /C calc'!A0",
        )  # fmt: skip
    plain = Outline(report_page(ROWS))
    seen = Outline(text)
    assert {tag for tag, _ in seen.tags} - {"ul", "li", "section"} <= {tag for tag, _ in plain.tags}
    assert {name for _, attrs in seen.tags for name in attrs} <= {name for _, attrs in plain.tags for name in attrs}
    assert len(seen.named("script")) == 3
    assert seen.all_in("h1") == [HOSTILE]
    assert seen.all_in("title") == [HOSTILE]
    assert "<svg onload" not in text
    # nothing of it comes into a file that a spreadsheet opens
    data = text.partition('id="rows">')[2].partition("</script>")[0].splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d(,-?[\d.e+-]*)+", line) for line in data[1:])


def test_script_data_cannot_close_the_script():
    from cohortlib.show.report.page import _plain

    with pytest.raises(CohortlibError, match="contain '<'"):
        _plain('{"a": "</script>"}')


def test_large_pictures_are_images():
    """Two images, for light and for dark mode."""
    from cohortlib.show import plot as plotting
    from cohortlib.show.report import pictures

    chart = plotting.heatmap(cl.termina.cohorts(ROWS))
    small = pictures.drawn("logo", "Title", "heat map.", chart)
    assert small.svg.startswith("<svg ")
    assert 'fill="currentColor"' in small.svg
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "LARGEST_SVG", 100)
        large = pictures.drawn("logo", "Title", "heat map.", chart)
    assert large.svg == ""
    assert large.light != large.dark
    assert (large.width, large.height) == (small.width, small.height)
    assert large.description == small.description == f"Title: heat map. {small.caption}"
    assert large.light.startswith("data:image/png;base64,iVBOR")


def test_images_are_packed_and_whole():
    import vl_convert

    from cohortlib.show.report.pictures import _packed

    specification = cl.plot.heatmap(cl.termina.cohorts(ROWS)).to_dict()
    image = vl_convert.vegalite_to_png(specification, vl_version="6.1")
    before, after = chunks(image), chunks(_packed(image))
    assert after[b"IHDR"] == before[b"IHDR"]
    assert list(after) == [b"IHDR", b"IDAT", b"IEND"]
    assert zlib.decompress(after[b"IDAT"]) == zlib.decompress(before[b"IDAT"])
    assert len(_packed(image)) < len(image)


def chunks(image):
    """Return the chunks of a PNG after checking their checksums."""
    parts, at = {}, 8
    while at < len(image):
        (size,) = struct.unpack_from(">I", image, at)
        kind, whole = image[at + 4 : at + 8], image[at + 4 : at + 8 + size]
        assert struct.unpack_from(">I", image, at + 8 + size) == (zlib.crc32(whole),)
        parts[kind] = parts.get(kind, b"") + whole[4:]
        at += 12 + size
    return parts


def test_lines_have_contrast_on_a_dark_page():
    from cohortlib.show.colours import contrast
    from cohortlib.show.report.pictures import _lightened

    lightened = dict(_lightened('<path stroke="#d5d8de"/><path fill="#101020"/><path stroke="#ffffff"/>'))
    assert set(lightened) == {"#101020"}
    assert contrast(lightened["#101020"], "#16181d") >= 6


def test_numbers_are_written_as_the_script_does():
    assert [sheets.formatted(value, "money") for value in (0.125, 9999.995, 10_000.5, -0.5, None)] == [
        "0.13", "10,000.00", "10,001", "-0.50", "",
    ]  # fmt: skip
    assert sheets.formatted(1234567, "count") == "1,234,567"
    assert sheets.shade(3.0, 3.0, 3.0) == "v1"


# --- the file ---


def test_is_reproducible(tmp_path):
    for name, threads in (("one.html", 1), ("two.html", 2)):
        assert cl.report(ROWS, tmp_path / name, threads=threads) is None
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.html").read_text(encoding="utf-8") == report_page(ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_a_failure_keeps_the_old_file(tmp_path):
    file = tmp_path / "report.html"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(CohortlibError, match="nothing"):
        cl.report(ROWS, file, user="nothing")
    with pytest.raises(SettingError, match=r"title=5 is not text\. Expected a string"):
        cl.report(ROWS, file, title=5)
    with pytest.raises(FileNotFoundError) as error:
        cl.report(ROWS, tmp_path / "nowhere" / "report.html")
    assert error.value.filename == str(tmp_path / "nowhere" / "report.html")
    assert file.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("module", "name"), [("altair", "Altair"), ("jinja2", "Jinja2"), ("vl_convert", "vl-convert")])
def test_missing_extras_fail_first(module, name, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CohortlibError, match=rf"a report needs {name}. Hint: pip install 'cohortlib\[report\]'"):
        report_page("nowhere.parquet")


def test_takes_the_settings_of_cohorts():
    of_report, of_cohorts = (inspect.signature(call).parameters for call in (cl.report, cl.termina.cohorts))
    assert [name for name in of_report if name not in ("path", "title")] == list(of_cohorts)
    assert all(of_report[name].default == of_cohorts[name].default for name in of_cohorts)


# --- the command ---


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ROWS.rename({"user_id": "customer"}).write_csv("orders.csv")
    return tmp_path


def run(*args):
    return CliRunner().invoke(main.cli, ["report", *args], prog_name="cohortlib")


def test_the_command_writes_the_page(folder):
    result = run("orders.csv", "--user", "customer", "--freq", "Q", "--title", "Ours", "-o", "report.html")
    assert (result.exit_code, result.output) == (0, "")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text == report_page("orders.csv", user="customer", freq="Q", title="Ours")
    result = run("orders.csv", "--user", "customer", "--freq", "Q", "--title", "Ours", "-o", "-")
    assert result.stdout == text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["orders.csv", "-o", "report.html"], "column 'user_id' is not in the table"),
        (["orders.csv", "-o", "report.png"], "-o report.png: a report is an HTML file. Hint: -o FILE.html"),
        (["orders.csv"], "Missing option '-o'"),
        (["nowhere.csv", "-o", "report.html"], "there is no file 'nowhere.csv'"),
        (
            ["orders.csv", "--user", "customer", "-o", "nowhere/report.html"],
            "cannot write nowhere/report.html: No such file",
        ),
        (["orders.csv", "--user", "customer", "--end", "never", "-o", "report.html"], "--end never is not a date"),
    ],
)
def test_failures_are_reported_in_one_line(folder, args, message):
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["orders.csv"]


def test_the_command_takes_prepared_data(folder):
    cl.prepare("orders.csv", "prepared", user="customer", decimals=2)
    result = run("prepared", "-o", "report.html")
    assert (result.exit_code, result.output) == (0, "")
    assert "From prepared, prepared, by month." in (folder / "report.html").read_text(encoding="utf-8")


def test_help_is_light():
    code = """
import sys
from cohortlib.cli.main import cli
cli.main(["report", "--help"], standalone_mode=False)
print(*({"polars", "numba", "altair", "jinja2", "vl_convert"} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "-o, --output FILE" in done.stdout
    assert done.stderr == "\n"


# --- warnings, recorded_warnings ---


def test_recorded_warnings_are_still_raised():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with recorded_warnings() as outer:
            warn("one")
            with recorded_warnings() as inner:
                warn("two")
            warn("three")
        warn("four")
    assert (outer, inner) == (["one", "three"], ["two"])
    assert [str(warning.message) for warning in caught] == ["one", "two", "three", "four"]
    assert {warning.category for warning in caught} == {CohortlibWarning}


def test_without_altair_the_extra_is_named():
    code = """
import sys
sys.modules["altair"] = None
import importlib.util, cohortlib as cl
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "altair" else find_spec(name)
try:
    cl.report("orders.csv", "report.html")
except cl.errors.CohortlibError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a report needs Altair. Hint: pip install 'cohortlib[report]'\n"
