"""Draw small sets of rows and settings in which everything collides: few users, few periods, awkward values.

A `Case` holds the same rows twice: as plain tuples for the judge, as a frame or another table for the engine.
"""

import math
import struct
import warnings
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import naive
import polars as pl
from hypothesis import assume
from hypothesis import strategies as st

import cohortlib as cl

FREQS = ("M", "D", "W", "Q", "A")
# Zones with a story: DST at 02:00, at 00:01 (St. John's until 2011) and at midnight (São Paulo until 2019),
# halves of hours, a day that never was (Apia, 2011-12-30), odd seconds (Monrovia until 1972).
ZONES = (
    "UTC",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Apia",
    "America/St_Johns",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Africa/Monrovia",
)
# Days around which the rows of a case lie: changes of DST, ends of months and years, leap days, far-off years.
BASES = (
    date(2026, 1, 1),
    date(2026, 3, 8),
    date(2026, 10, 25),
    date(2011, 12, 30),
    date(2011, 3, 13),
    date(2010, 11, 7),
    date(2018, 11, 4),
    date(2024, 2, 29),
    date(2023, 2, 28),
    date(1970, 1, 1),
    date(1969, 12, 29),
    date(1901, 12, 31),
    date(2079, 6, 30),
)
SPAN = {"D": 20, "W": 70, "M": 500, "Q": 900, "A": 2500}  # days from the first row to the last, at most


def seldom(one_in):
    """Draw True now and then; False is the simpler."""
    return st.sampled_from((*[False] * (one_in - 1), True))


# --- users -------------------------------------------------------------------------------------------------

INTEGERS = (
    (pl.Int64, (1, 2, 3, 10, 9, -1, -2, 2**63 - 1, -(2**63))),
    (pl.Int8, (0, 1, 5, 10, 127, -128, -1)),
    (pl.Int16, (0, 1, 100, 20, 32767, -32768)),
    (pl.Int32, (0, 7, 70, 700, 2**31 - 1, -(2**31))),
    (pl.UInt8, (0, 1, 2, 10, 255)),
    (pl.UInt16, (0, 1, 2, 65535)),
    (pl.UInt32, (0, 1, 19, 2, 2**32 - 1)),
    (pl.UInt64, (0, 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1)),
)
TEXTS = (
    ("a", "b", "c", "d"),
    ("_", "a b", "a", "A", "aa", "10", "9", "-1", "nul\0", "nul"),
    # Polars keeps up to 12 bytes of a text inline, so lengths around 12 and shared prefixes are worth a look.
    (
        "customer-0000000001",
        "customer-0000000002",
        "customer-000",
        "customer-0000",
        "customer-00",
        "customer-1",
    ),
    (
        "0b5a2b26-3f5e-4c0e-9a61-2f1f6d1f0a01",
        "0b5a2b26-3f5e-4c0e-9a61-2f1f6d1f0a02",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    ),
    # By code point U+FFFD sorts before U+1F600, in UTF-16 it would not; é comes in two spellings.
    ("é", "e\u0301", "ß", "ss", "\U0001f600", "\ufffd", "用户", "Ω" * 9),
)


@st.composite
def user_pools(draw):
    """Draw a type for the user column and the users, at least one."""
    if draw(st.booleans()):
        dtype, users = draw(st.sampled_from(INTEGERS))
        chosen = draw(st.permutations(users))[: draw(st.sampled_from((3, 2, 4, 5, 1)))]
        return dtype, chosen
    if draw(seldom(5)):
        anything = st.text(st.characters(codec="utf-8"), max_size=20).filter(str.strip)
        chosen = draw(st.lists(anything, min_size=draw(st.sampled_from((1, 3))), max_size=5, unique=True))
    else:
        chosen = draw(st.permutations(draw(st.sampled_from(TEXTS))))[: draw(st.sampled_from((3, 2, 4, 5, 1)))]
    dtype = draw(st.sampled_from((pl.String, pl.String, pl.Categorical, pl.Enum(chosen))))
    return dtype, chosen


