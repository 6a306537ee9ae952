"""Draw small sets of rows, and settings of the general table, in which everything collides."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import naive_general
import polars as pl
from hypothesis import strategies as st
from naive import Refused
from strategies import quietly, seldom

USERS = (("a", "b", "c", "d", "e", "f"), (1, 2, 3, 10, 9, -1))
SEGMENTS = (("DE", "FR", "", None), (10, 9, -1, None), (True, False, None), (1.5, -2.0, 1e300, None))
SPANS = {"D": 12, "W": 60, "M": 300, "Q": 700, "A": 1500}
AGES = (None, "D", "W", "M", "Q", "A", "1d", "3d", "7d", "30d", "90d")
BRACKETS = ((0, 1, 3, 7), (0,), (1, 2), (2, 5), (0, 2), (3,))


@dataclass(frozen=True)
class Case:
    """One drawn input with its settings, for the judge and for the engine."""

    rows: list[dict[str, Any]]
    frame: pl.DataFrame
    settings: dict[str, Any]
    joined: list[tuple[Any, Any]] | None = None
    joined_frame: pl.DataFrame | None = None
    users: list[dict[str, Any]] | None = None
    users_frame: pl.DataFrame | None = None
    calendar: list[tuple[date, str]] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def judge(self, function=naive_general.cohorts, *arguments, **more):
        """Ask the judge; None where the data break a rule."""
        try:
            return function(
                self.rows, *arguments, joined=self.joined, users=self.users, calendar=self.calendar,
                **self.settings | more,
            )  # fmt: skip
        except Refused:
            return None

    def options(self):
        """Return the settings as the engine takes them."""
        options = dict(self.settings)
        if self.joined is not None:
            options["joined"] = self.joined_frame
        if self.users is not None:
            options["users"] = self.users_frame
        if self.calendar is not None:
            options["calendar"] = pl.DataFrame(self.calendar, schema=["first_day", "label"], orient="row")
        return options

    def ask(self, function, *arguments, source=None, **more):
        """Ask the engine."""
        return quietly(function, self.frame if source is None else source, *arguments, **self.options() | more)


@st.composite
def instants_near(draw, first, width, zone):
    """Draw a strategy for instants: dates, naive or zoned datetimes."""
    kind = draw(st.sampled_from(("date", "date", "naive", "zoned")))
    days = st.integers(0, width).map(lambda offset: first + timedelta(days=offset))
    if kind == "date":
        return pl.Date(), days
    hours = st.sampled_from((0, 1, 11, 23, 24 * 60 - 1, 60, 2, 3 * 60))
    naive = st.builds(lambda day, minutes: datetime.combine(day, time(0)) + timedelta(minutes=minutes), days, hours)
    if kind == "naive":
        return pl.Datetime(draw(st.sampled_from(("ms", "us")))), naive
    zoned = naive.map(lambda at: at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC))
    return pl.Datetime("us", "UTC"), zoned


def amounts():
    """Draw amounts, zeros and refunds among them."""
    return st.sampled_from((10, 1, 2, 5, 7, 20, 0.5, 10, 0, -1, -2, -10, -0.5))


@st.composite
def cases(draw, *, plain_rows=False):
    """Draw rows and settings."""
    freq = draw(st.sampled_from(("M", "M", "W", "D", "Q", "A")))
    age = draw(st.sampled_from(AGES))
    zone = draw(st.sampled_from(("UTC", "Europe/Berlin", "America/Sao_Paulo", "America/St_Johns")))
    first = draw(st.sampled_from((date(2025, 12, 20), date(2018, 11, 1), date(2010, 10, 30), date(2024, 2, 20))))
    width = SPANS[draw(st.sampled_from(("D", freq, age if age in SPANS else "W")))]
    users = draw(st.sampled_from(USERS))[: draw(st.integers(1, 6))]
    dtype, instants = draw(instants_near(first, width, zone))
    values = draw(st.sampled_from(SEGMENTS))
    holes = draw(seldom(6))

    def hole(strategy, one_in=8):
        return st.one_of(strategy, *[strategy] * (one_in - 2), st.none()) if holes else strategy

    row = st.fixed_dictionaries({
        "user_id": hole(st.sampled_from(users)), "timestamp": hole(instants), "amount": hole(amounts()),
        "segment": st.sampled_from(values), "plan": st.sampled_from(("x", "y")), "margin": hole(amounts()),
    })  # fmt: skip
    rows = draw(st.lists(row, min_size=draw(st.sampled_from((4, 10, 1, 0))), max_size=draw(st.sampled_from((12, 25)))))
    settings = {"freq": freq, "age": age, "timezone": zone}
    optional = {
        "refunds": st.sampled_from(("net", "signed", "drop")),
        "week_start": st.sampled_from(("monday", "sunday", "wednesday")),
        "complete_only": st.booleans(),
        "amounts": st.sampled_from((("margin",), ())),
        "confidence": st.sampled_from((0.95, 0.5)),
        "before_joined": st.sampled_from(("clip", "drop", "error")),
    }
    settings |= draw(st.fixed_dictionaries({}, optional=optional))
    if holes:
        settings["nulls"] = draw(st.sampled_from(("drop", "drop", "error")))
    reading = draw(st.sampled_from(("exact", "exact", "unbounded", "consecutive", "brackets")))
    if reading == "brackets":
        settings["brackets"] = draw(st.sampled_from(BRACKETS))
    elif reading != "exact":
        settings["retention"] = reading
    if settings.get("refunds", "net") == "net" and draw(seldom(6)):
        settings["amount"] = None
    calendar = None
    if freq == "M" and age in (None, "1d", "3d", "7d", "30d", "90d") and draw(seldom(3)):
        calendar = [(first - timedelta(days=3), "before")]
        while calendar[-1][0] <= first + timedelta(days=width + 2):
            calendar.append((calendar[-1][0] + timedelta(days=draw(st.sampled_from((7, 28, 35)))), f"P{len(calendar)}"))
        calendar[-1] = (calendar[-1][0], None)
    elif freq in "QA" and draw(st.booleans()):
        settings["fiscal_start"] = draw(st.sampled_from((4, 10, 2)))
    if calendar is None:
        for bound in ("start", "end"):
            if draw(seldom(5)):
                day = first + timedelta(days=draw(st.integers(-3, width + 5)))
                settings[bound] = draw(st.sampled_from((day, day.isoformat(), day.isoformat()[:7])))
        if "start" in settings and "end" in settings:
            del settings["start"]
    kind = draw(st.sampled_from(("by", "by", "both", "none", "split", "users")))
    user_rows = None
    if kind in ("by", "both"):
        settings["by"] = ("segment",) if kind == "by" else ("plan", "segment")
    elif kind == "split":
        settings["split"] = ("segment",)
    elif kind == "users":
        settings["by"] = draw(st.sampled_from((("tier",), ("segment", "tier"), ("tier", "segment"))))
        chosen = draw(st.lists(st.sampled_from(users), unique=True, max_size=5))
        user_rows = [{"user_id": user, "tier": draw(st.sampled_from(("gold", "tin", None)))} for user in chosen]
        user_rows += draw(st.lists(st.sampled_from(user_rows), max_size=1)) if user_rows else []
    entries = None
    if draw(seldom(4)) and not (kind == "split" and holes):
        entry = st.tuples(st.sampled_from((*users, users[0])), instants)
        entries = draw(st.lists(entry, max_size=5, unique_by=None if draw(seldom(8)) else (lambda each: each[0])))
    id_type = pl.String if isinstance(users[0], str) else pl.Int64
    schema = {
        "user_id": id_type, "timestamp": dtype, "amount": pl.Float64,
        "segment": {str: pl.String, int: pl.Int64, bool: pl.Boolean, float: pl.Float64}[type(values[0])],
        "plan": pl.String, "margin": pl.Float64,
    }  # fmt: skip
    rows = [
        row | {name: None if row[name] is None else float(row[name]) for name in ("amount", "margin")} for row in rows
    ]
    return Case(
        rows, pl.DataFrame(rows, schema=schema), settings,
        entries, None if entries is None else pl.DataFrame(
            entries, schema={"user_id": id_type, "joined": dtype}, orient="row"
        ),
        user_rows,
        None if user_rows is None else pl.DataFrame(user_rows, schema={"user_id": id_type, "tier": pl.String}),
        calendar,
    )  # fmt: skip
