"""Pictures of a cohort table: what stands in their data, and what is drawn of it."""

import json
import re
import struct
import subprocess
import sys
from datetime import date, datetime
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import polars as pl
import pytest

import cohortlib as cl
from cohortlib.errors import DataError, SchemaError, SettingError
from cohortlib.periods import Calendar
from cohortlib.show import colours as shading
from cohortlib.show.plot.drawing import thinned, ticks

pytestmark = pytest.mark.unit

# Three months, small enough to check every mean by hand.
TABLE = pl.DataFrame(
    {
        "cohort": ["2026-01", "2026-01", "2026-01", "2026-02", "2026-02", "2026-03"],
        "period": [0, 1, 2, 0, 1, 0],
        "cohort_size": [100, 100, 100, 60, 60, 40],
        "cohort_size_amount": [1000.0, 1000.0, 1000.0, 300.0, 300.0, 0.0],
        "active_users": [100, 30, 20, 60, 27, 40],
        "logo_retention": [1.0, 0.3, 0.2, 1.0, 0.45, 1.0],
        "amount": [1000.0, 400.0, 250.0, 300.0, 150.0, 0.0],
        "amount_retention": [1.0, 0.4, 0.25, 1.0, 0.5, None],
        "ltv": [10.0, 14.0, 16.5, 5.0, 7.5, 0.0],
    }
)
PLOTS = {
    "heatmap": cl.plot.heatmap,
    "retention_curves": cl.plot.retention_curves,
    "ltv_curves": cl.plot.ltv_curves,
    "cohort_sizes": cl.plot.cohort_sizes,
    "layers": cl.plot.layers,
}
FREQS = ("D", "W", "M", "Q", "A")
each_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)


def table(freq, cohorts, first=date(2021, 2, 3), ages=None, week_start="monday"):
    """Return a table of cohorts whose last ages all fall into the same period."""
    calendar = Calendar(freq, week_start)
    start = calendar.ordinal(first)
    rows = [
        {
            "cohort": label,
            "period": age,
            "cohort_size": 50 + at,
            "cohort_size_amount": 500.0,
            "active_users": 50 // (age + 1),
            "logo_retention": 1 / (age + 1),
            "amount": 500.0 / (age + 1),
            "amount_retention": 1 / (age + 1),
            "ltv": 10.0 + age,
        }
        for at, label in enumerate(calendar.labels(np.arange(start, start + cohorts)))
        for age in range(min(cohorts - at, ages or cohorts))
    ]
    return pl.DataFrame(rows)


def datasets(chart):
    """Return the rows that a chart draws, one list per dataset, the largest first."""
    return sorted(chart.to_dict(validate=False)["datasets"].values(), key=len, reverse=True)


def means(chart):
    (rows_of_mean,) = [rows for rows in datasets(chart) if rows and "mean" in rows[0]]
    return rows_of_mean


def cells(chart):
    (rows_of_cells,) = [rows for rows in datasets(chart) if rows and "cohort" in rows[0]]
    return rows_of_cells


def marks(chart):
    return [layer["mark"]["type"] for layer in chart.to_dict()["layer"]]


def svg(chart, tmp_path):
    chart.save(tmp_path / "chart.svg")
    return (tmp_path / "chart.svg").read_text(encoding="utf-8")


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


# --- the heat map ---


@pytest.mark.parametrize("value", ["logo_retention", "amount_retention", "active_users", "amount", "ltv"])
def test_heatmap_has_the_cells_of_the_table(value):
    known = TABLE.filter(pl.col(value).is_not_null())
    drawn = cells(cl.plot.heatmap(TABLE, value))
    assert [(row["cohort"], row["age"], row[value]) for row in drawn] == known.select("cohort", "period", value).rows()


def test_heatmap_draws_a_rect_and_a_label_for_each_cell(tmp_path):
    drawn = svg(cl.plot.heatmap(TABLE), tmp_path)
    colours = re.findall(r'aria-roledescription="rect mark" d="[^"]*" fill="([^"]+)"', drawn)
    assert len(colours) == TABLE.height
    labels = re.findall(r'fill="#\w{6}">([^<>]+)</text>', drawn.partition("mark-text")[2].partition("</g>")[0])
    assert labels == ["100%", "30%", "20%", "100%", "45%", "100%"]
    for text in ("Logo retention", "Months since the cohort's first month", "Cohort (month)"):
        assert f">{text}</text>" in drawn