# --- instants ----------------------------------------------------------------------------------------------

HOUR = 3_600_000_000
NUDGES = (
    0, -1, 1, -1000, 1000, -1_000_000, 1_000_000, 60_000_000, -60_000_000, HOUR // 2, -HOUR // 2,
    HOUR, -HOUR, HOUR - 1, -HOUR - 1, 3 * HOUR + HOUR // 2, 5 * HOUR, -5 * HOUR - HOUR // 2, 12 * HOUR,
    -12 * HOUR,
)  # fmt: skip


@st.composite
def days_near(draw, base, freq):
    """Draw a handful of days: a few periods' first and last ones and some in between."""
    first = naive.period_of(base, freq)
    found = {base}
    # Seldom so wide a grid that its periods no longer fit 64 bits.
    width = SPAN[freq] * (12 if freq in "DWM" and draw(seldom(6)) else 1)
    for _ in range(draw(st.sampled_from((3, 2, 1, 4, 5)))):
        offset = draw(st.integers(0, width))
        day = base + timedelta(days=offset)
        kind = draw(st.sampled_from(("as it is", "first", "last")))
        period = max(first, naive.period_of(day, freq))
        if kind == "first":
            day = naive.first_day(period, freq)
        elif kind == "last":
            day = naive.last_day(period, freq)
        found.add(day)
    return sorted(found)


@dataclass(frozen=True)
class Clock:
    """A type for a column of instants, and how to draw one: as the frame's integer and as a Python value."""

    dtype: Any
    days: tuple[date, ...]
    zone: str  # where midnights are taken

    @property
    def values(self):
        if self.dtype == pl.Date:
            return st.sampled_from(self.days).map(lambda day: ((day - date(1970, 1, 1)).days, day))
        return st.builds(self._near, st.sampled_from(self.days), st.sampled_from(NUDGES), st.integers(0, 999))

    def _near(self, day, nudge, nanoseconds):
        zoned = self.dtype.time_zone is not None
        midnight = datetime.combine(day, time(0), ZoneInfo(self.zone) if zoned else UTC)
        since = midnight.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        micros = since // timedelta(microseconds=1) + nudge
        if self.dtype.time_unit == "ms":
            count, micros = micros // 1000, micros // 1000 * 1000
        elif self.dtype.time_unit == "us":
            count = micros
        else:
            count = micros * 1000 + nanoseconds
        value = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
        return count, value if zoned else value.replace(tzinfo=None)


@st.composite
def clocks(draw, days, zone):
    """Draw a type of instant: a Date, or a Datetime of any resolution, with or without a zone."""
    if draw(st.booleans()):
        return Clock(pl.Date(), tuple(days), zone)
    unit = draw(st.sampled_from(("us", "ms", "ns")))
    written = draw(st.one_of(st.none(), st.sampled_from(ZONES)))
    return Clock(pl.Datetime(unit, written), tuple(days), draw(st.sampled_from((zone, written or zone))))


def instants(name, counts, dtype):
    """Make a column of instants of integers, the only way that loses nothing."""
    physical = pl.Int32 if dtype == pl.Date else pl.Int64
    column = pl.Series(name, counts, dtype=physical)
    if dtype == pl.Date:
        return column.cast(pl.Date)
    column = column.cast(pl.Datetime(dtype.time_unit))
    return (
        column if dtype.time_zone is None else column.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    )


# --- amounts -----------------------------------------------------------------------------------------------

AWKWARD = (
    0.1, 0.2, -0.3, 0.1 + 0.2, 0.30000000000000004, 0.0, -0.0, 1e-7, 5e-7, -5e-7, 1.5e-6, 2.5e-6,
    4.9999999999e-7,
    1.005, 2.675, 5e-324, 1e-300, 1 / 3, -1 / 3, 2 / 3, 1e15 / 3e6,
)  # fmt: skip
MONEY = ("cents", "awkward", "ties", "whole", "decimal", "floats", "single", "huge", "edge", "cents", "decimal")


def single(value):
    """Round a float to what a 32-bit one holds."""
    return struct.unpack("f", struct.pack("f", value))[0]


@st.composite
def amount_kinds(draw, decimals, kinds):
    """Draw a type for the amount column and a strategy for its values."""
    one = 10**decimals
    kind = draw(st.sampled_from(kinds))
    if kind == "cents":
        return pl.Float64, st.integers(-2000, 10_000).map(lambda cents: cents / 100)
    if kind == "awkward":
        return pl.Float64, st.sampled_from(AWKWARD)
    if kind == "ties":  # an odd number over 2 ** (decimals + 1) lies exactly between two units
        return pl.Float64, st.integers(-40, 200).map(lambda k: (2 * k + 1) / 2 ** (decimals + 1))
    if kind == "floats":
        return pl.Float64, st.floats(-1e6, 1e7, allow_nan=False)
    if kind == "single":
        return pl.Float32, st.sampled_from([single(value) for value in (*AWKWARD, 12.99, -9.99, 1e6)])
    if kind == "whole":
        dtype, low, high = draw(
            st.sampled_from(
                (
                    (pl.Int64, -5, 20),
                    (pl.Int8, -128, 127),
                    (pl.Int16, -300, 32767),
                    (pl.Int32, -(2**20), 2**31 - 1),
                    (pl.UInt8, 0, 255),
                    (pl.UInt16, 0, 65535),
                    (pl.UInt32, 0, 2**32 - 1),
                    (pl.UInt64, 0, 1000),
                )
            )
        )
        return dtype, st.integers(low, high)
    if kind == "decimal":
        scale = draw(st.integers(0, decimals))
        values = st.integers(-5000, 20_000).map(lambda digits: Decimal(digits).scaleb(-scale))
        return pl.Decimal(draw(st.sampled_from((18, 38))), scale), values
    if kind == "huge":  # where units no longer fit a float: published quotients must round once
        near = st.builds(lambda sign, e, k: sign * (2**e + k), st.sampled_from((1, 1, 1, -1)),
                         st.integers(51, 58), st.integers(-3, 3))  # fmt: skip
        if draw(st.booleans()):
            return pl.Decimal(38, decimals), near.map(lambda units: Decimal(units).scaleb(-decimals))
        return pl.Float64, near.map(lambda units: units / one)
    # Around the last unit that 64 bits hold, alone or in sum.
    near = st.builds(lambda part, k: naive.LIMIT // part + k, st.sampled_from((1, 2, 3, -1, -2)), st.integers(-2, 1))
    if draw(st.booleans()):
        return pl.Decimal(38, decimals), near.map(lambda units: Decimal(units).scaleb(-decimals))
    return pl.Float64, near.map(lambda units: units / one)


# --- settings ----------------------------------------------------------------------------------------------


def written(day):
    """Draw a way to write a day, or the month, quarter or year around it, for `start=` and `end=`."""
    return st.sampled_from(
        (
            day,
            datetime.combine(day, time(23, 59)),
            day.isoformat(),
            day.isoformat()[:7],
            f"{day.year:04}Q{(day.month + 2) // 3}",
            f"{day.year:04}",
        )
    )


@st.composite
def bounds(draw, days, freq):
    """Draw a `start=` or an `end=` near the days of the data."""
    day = draw(st.sampled_from(days)) + timedelta(days=draw(st.sampled_from((0, 0, 0, -1, 1, -40, 45))))
    if freq == "D" and not draw(seldom(4)):  # a year of days is a long table
        return draw(st.sampled_from((day, day.isoformat())))
    return draw(written(day))


@st.composite
def settings_near(draw, days, freq, zone, decimals):
    """Draw the settings that both tables share, each left out as often as not, the bounds more often."""
    optional = {
        "week_start": st.sampled_from(naive.WEEKDAYS),
        "refunds": st.sampled_from(("signed", "drop", "net")),
        "before_joined": st.sampled_from(("clip", "drop", "clip", "error")),
        "complete_only": st.booleans(),
        "nulls": st.sampled_from(("drop", "drop", "error")),
    }
    drawn = draw(st.fixed_dictionaries({}, optional=optional))
    for bound in ("start", "end"):
        if draw(seldom(8)):
            drawn[bound] = draw(bounds(days, freq))
    if "start" in drawn and "end" in drawn:  # a start after the end is a wrong setting, not a case
        first, last = naive.days_of(drawn["start"])[0], naive.days_of(drawn["end"])[1]
        assume(first <= last)
    if freq != "M":
        drawn["freq"] = freq
    if zone != "UTC":
        drawn["timezone"] = zone
    if decimals != 6:
        drawn["decimals"] = decimals
    return drawn


def customer_settings():
    """Draw the settings that only the customers' table has."""
    return st.fixed_dictionaries(
        {},
        optional={
            "basis": st.sampled_from(("single_customer", "cohort_total", "cohort_mean")),
            "rows": st.sampled_from(("dense", "active")),
            "top_n": st.integers(1, 4),
        },
    )


# --- the whole ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One drawn input with its settings."""

    rows: list[tuple[Any, Any, Any]]
    frame: pl.DataFrame
    settings: dict[str, Any]
    joined: list[tuple[Any, Any]] | None = None  # as the judge takes it
    joined_as: Any = None  # as the engine takes it: a frame, or the name of a column
    form: str = "frame"
    threads: int | None = None
    names: dict[str, str] = field(default_factory=dict)

    def judge(self, table, **more):
        """Ask the judge."""
        return getattr(naive, table)(self.rows, joined=self.joined, **self.settings, **more)

    def ask(self, table, **more):
        """Ask the engine."""
        options = {**self.names, **self.settings, "joined": self.joined_as, "threads": self.threads, **more}
        return quietly(getattr(cl.termina, table), shaped(self.frame, self.form), **options)


def shaped(frame, form):
    """Give a frame another shape that the engine must take: chunks, a lazy frame, an Arrow table."""
    if form == "chunks":
        cuts = sorted({0, frame.height // 3, frame.height // 2, frame.height})
        parts = [frame.slice(a, b - a) for a, b in pairwise(cuts)]
        return pl.concat(parts or [frame], rechunk=False)
    if form == "lazy":
        return frame.lazy()
    if form == "arrow":
        return frame.to_arrow()
    return frame


def quietly(function, *arguments, **options):
    """Call the engine where its own warnings are expected; any other warning stays an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cl.errors.CohortlibWarning)
        return function(*arguments, **options)


def exactly(value):
    """Return what two cells must share to be the same: type and value, floats to the last bit."""
    return (type(value).__name__, value.hex() if isinstance(value, float) else value)


@st.composite
def joined_tables(draw, dtype, users, clock, holes):
    """Draw who joined when: mostly once each, sometimes twice, among them people who never bought."""
    entries = draw(
        st.lists(
            st.tuples(st.sampled_from(users), clock.values),
            max_size=6,
            unique_by=None if draw(seldom(10)) else (lambda entry: entry[0]),
        )
    )
    entries += draw(st.lists(st.sampled_from(entries), max_size=1)) if entries else []
    if holes:
        entries = [
            (None if hole == 1 else user, None if hole == 2 else instant)
            for user, instant in entries
            for hole in [draw(st.sampled_from((0, 0, 0, 0, 1, 2)))]
        ]
    if dtype in (pl.Categorical, pl.Enum):
        dtype = draw(st.sampled_from((dtype, pl.String)))
    counts = [None if instant is None else instant[0] for _, instant in entries]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series("user_id", [user for user, _ in entries], dtype=dtype),
            "joined": instants("joined", counts, clock.dtype),
        }
    )
    shape = draw(st.sampled_from(("plain", "renamed", "wide")))
    if shape == "renamed":
        frame = frame.rename({"joined": "signup"}).select("signup", "user_id")
    elif shape == "wide":
        frame = frame.with_columns(plan=pl.lit("x"))
    return [(user, None if instant is None else instant[1]) for user, instant in entries], frame


@st.composite
def cases(draw, joined=("none", "none", "table", "column"), poison=True, kinds=MONEY, **fixed):
    """Draw a case; `fixed` settings are as given, `poison=False` draws no nulls and no NaN."""
    freq = fixed.get("freq") or draw(st.sampled_from(FREQS))
    zone = draw(st.sampled_from(ZONES))
    decimals = fixed.get("decimals", draw(st.sampled_from((6, 6, 6, 0, 2, 3, 9))))
    days = draw(days_near(draw(st.sampled_from(BASES)), freq))
    clock = draw(clocks(days, zone))
    dtype, users = draw(user_pools())
    money, values = draw(amount_kinds(decimals, kinds))
    settings = draw(settings_near(days, freq, zone, decimals)) | fixed
    holes = poison and draw(seldom(5))

    buyers = users if len(users) == 1 or draw(st.booleans()) else users[:-1]
    row = st.tuples(st.sampled_from(buyers), clock.values, values)
    height = draw(st.sampled_from((12, 6, 3, 1, 20, 8, 16, 30, 40, 10, 5, 25, 0)))
    drawn = draw(st.lists(row, min_size=height - height // 3, max_size=height))
    if holes:
        drawn = [
            tuple(None if at == hole else cell for at, cell in enumerate(cells))
            for cells in drawn
            for hole in [draw(st.sampled_from((*[3] * 20, 0, 1, 2)))]
        ]
    if poison and money == pl.Float64 and drawn and draw(seldom(20)):
        at = draw(st.integers(0, len(drawn) - 1))
        drawn[at] = (*drawn[at][:2], draw(st.sampled_from((math.nan, math.inf, -math.inf))))

    counts = [None if instant is None else instant[0] for _, instant, _ in drawn]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series("user_id", [user for user, _, _ in drawn], dtype=dtype),
            "timestamp": instants("timestamp", counts, clock.dtype),
            "amount": pl.Series("amount", [amount for _, _, amount in drawn], dtype=money),
        }
    )
    rows = [(user, None if instant is None else instant[1], amount) for user, instant, amount in drawn]

    entries = joined_as = None
    how = draw(st.sampled_from(joined))
    if how == "table":
        entries, joined_as = draw(joined_tables(dtype, users, draw(clocks(days, zone)), holes))
    elif how == "column":
        other = draw(clocks(days, zone))
        when = {user: draw(other.values) for user in users}
        cells = [None if user is None or (holes and draw(seldom(10))) else when[user] for user, _, _ in drawn]
        if cells and draw(seldom(10)):
            cells[-1] = draw(other.values)
        entries = [(user, None if cell is None else cell[1]) for (user, _, _), cell in zip(drawn, cells, strict=True)]
        column = instants("since", [None if cell is None else cell[0] for cell in cells], other.dtype)
        frame, joined_as = frame.with_columns(column), "since"

    names = {}
    if draw(seldom(4)):
        names = {"user": "who", "timestamp": "at", "amount": "period"}
        renaming = {"user_id": "who", "timestamp": "at", "amount": "period"}
        frame = frame.rename(renaming)
        if isinstance(joined_as, pl.DataFrame):
            joined_as = joined_as.rename({"user_id": "who"})
    return Case(
        rows=rows,
        frame=frame,
        settings=settings,
        joined=entries,
        joined_as=joined_as,
        form=draw(st.sampled_from(("frame", "chunks", "lazy", "arrow"))),
        threads=draw(st.sampled_from((None, 1, 2, 3))),
        names=names,
    )