def test_heatmap_is_scaled_to_ages_after_0():
    rect = cl.plot.heatmap(TABLE).to_dict()["layer"][0]
    scale = rect["encoding"]["color"]["scale"]
    assert scale["domain"][0] == 0.2
    assert scale["domain"][-1] == pytest.approx(0.45)
    assert scale["clamp"]
    assert len(scale["domain"]) == len(scale["range"])
    ltv = cl.plot.heatmap(TABLE, "ltv").to_dict()["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert (ltv[0], ltv[-1]) == (0.0, 16.5)


@pytest.mark.parametrize(("cohorts", "labelled"), [(27, True), (28, False)])  # 378 and 406 cells
def test_heatmap_writes_labels_up_to_a_limit(cohorts, labelled):
    chart = cl.plot.heatmap(table("W", cohorts))
    assert ("text" in marks(chart)) == labelled
    assert ("label" in cells(chart)[0]) == labelled


def test_heatmap_labels_can_be_chosen():
    assert "text" not in marks(cl.plot.heatmap(TABLE, labels=False))
    large = cl.plot.heatmap(table("W", 30), labels=True)
    assert "text" in marks(large)
    assert large.to_dict()["width"] >= 30 * 40


@pytest.mark.parametrize(
    ("field", "values", "labels"),
    [
        ("logo_retention", [1.0, 0.034], ["100.0%", "3.4%"]),
        ("active_users", [12345, 1234], ["12,345", "1,234"]),
        ("amount", [999.5, 12.25], ["999.50", "12.25"]),
        ("amount", [2e6, 1234567.0], ["2.0M", "1.2M"]),
        ("ltv", [-54321.0, 3e3], ["-54.3k", "3.0k"]),
        ("amount", [3e9, 2.5e9], ["3.0bn", "2.5bn"]),
    ],
)
def test_heatmap_labels_are_short(field, values, labels):
    frame = pl.DataFrame({"cohort": "2026-01", "period": [0, 1], "cohort_size": 1, field: values})
    assert [row["label"] for row in cells(cl.plot.heatmap(frame, field))] == labels


def test_constant_and_missing_values(tmp_path):
    same = TABLE.with_columns(amount=1e17)
    assert svg(cl.plot.heatmap(same, "amount"), tmp_path).count(">100,000,000.0bn<") == 6
    none = TABLE.with_columns(amount_retention=pl.lit(None, pl.Float64))
    for plot in (cl.plot.heatmap, cl.plot.retention_curves):
        assert "Amount retention" in svg(plot(none, "amount_retention"), tmp_path)


# --- what is not over ---


@pytest.mark.parametrize(
    ("freq", "last_day", "over"),
    [
        ("D", "2021-02-07", True),  # five days from 3 to 7 February: all are over
        ("W", "2021-03-07", True),  # five weeks from 1 February to 7 March
        ("W", "2021-03-06", False),
        ("M", "2021-06-30", True),
        ("M", date(2021, 6, 29), False),
        ("M", "2021-06", True),
        ("Q", datetime(2022, 3, 30, 23, 59), False),
        ("A", "2025-12-31", True),
        ("A", "2025-12-30", False),
    ],
)
def test_cells_of_a_period_that_is_not_over_are_marked(freq, last_day, over):
    five = table(freq, 5)
    plot = {"M": cl.plot.heatmap, "Q": cl.plot.retention_curves}.get(freq, cl.plot.layers)
    chart = plot(five, unfinished=last_day)
    rows = cells(chart)
    last = max(row["calendar"] for row in rows)
    assert {row["calendar"] for row in rows if row["unfinished"]} == (set() if over else {last})
    assert ("not over" in json.dumps(chart.title.to_dict())) == (not over)


def test_unfinished_cells_are_drawn_in_another_way(tmp_path):
    plain, marked = (svg(cl.plot.heatmap(TABLE, unfinished=day), tmp_path) for day in ("2026-03-31", "2026-03-30"))
    assert plain.count('stroke-opacity="0.3"') == plain.count('opacity="0.3"') == 0
    assert marked.count('opacity="0.3"') == 3  # a hatch on each
    assert "Hatched: the month is not over, as the rows end on 2026-03-30" in marked
    small = cl.plot.heatmap(table("W", 200), unfinished="2024-12-01").to_dict()["layer"][0]["encoding"]
    assert small["opacity"]["condition"]["value"] < small["opacity"]["value"]
    curves = svg(cl.plot.retention_curves(TABLE, unfinished="2026-03-30"), tmp_path)
    assert curves.count('stroke-dasharray="3,3"') == 2  # the third cohort has one cell, so no line


def test_unfinished_cohorts_are_faded():
    sizes = cells(cl.plot.cohort_sizes(TABLE, unfinished="2026-03-15"))
    assert [(row["cohort"], row["cohort_size"], row["unfinished"]) for row in sizes] == [
        ("2026-01", 100, False),
        ("2026-02", 60, False),
        ("2026-03", 40, True),
    ]
    assert "not over" not in json.dumps(cl.plot.cohort_sizes(TABLE, unfinished="2026-03").to_dict()["title"])


# --- curves and their mean ---


def test_the_mean_is_a_sum_over_a_sum():
    logo = [(row["age"], row["mean"], row["cohorts"], row["users"]) for row in means(cl.plot.retention_curves(TABLE))]
    assert logo == [(0, 1.0, 3, 200), (1, 57 / 160, 2, 160), (2, 0.2, 1, 100)]
    # the third cohort has no denominator, hence no value and no part in the mean
    amount = means(cl.plot.retention_curves(TABLE, "amount_retention"))
    assert [(row["mean"], row["cohorts"], row["users"]) for row in amount] == [
        (1.0, 2, 160),
        (550 / 1300, 2, 160),
        (0.25, 1, 100),
    ]
    ltv = [row["mean"] for row in means(cl.plot.ltv_curves(TABLE))]
    gains = [(10 * 100 + 5 * 60) / 200, (4 * 100 + 2.5 * 60) / 160, 2.5]  # of the cohorts that have reached the age
    assert ltv == [gains[0], gains[0] + gains[1], sum(gains)]


def test_the_mean_excludes_unfinished_cells():
    mean = means(cl.plot.retention_curves(TABLE, unfinished="2026-03-30"))
    assert [(row["age"], row["mean"], row["cohorts"]) for row in mean] == [(0, 1.0, 2), (1, 0.3, 1)]
    assert datasets(cl.plot.retention_curves(TABLE, unfinished="2025-01-01"))[-1] == []


def test_the_mean_is_that_of_the_rows():
    sample = pl.read_parquet(cl.__path__[0] + "/samples/cdnow_sample.parquet")
    months = cl.termina.cohorts(sample, freq="M")
    mean_by_age = {row["age"]: row["mean"] for row in means(cl.plot.retention_curves(months))}
    for age in (1, 15, 17):
        reached = months.filter(pl.col("period") == age)
        assert mean_by_age[age] == reached["active_users"].sum() / reached["cohort_size"].sum()


def test_curves_break_where_an_age_is_missing():
    holed = TABLE.filter((pl.col("cohort") != "2026-01") | (pl.col("period") != 1))
    runs = {(row["cohort"], row["age"]): row["run"] for row in cells(cl.plot.ltv_curves(holed))}
    assert runs["2026-01", 0] != runs["2026-01", 2]
    assert runs["2026-02", 0] == runs["2026-02", 1]


def test_age_0_is_left_out_if_it_is_far_above_the_rest(tmp_path):
    chart = cl.plot.retention_curves(TABLE)  # 0.45 is the largest after 1
    assert "Age 0 is left out" in svg(chart, tmp_path)
    assert min(row["age"] for row in cells(chart)) == 0  # in the data it stays
    kept = cl.plot.retention_curves(TABLE, "amount_retention")  # 0.5 is half of it
    assert "Age 0" not in svg(kept, tmp_path)


def test_curves_name_few_cohorts_all_and_many_by_their_ends():
    def named(chart):
        return chart.to_dict()["layer"][0]["encoding"]["color"]["legend"]["values"]

    assert named(cl.plot.ltv_curves(TABLE)) == ["2026-01", "2026-02", "2026-03", "Weighted mean"]
    assert named(cl.plot.ltv_curves(table("Q", 20))) == ["2021Q1", "2025Q4", "Weighted mean"]


# --- over the calendar ---


def test_layers_stack_the_amount_of_each_calendar_period():
    rows = cells(cl.plot.layers(TABLE))
    assert [(row["calendar"], row["cohort"], row["amount"]) for row in rows if row["calendar"] == "2026-02"] == [
        ("2026-02", "2026-01", 400.0),
        ("2026-02", "2026-02", 300.0),
    ]
    assert sum(row["amount"] for row in rows) == TABLE["amount"].sum()


def test_calendar_axes_have_the_periods_without_rows():
    holed = table("M", 4).filter(pl.col("cohort") != "2021-03")
    axis = cl.plot.cohort_sizes(holed).to_dict()["encoding"]["x"]
    assert axis["scale"]["domain"] == ["2021-02", "2021-03", "2021-04", "2021-05"]
    assert [row["cohort"] for row in cells(cl.plot.cohort_sizes(holed))] == ["2021-02", "2021-04", "2021-05"]


# --- all of them ---


@pytest.mark.parametrize(
    ("freq", "plot"), [*zip(FREQS, PLOTS.values(), strict=True), *((freq, cl.plot.layers) for freq in FREQS)]
)
def test_freq_is_inferred_from_the_labels(plot, freq):
    unit = {"D": "day", "W": "week", "M": "month", "Q": "quarter", "A": "year"}[freq]
    spec = json.dumps(plot(table(freq, 4, week_start="sunday")).to_dict(validate=False))
    assert unit in spec.lower()
    for other in {"day", "week", "month", "quarter", "year"} - {unit}:
        assert other not in spec.lower()


@pytest.mark.parametrize("week_start", ["sunday", "thursday"])
def test_weeks_begin_on_the_day_of_their_labels(week_start):
    rows = cells(cl.plot.heatmap(table("W", 3, week_start=week_start)))
    known = {row["cohort"] for row in rows}
    assert {row["calendar"] for row in rows} == known
    assert all(row["calendar"] == row["cohort"] for row in rows if row["age"] == 0)


def test_labels_read_from_a_file():
    years, days = table("A", 3), table("D", 3)
    for text, read in [(years, pl.col("cohort").cast(pl.Int64)), (days, pl.col("cohort").str.to_date())]:
        assert cells(cl.plot.heatmap(text.with_columns(read))) == cells(cl.plot.heatmap(text))


def test_days_that_look_like_weeks():
    mondays = table("D", 30, first=date(2026, 1, 5)).filter(pl.col("cohort").str.to_date().dt.weekday() == 1)
    assert "day" in cl.plot.heatmap(mondays).to_dict()["layer"][0]["encoding"]["x"]["title"].lower()
    assert cl.plot.heatmap(mondays, freq="W") is not None
    alone = mondays.head(3)
    with pytest.raises(SettingError, match="freq='D' or freq='W'"):
        cl.plot.heatmap(alone)
    calendars = [[row["calendar"] for row in cells(cl.plot.heatmap(alone, freq=freq))] for freq in "DW"]
    assert calendars == [["2026-01-05", "2026-01-06", "2026-01-07"], ["2026-01-05", "2026-01-12", "2026-01-19"]]


@each_plot
def test_200_weekly_cohorts_stay_within_bounds(plot, tmp_path):
    chart = plot(table("W", 200), unfinished="2024-11-29")
    spec = chart.to_dict()
    assert spec["width"] <= 1350
    assert spec["height"] <= 960
    if plot is cl.plot.heatmap:
        chart.save(tmp_path / "chart.png")
        width, height = png_size(tmp_path / "chart.png")
        assert 600 < width <= 1600
        assert 600 < height <= 1200
    drawn = svg(chart, tmp_path)
    assert len(drawn) < 5_000_000
    assert len(re.findall(r"<text", drawn)) < 100
    assert drawn.rstrip().endswith("</svg>")


@each_plot
def test_titles(plot, tmp_path):
    assert "Ours &amp; &lt;b&gt;yours&lt;" in svg(plot(TABLE, title="Ours & <b>yours</b>"), tmp_path)
    assert ">None<" not in svg(plot(TABLE, title=""), tmp_path)
    page = plot(TABLE, title="</script><script>alert(1)</script><!--").to_html()
    assert "alert(1)" in page
    assert "</script><script>alert" not in page
    assert "<!--" not in page.split("var spec")[1]


@each_plot
def test_charts_can_be_concatenated(plot):
    spec = (plot(TABLE) | plot(TABLE, title="other")).to_dict()
    assert len(spec["hconcat"]) == 2


@pytest.mark.parametrize("plot", [cl.plot.heatmap, cl.plot.cohort_sizes])
def test_tables_of_other_libraries(plot):
    frames = [TABLE.lazy(), TABLE.to_arrow(), pd.DataFrame(TABLE.to_dict(as_series=False))]
    frames.append(TABLE.with_columns(pl.col("cohort").cast(pl.Categorical), pl.col("period").cast(pl.UInt8)))
    for frame in [*frames, TABLE.reverse()]:
        assert datasets(plot(frame)) == datasets(plot(TABLE))


WRONG = {
    "a list": ([1], SchemaError, "the table has type list"),
    "a triangle": (cl.triangle(TABLE, "ltv"), SchemaError, "'period' is not in the table.*not a triangle"),
    "customers": (
        TABLE.with_columns(user_id=pl.lit("a")),
        SchemaError,
        "each customer.*Hint: use the table of cl.termina.cohorts",
    ),
    "no rows": (TABLE.clear(), DataError, "no rows"),
    "labels of nothing": (
        TABLE.head(1).with_columns(cohort=pl.lit("2026-W05")),
        DataError,
        "'2026-W05' is not the label of a period.*Expected labels",
    ),
    "no such month": (TABLE.head(1).with_columns(cohort=pl.lit("2026-13")), DataError, "'2026-13'"),
    "no such day": (TABLE.head(1).with_columns(cohort=pl.lit("2026-02-30")), DataError, "'2026-02-30'"),
    "two kinds": (
        TABLE.with_columns(cohort=pl.col("cohort").replace("2026-03", "2026Q1")),
        DataError,
        "'2026Q1'.*'2026-01'",
    ),
    "instants": (TABLE.with_columns(cohort=datetime(2026, 1, 1)), SchemaError, "type Datetime.*Expected labels"),
    "a null cohort": (TABLE.with_columns(cohort=pl.lit(None, pl.String)), DataError, "null in 6 rows"),
    "ages as text": (TABLE.with_columns(pl.col("period").cast(pl.String)), SchemaError, "'period' has type String"),
    "negative ages": (TABLE.with_columns(pl.col("period") - 1), DataError, "contains -1"),
    "rows twice": (pl.concat([TABLE, TABLE]), DataError, "same cohort and period"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_tables_are_refused(wrong):
    frame, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        cl.plot.heatmap(frame)


@each_plot
def test_every_chart_refuses_a_triangle(plot):
    with pytest.raises(SchemaError, match="not a triangle"):
        plot(cl.triangle(TABLE, "ltv"))


@pytest.mark.parametrize(
    ("plot", "field"),
    [("heatmap", "logo_retention"), ("retention_curves", "active_users"), ("ltv_curves", "ltv"),
     ("cohort_sizes", "cohort_size"), ("layers", "amount")],
)  # fmt: skip
def test_wrong_values(plot, field):
    draw = PLOTS[plot]
    with pytest.raises(SchemaError, match=f"'{field}' is not in the table"):
        draw(TABLE.drop(field))
    with pytest.raises(SchemaError, match=f"'{field}' has type String. Expected numbers"):
        draw(TABLE.with_columns(pl.col(field).cast(pl.String)))
    with pytest.raises(DataError, match="infinite"):
        draw(TABLE.with_columns(pl.lit(float("inf")).alias(field)))
    blank = TABLE.with_columns(pl.when(pl.col("period") == 1).then(float("nan")).otherwise(pl.col(field)).alias(field))
    assert "NaN" not in json.dumps(draw(blank).to_dict())


def test_wrong_settings():
    with pytest.raises(SettingError, match=r"value=.retention. is unknown\. Expected one of .logo_retention."):
        cl.plot.heatmap(TABLE, "retention")
    with pytest.raises(SettingError, match="value='ltv' is unknown"):
        cl.plot.retention_curves(TABLE, "ltv")
    for plot in PLOTS.values():
        with pytest.raises(SettingError, match="unfinished='yesterday'"):
            plot(TABLE, unfinished="yesterday")
        with pytest.raises(SettingError, match="freq='W' does not fit cohort '2026-01'"):
            plot(TABLE, freq="W")
        with pytest.raises(SettingError, match="freq='m' is unknown"):
            plot(TABLE, freq="m")
        with pytest.raises(SettingError, match="title=5 has type int"):
            plot(TABLE, title=5)
    with pytest.raises(DataError, match=r"100,128 cells\. Expected at most 100,000"):
        cl.plot.heatmap(table("D", 447))


def test_public_names():
    assert dir(cl.plot) == cl.plot.__all__ == sorted(PLOTS)
    with pytest.raises(AttributeError, match="nothing"):
        _ = cl.plot.nothing


def test_without_altair_the_error_names_the_extra():
    code = """
import sys
sys.modules["altair"] = None
import cohortlib as cl
try:
    cl.plot.heatmap
except cl.errors.CohortlibError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "charts need Altair. Hint: pip install 'cohortlib[plot]'\n"


# --- colours ---

DEFECTS = {  # what a colour-blind eye makes of linear red, green and blue (Viénot, Brettel and Mollon 1999)
    "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


def test_lightness_falls_for_colour_blind_readers_too():
    colours = [shading.colour(step / 100) for step in range(101)]
    lights = [shading.luminance(colour) for colour in colours]
    assert lights == sorted(lights, reverse=True)
    assert lights[0] > 0.8
    assert 0.01 < lights[-1] < 0.05
    linear = [[((c / 255 + 0.055) / 1.055) ** 2.4 for c in bytes.fromhex(colour[1:])] for colour in colours]
    for matrix in DEFECTS.values():
        seen = [[sum(a * b for a, b in zip(row, rgb, strict=True)) for row in matrix] for rgb in linear]
        lights = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in seen]
        assert lights == sorted(lights, reverse=True)


def test_ink_has_contrast_on_every_colour():
    for step in range(101):
        background = shading.colour(step / 100)
        assert shading.contrast(shading.ink(background), background) >= 4.5
    assert shading.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert shading.colour(-1) == shading.STOPS[0]
    assert shading.colour(2) == shading.STOPS[-1]


def test_labels_have_the_ink_of_the_colour_that_is_drawn(tmp_path):
    drawn = svg(cl.plot.heatmap(table("M", 12)), tmp_path)
    rects = re.findall(
        r'aria-roledescription="rect mark" d="M([\d.]+),([\d.]+)h([\d.]+)v([\d.]+)[^>]*fill="([^"]+)"', drawn
    )
    texts = re.findall(
        r'<text[^>]*transform="translate\(([\d.]+),([\d.]+)\)"[^>]*fill="(#\w{6})"[^>]*>[\d.]+%</text>', drawn
    )
    assert len(rects) == 78
    seen = 0
    for x, y, wide, high, fill in rects:
        colour = "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", fill)) if "rgb" in fill else fill
        for left, top, text in texts:
            if 0 < float(left) - float(x) < float(wide) and 0 < float(top) - float(y) < float(high):
                assert shading.contrast(text, colour) >= 4.3
                seen += 1
    assert seen == 78


@pytest.mark.parametrize(
    ("count", "freq", "expected"),
    [(24, "M", range(24)), (25, "M", range(0, 25, 2)), (200, "W", range(0, 200, 13)), (9000, "D", range(0, 9000, 375))],
)
def test_axes_are_thinned_to_the_calendar(count, freq, expected):
    assert thinned(count, freq) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.13, 0.77, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]), (-7, 21, [-5, 0, 5, 10, 15, 20]),
     (1e9, 4e9, [1e9, 2e9, 3e9, 4e9]), (0.034, 1.034, [0.2, 0.4, 0.6, 0.8, 1.0])],
)  # fmt: skip
def test_legends_have_round_numbers(low, high, expected):
    assert ticks(low, high) == expected


# --- the table of a notebook ---


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(["", dict(attrs).get("class")])

    def handle_data(self, data):
        if self.tags[-1] in ("td", "th") and self.rows:
            self.rows[-1][-1][0] += data


def seen(frame):
    page = Seen()
    page.feed(frame._repr_html_())
    return page


def test_a_notebook_shows_a_triangle_in_colours():
    triangle = cl.triangle(TABLE, "logo_retention")
    assert isinstance(triangle, pl.DataFrame)
    assert repr(triangle) == repr(pl.DataFrame(triangle))
    page = seen(triangle)
    assert page.rows == [
        [["cohort", None], ["0", None], ["1", None], ["2", None]],
        [["2026-01", None], ["100.0%", "s8"], ["30.0%", "s3"], ["20.0%", "s0"]],
        [["2026-02", None], ["100.0%", "s8"], ["45.0%", "s8"], ["", None]],
        [["2026-03", None], ["100.0%", "s8"], ["", None], ["", None]],
    ]
    assert not {"script", "link", "img"} & set(page.tags)
    amounts = [cell[0] for row in seen(cl.triangle(TABLE, "ltv")).rows[1:] for cell in row[1:]]
    assert amounts == ["10.00", "14.00", "16.50", "5.00", "7.50", "", "0.00", "", ""]


def test_a_notebook_shows_customers_escaped():
    rows = {"cohort": ["2026-01"] * 2, "user_id": ["<script>", "b"], "period": [0, 0], "amount": [1.0, float("nan")]}
    triangle = cl.triangle(pl.DataFrame(rows), "amount")
    assert [[cell[0] for cell in row] for row in seen(triangle).rows[1:]] == [
        ["2026-01", "<script>", "1.00"],
        ["2026-01", "b", "nan"],
    ]
    assert "<script>" not in triangle._repr_html_()
    words = pl.DataFrame({"cohort": ["2026-01"], "period": [0], "<i>": ["<b>"]})
    assert "<i>" not in cl.triangle(words, "<i>")._repr_html_()
    assert "<b>" not in cl.triangle(words, "<i>")._repr_html_()


def test_a_notebook_shows_a_limited_excerpt():
    page = cl.triangle(table("D", 210), "ltv")._repr_html_()
    assert "the first 200 of 210 rows and the first 200 of 210 ages" in page
    assert page.count("<tr>") == 201
    assert len(page) < 1_000_000


def test_operations_return_plain_frames():
    triangle = cl.triangle(TABLE, "ltv")
    assert type(triangle.select("cohort", "0")) is pl.DataFrame
    renamed = triangle.clone()
    renamed.columns = ["cohort", "a", "b", "c"]
    assert renamed._repr_html_() == pl.DataFrame(renamed)._repr_html_()
    assert "cohortlib-triangle" in triangle.clone()._repr_html_()
    assert cl.triangle(TABLE.clear(), "ltv")._repr_html_() == TABLE.clear().select("cohort")._repr_html_()


@pytest.mark.parametrize("field", ["logo_retention", "amount_retention", "ltv"])
def test_one_meaning_of_the_mean(field):
    """Pictures and triangles show the averages of ``summary``, also of a table with ``complete``."""
    months = [date(2026, month, day) for month, day in ((1, 5), (2, 3), (3, 30), (1, 20), (2, 28), (3, 1))]
    rows = pl.DataFrame({"user_id": [1, 1, 1, 2, 3, 3], "timestamp": months, "amount": [7, 5, 4, 3, 9, 2]})
    plot = cl.plot.ltv_curves if field == "ltv" else partial(cl.plot.retention_curves, value=field)
    for shown, more in ((cl.cohorts(rows), {}), (cl.termina.cohorts(rows), {"last_day": "2026-03-30"})):
        averages = cl.summary(shown, **more)
        drawn = means(plot(shown, unfinished=more.get("last_day")))
        assert [row["mean"] for row in drawn] == averages[field].to_list()
        assert [(row["cohorts"], row["users"]) for row in drawn] == averages.select("cohorts", "users").rows()
        last = cl.triangle(shown, field, mean=True, **more).row(-1)
        assert [value for value in last[1:] if value is not None] == averages[field].to_list()
    without = plot(cl.termina.cohorts(rows)).to_dict()
    assert "The mean counts all cells" in json.dumps(without["title"])
    assert "The mean counts" not in json.dumps(plot(cl.cohorts(rows)).to_dict()["title"])
