"""The door of Adapty's table: events and installs, from wherever they come, in one set of columns.

Three shapes are read: Adapty's own export (columns by name, or by their webhook names), the webhook's JSON lines,
and RevenueCat's transactions (see :mod:`cohortlib.adapty.revenuecat`). No row is removed: each has a kind, and those
that do not count have the kind −1 and are told in the report.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property, partial, reduce
from math import isfinite
from operator import or_
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import columns, kernels, revenuecat
from cohortlib.adapty.columns import Column
from cohortlib.adapty.tables import ATTRIBUTION, Choose, Raw, Stream, streams, tables
from cohortlib.errors import DataError, SchemaError, listed
from cohortlib.partitions import on_threads, workers_for
from cohortlib.schema import Dropped, string_views
from cohortlib.sources import Source

KINDS = {
    "trial_started": 0,
    "subscription_started": 1,
    "trial_converted": 2,
    "subscription_renewed": 3,
    "non_subscription_purchase": 4,
    "subscription_refunded": 5,
    "non_subscription_purchase_refunded": 6,
    "subscription_initial_purchase": 1,
}
_OTHERS = (
    "access_level_updated", "auto_renew_off", "auto_renew_off_subscription", "auto_renew_on",
    "auto_renew_on_subscription", "billing_issue_detected", "entered_grace_period", "subscription_cancelled",
    "subscription_deferred", "subscription_expired", "subscription_paused", "subscription_renewal_cancelled",
    "subscription_renewal_reactivated", "trial_cancelled", "trial_expired", "trial_renewal_cancelled",
    "trial_renewal_reactivated",
)  # fmt: skip
_OTHER, _UNKNOWN = -1, -2
_BLOCK = 1 << 17  # rows
_TYPES = pl.Enum([*KINDS, *_OTHERS])
_KIND_OF_CODE = np.array(
    [*KINDS.values(), *[_OTHER] * len(_OTHERS), *[_UNKNOWN] * (256 - len(_TYPES.categories))], np.int8
)
GRANTED = ("adapty_server_side_product", "adapty_dashboard_product", "adapty_promotion")

MONEY = ("revenue_usd", "proceeds_usd", "net_revenue_usd")
_DEVICE = ("idfv", "android_app_set_id", "android_id", "idfa", "advertising_id")
NO_DEVICE = "00000000-0000-0000-0000-000000000000"  # what phones give where the user forbids tracking
_FAMILY = ("ownership_type", "in_app_ownership_type")

ALIASES: dict[str, tuple[str, ...]] = {
    "event_datetime": ("purchase_date",),
    "product_id": ("vendor_product_id",),
    "revenue_usd": ("price_usd",),
    "install_date": ("profile_install_datetime",),
    "profile_country": ("profile_county",),
    "offer_category": ("store_offer_category",),
    "offer_type": ("store_offer_discount_type",),
    "offer_id": ("promotional_offer_id",),
    "attribution_ad_group": ("attribution_adgroup",),
    "attribution_ad_set": ("attribution_adset",),
    "device_id": _DEVICE,
}
_Batch = TypeVar("_Batch")
_Reader: TypeAlias = Callable[[pl.Series], Column]
_READERS: dict[str, _Reader] = {
    "user": columns.user,
    "event_datetime": columns.instant,
    "transaction_id": columns.text,
    "original_transaction_id": columns.text,
    "product_id": columns.text,
    **dict.fromkeys(MONEY, columns.number),
    "install_date": columns.instant,
    "subscription_expires_at": columns.instant,
    "profile_event_id": columns.text,
    "consecutive_payments": columns.whole,
    **dict.fromkeys(
        (
            "store", "base_plan_id", "store_country", "profile_country", "duration", "offer_category", "offer_type",
            "offer_id", "attribution_source", *(f"attribution_{name}" for name in ATTRIBUTION),
        ),
        columns.text,
    ),
}  # fmt: skip
_INSTANTS = tuple(name for name, read in _READERS.items() if read is columns.instant)
_REQUIRED = ("event_datetime", "transaction_id", "original_transaction_id", "product_id", *MONEY)
_ALWAYS = ("install_date", "subscription_expires_at", "profile_event_id")
_MATTERS = {
    **dict.fromkeys(MONEY, (1, 6)),
    **dict.fromkeys(revenuecat.SHARES, (1, 6)),
    "consecutive_payments": (1, 3),
}
"""The kinds of rows in which a column matters, where not in all."""
_OF_INSTALLS: dict[str, _Reader] = {
    "user": columns.user,
    "install_date": columns.instant,
    "installs": columns.whole,
    **dict.fromkeys(("store", "country", *(n for n in _READERS if n.startswith("attribution_"))), columns.text),
}
_REASONS = ("sandbox", "other_events", "unknown_events", "family_shared", "granted", "upgraded", "nulls")


@dataclass(frozen=True)
class Events:
    """Every row of the source in canonical columns, the kind of each, and how many do not count, and why."""

    frame: pl.DataFrame
    kind: pl.Series
    """Int8: 0 a trial, 1 to 4 payments, 5 and 6 refunds, −1 the row does not count."""
    report: dict[str, int]
    dropped: Dropped = field(default_factory=Dropped)
    """The rows left out for nulls, and the columns in which these are."""


@dataclass(frozen=True)
class _Ask:
    """What is to be read."""

    user_unit: str
    refund_upgraded: str
    wanted: frozenset[str]
    spared: frozenset[str]
    workers: int

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Give the canonical columns to read, and the names that each may have in the source."""
        names = ["user", *_REQUIRED, *_ALWAYS, *(name for name in _READERS if name in self.wanted)]
        return {name: _accepted(self.user_unit if name == "user" else name) for name in dict.fromkeys(names)}

    def required(self) -> dict[str, tuple[str, ...]]:
        """Give the columns that must be there, and what may stand for each."""
        return {name: _accepted(name) for name in (self.user_unit, "event_type", "environment", *_REQUIRED)}

    def extras(self) -> tuple[str, ...]:
        """Name the other columns that decide whether a row counts."""
        return ("event_type", "environment", *_FAMILY, *(("cancellation_reason",) * (self.refund_upgraded == "zero")))

    def names(self, *, foreign: bool) -> list[str]:
        """Name all columns that are read, of RevenueCat's transactions or of Adapty's events."""
        if foreign:
            return list(dict.fromkeys(revenuecat.names(self.user_unit)))
        return list(dict.fromkeys([*self.extras(), *(name for names in self.columns().values() for name in names)]))

    def fields(self) -> list[str]:
        """Name everything that may be read, of either vendor."""
        return list(dict.fromkeys([*self.names(foreign=False), *self.names(foreign=True)]))

    def choose(self, there: list[str], where: str) -> list[str]:
        """Choose what to read of the columns of a table, or say which is missing."""
        foreign = revenuecat.MARK in there
        _refuse_missing(revenuecat.required(self.user_unit) if foreign else self.required(), there, where)
        return [name for name in self.names(foreign=foreign) if name in there]


@dataclass(frozen=True)
class _Part:
    """What one table gave."""

    frame: pl.DataFrame
    kind: pl.Series
    report: dict[str, int]
    nulls: dict[str, int]


def read_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    wanted: Iterable[str] = (),
    spared: Iterable[str] = (),
    dates: Collection[str] | None = None,
    threads: int | None = None,
) -> Events:
    """Read events and tell which rows count.

    Parameters
    ----------
    source
        A frame, an Arrow stream, or the path or glob of CSV, Parquet or JSON lines files.
    user_unit, refund_upgraded
        As in the conventions: whose id is the user, and whether a refund for an upgrade is one.
    nulls
        ``"error"``, or ``"drop"`` to leave out rows without a user, an instant or their money.
    wanted
        The optional columns that somebody needs.
    spared
        Of ``"sandbox"``, ``"family_shared"`` and ``"granted"``, reasons for which no row is to be left out.
    dates
        The columns of text that hold dates, where the source is part of a table; else the values tell.
    threads
        Number of threads, by default all.
    """
    ask = _Ask(user_unit, refund_upgraded, frozenset(wanted), frozenset(spared), workers_for(threads))
    raws = tables(source, ask.choose, ask.fields(), loose=MONEY)
    parts = [_read(raw if dates is None else replace(raw, dates=dates), ask) for raw in raws]
    report = {key: sum(part.report[key] for part in parts) for key in ("rows", *_REASONS)}
    dropped = Dropped(report["rows"], report["nulls"], sum((Counter(part.nulls) for part in parts), Counter()))
    refuse_nulls("the events", dropped, nulls)
    frame = _stacked([part.frame for part in parts])
    kind = pl.concat([part.kind for part in parts], rechunk=True).alias("kind")
    return Events(_settled(frame, kind), kind, report, dropped)


def _read(raw: Raw, ask: _Ask) -> _Part:
    return (_from_revenuecat if revenuecat.MARK in raw.frame.columns else _from_adapty)(raw, ask)


def columns_of_events(there: list[str], *, user_unit: str, refund_upgraded: str, wanted: Iterable[str]) -> list[str]:
    """Name those of the columns that are there which are read; the settings are those of :func:`read_events`."""
    ask = _Ask(user_unit, refund_upgraded, frozenset(wanted), frozenset(), 1)
    return [name for name in ask.names(foreign=revenuecat.MARK in there) if name in there]


def columns_of_users(there: list[str], user_unit: str) -> list[str]:
    """Name the columns of which the first with a value is the user, in a table of events or of installs."""
    if revenuecat.MARK in there:
        return [revenuecat.USERS.get(user_unit, user_unit)]
    names = [name for name in (*_accepted(user_unit), *revenuecat.USERS.values()) if name in there]
    return names[:1] if user_unit in names else names


def columns_of_instants() -> set[str]:
    """Name every column that is read as instants."""
    return {one for name in _INSTANTS for one in _accepted(name)} | set(revenuecat.INSTANTS)


@dataclass(frozen=True)
class Arriving(Generic[_Batch]):
    """A table that comes batch by batch, and what reads a batch of it.

    What the door tells from a whole column is told before the first batch, so that the batches are read as the whole
    would be; only integers of more than 64 bits are read as text here.
    """

    source: Source
    choose: Choose
    fields: Collection[str]
    dated: Collection[str]
    users: Collection[str]
    read: Callable[[Raw], _Batch]
    loose: Collection[str] = ()

    @cached_property
    def streams(self) -> list[Stream]:
        """The tables, opened."""
        return streams(self.source, self.choose, self.fields, self.loose)

    @property
    def ids(self) -> list[pl.DataType]:
        """The types of the columns of ids, table by table."""
        return [kind for stream in self.streams for kind in stream.kinds(self.users)]

    def batches(self, *, texts: bool) -> Iterator[_Batch]:
        """Read all batches; first of each table one without a row. If `texts`, ids are read as text."""
        for stream in self.streams:
            for raw in stream.raws(self.dated, self.users if texts else ()):
                yield self.read(raw)


def arriving_events(
    source: Source,
    *,
    user_unit: str,
    refund_upgraded: str,
    nulls: str,
    wanted: Iterable[str] = (),
    threads: int | None = None,
) -> Arriving[Events]:
    """Open events to be read batch by batch; see :func:`read_events`."""
    ask = _Ask(user_unit, refund_upgraded, frozenset(wanted), frozenset(), workers_for(threads))

    def read(raw: Raw) -> Events:
        part = _read(raw, ask)
        dropped = Dropped(part.report["rows"], part.report["nulls"], Counter(part.nulls))
        refuse_nulls("the events", dropped, nulls)
        return Events(_settled(part.frame, part.kind), part.kind, part.report, dropped)

    users = [*_accepted(user_unit), *revenuecat.USERS.values()]
    return Arriving(source, ask.choose, ask.fields(), columns_of_instants(), users, read, MONEY)


def known_columns() -> set[str]:
    """Name every column that may be read of a table of events or installs, in any of the three shapes."""
    units = ("profile_id", "customer_user_id", "device_id")
    ours = {*_READERS, *_FAMILY, *units, "event_type", "environment", "cancellation_reason", "country", "installs"}
    ours |= {name for names in ALIASES.values() for name in names}
    return ours | {name for unit in units for name in revenuecat.names(unit)} | {"store", "first_seen_time"}


def read_installs(
    source: Source, *, user_unit: str, nulls: str, dates: Collection[str] | None = None
) -> tuple[pl.DataFrame, Dropped]:
    """Read installs: a row per user and install, or ready counts per date (columns ``install_date``, ``installs``).

    Beside ``user`` and ``install_date`` (or ``install_date`` and ``installs``) the frame has ``store``, ``country``
    and what there is of ``attribution_*``. What was left out for nulls is given too; `dates` as in `read_events`.
    """
    accepted = _accepted_of_installs(user_unit)
    fields = dict.fromkeys(name for some in accepted.values() for name in some)
    raws = tables(source, partial(_choose_installs, accepted, user_unit), fields)
    frames = [_installs(replace(raw, dates=dates), accepted, user_unit) for raw in raws]
    refuse_mixture("installs" in frame.columns for frame in frames)
    return _checked_installs(_stacked(frames), nulls)


def arriving_installs(source: Source, *, user_unit: str, nulls: str) -> Arriving[tuple[pl.DataFrame, Dropped]]:
    """Open installs to be read batch by batch; see :func:`read_installs`."""
    accepted = _accepted_of_installs(user_unit)
    fields = dict.fromkeys(name for some in accepted.values() for name in some)
    return Arriving(
        source,
        partial(_choose_installs, accepted, user_unit),
        fields,
        accepted["install_date"],
        accepted["user"],
        lambda raw: _checked_installs(_installs(raw, accepted, user_unit), nulls),
    )


def _accepted_of_installs(user_unit: str) -> dict[str, tuple[str, ...]]:
    """Give the columns of installs, and the names that each may have in the source."""
    accepted = {name: _accepted(user_unit if name == "user" else name) for name in _OF_INSTALLS} | {
        "country": ("country", "store_country", "profile_country", "profile_county"),
    }
    if user_unit in revenuecat.USERS:
        accepted["user"] += (revenuecat.USERS[user_unit],)
    accepted["install_date"] += ("first_seen_time",)
    return accepted


def _choose_installs(accepted: dict[str, tuple[str, ...]], user_unit: str, there: list[str], where: str) -> list[str]:
    counts = "installs" in there and not any(name in there for name in accepted["user"])
    who = {"installs": ("installs",)} if counts else {user_unit: accepted["user"]}
    _refuse_missing({**who, "install_date": accepted["install_date"]}, there, where)
    unread = accepted["user"] if counts else accepted["installs"]
    names = (name for some in accepted.values() for name in some)
    return [name for name in dict.fromkeys(names) if name in there and name not in unread]


def _installs(raw: Raw, accepted: dict[str, tuple[str, ...]], user_unit: str) -> pl.DataFrame:
    """Read a table of installs."""
    readers: dict[str, _Reader] = {
        **_OF_INSTALLS,
        "user": _device if user_unit == "device_id" else columns.user,
        "install_date": partial(columns.instant, dates=raw.dates),
    }
    read = {name: _pick(raw, accepted[name], reader) for name, reader in readers.items()}
    there = {name: column for name, column in read.items() if column is not None}
    for column in there.values():
        column.refuse_unread(pl.repeat(value=True, n=len(column.series), eager=True))
    return pl.DataFrame([column.series.alias(name) for name, column in there.items()])


def refuse_mixture(counted: Iterable[bool]) -> None:
    """Refuse tables of installs of which some are ready counts and others not."""
    if len(set(counted)) > 1:
        raise SchemaError(
            "some files of installs hold users and others ready counts; expected the same kind in all of them"
        )


def _checked_installs(frame: pl.DataFrame, nulls: str) -> tuple[pl.DataFrame, Dropped]:
    """Refuse nulls, or leave them out, and refuse counts below 0."""
    needed: list[str] = [name for name in ("user", "install_date", "installs") if name in frame.columns]
    lost = reduce(or_, (frame[name].is_null() for name in needed))
    counts = Counter({name: frame[name].null_count() for name in needed if frame[name].null_count()})
    dropped = Dropped(len(frame), int(lost.sum()), counts)
    refuse_nulls("the installs", dropped, nulls)
    frame = frame.filter(~lost) if counts else frame
    if "installs" in needed and (frame["installs"] < 0).any():
        raise DataError(f"column 'installs' holds {frame['installs'].min()!r}; expected counts of 0 or more")
    return frame, dropped


def _accepted(name: str) -> tuple[str, ...]:
    return (name, *ALIASES.get(name, ()))


def _refuse_missing(required: dict[str, tuple[str, ...]], there: list[str], where: str) -> None:
    missing = [name for name, accepted in required.items() if not any(one in there for one in accepted)]
    if not missing:
        return
    known = {one for accepted in required.values() for one in accepted}
    strangers = {name.lower(): name for name in there if name not in known}
    near = [(name, get_close_matches(name.lower(), strangers, 1)) for name in missing]
    renamed = ", ".join(f"{strangers[match[0]]!r} to {name!r}" for name, match in near if match)
    raise SchemaError(
        f"{'column' if len(missing) == 1 else 'columns'} {listed(missing, 20)} missing from {where}; columns are "
        f"{listed(there, 60)}. Hint: "
        + (f"rename {renamed}" if renamed else "name them as Adapty's event export or its webhook does")
    )


def _pick(raw: Raw, accepted: tuple[str, ...], read: _Reader) -> Column | None:
    """Read one column: by its canonical name where it is there, else by its aliases, which fill each other's nulls.

    Of lines with fields of their own, all names fill each other's nulls.
    """
    names = [name for name in accepted if name in raw.frame.columns]
    if accepted[0] in names and not raw.mixed:
        names = names[:1]
    found = [read(raw.frame[name]) for name in names]
    return reduce(Column.merged, found) if found else None


def _device(column: pl.Series) -> Column:
    """Read an id of a device, of which zeros are none."""
    if not isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        return columns.user(column)
    ids = columns.text(column).series
    zeros = (ids == NO_DEVICE).fill_null(value=False)
    return Column(ids.set(zeros, None) if zeros.any() else ids)


def _from_adapty(raw: Raw, ask: _Ask) -> _Part:
    def pick(named: tuple[str, tuple[str, ...]]) -> Column | None:
        name, accepted = named
        if name == "user" and ask.user_unit == "device_id":
            return _pick(raw, accepted, _device)
        if name in _INSTANTS:
            return _pick(raw, accepted, partial(columns.instant, dates=raw.dates))
        return _pick(raw, accepted, _READERS[name])

    names = ask.columns()
    picked = zip(names, on_threads(ask.workers, pick, list(names.items())), strict=True)
    read = {name: column for name, column in picked if column is not None}
    frame = raw.frame
    code = _codes(frame["event_type"], ask.workers)
    family = [_is(frame[name], "FAMILY_SHARED") for name in _FAMILY if name in frame.columns]
    masks = {"family_shared": reduce(or_, family) if family else None, "granted": _granted(read)}
    if "cancellation_reason" in frame.columns:
        refunds = (code >= 5).arg_true()
        upgraded = _is(frame["cancellation_reason"].gather(refunds), "upgraded")
        masks["upgraded"] = pl.repeat(value=False, n=len(code), eager=True).scatter(refunds.filter(upgraded), True)
    return _judged(read, code, _is(frame["environment"], "Production"), masks, ask.spared)


def _from_revenuecat(table: Raw, ask: _Ask) -> _Part:
    raw = table.frame
    read, code = revenuecat.payments(raw, ask.user_unit, table.dates)
    granted = _is(raw["store"], "promotional") | _granted(read)
    family = _is(raw["ownership_type"], "FAMILY_SHARED") if "ownership_type" in raw.columns else None
    part = _judged(read, code, revenuecat.production(raw), {"family_shared": family, "granted": granted}, ask.spared)
    frame, kinds = revenuecat.refunds(raw, part.frame, part.kind, table.dates)
    lost = frame["revenue_usd"].is_null()
    if not lost.any():
        return replace(part, frame=_stacked([part.frame, frame]), kind=pl.concat([part.kind, kinds]))
    count = int(lost.sum())
    return _Part(
        _stacked([part.frame, frame]),
        pl.concat([part.kind, kinds.set(lost, -1)]),
        part.report | {"nulls": part.report["nulls"] + count},
        part.nulls | {"price_in_usd": count},
    )


def _granted(read: dict[str, Column]) -> pl.Series:
    return read["product_id"].series.is_in(GRANTED).fill_null(value=False)


def _codes(column: pl.Series, workers: int) -> pl.Series:
    """Give each event type its kind, or −1 for one without money and −2 for one that nobody knows."""
    kind = column.dtype
    if kind == pl.Null:
        return pl.repeat(_UNKNOWN, len(column), dtype=pl.Int8, eager=True)
    if not isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        raise SchemaError(f"column {column.name!r} is {kind}; expected event types as text, such as 'trial_started'")
    if kind != pl.String:
        return pl.Series(_KIND_OF_CODE[column.cast(_TYPES, strict=False).to_physical().fill_null(255).to_numpy()])
    codes, vocabulary = np.empty(len(column), np.int8), kernels.Vocabulary.of(_TYPES.categories.to_list())
    pieces = []
    first = 0
    for views, memory, bases in string_views(column):
        for at in range(0, views.size, 2 * _BLOCK):
            part = views[at : at + 2 * _BLOCK]
            pieces.append((part, memory, bases, *vocabulary, codes[first : first + part.size // 2]))
            first += part.size // 2

    def block(piece: tuple[NDArray[Any], ...]) -> None:
        kernels.recognise(*piece)
        piece[-1][:] = _KIND_OF_CODE[piece[-1]]

    on_threads(workers, block, pieces)
    return pl.Series(codes)


def _is(column: pl.Series, word: str) -> pl.Series:
    """Tell where a column of few values holds a word, in whatever case."""
    kind = column.dtype
    if kind == pl.Null:
        return pl.repeat(value=False, n=len(column), eager=True)
    if not isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        raise SchemaError(f"column {column.name!r} is {kind}; expected text such as {word!r}")
    exact = column.eq_missing(word) if kind == pl.String else None
    rest = column if exact is None else column.filter(~exact)
    spelt = [value for value in rest.unique().drop_nulls().cast(pl.String) if value.lower() == word.lower()]
    if exact is not None and not spelt:
        return exact
    other = column.cast(pl.Enum(spelt), strict=False).is_not_null()
    return other if exact is None else exact | other


def _judged(
    read: dict[str, Column],
    code: pl.Series,
    live: pl.Series,
    masks: dict[str, pl.Series | None],
    spared: frozenset[str],
) -> _Part:
    """Tell which rows count, and refuse what cannot be read in those."""
    if "sandbox" in spared:
        live = pl.repeat(value=True, n=len(code), eager=True)
    report = dict.fromkeys(("rows", *_REASONS), 0) | {"rows": len(code), "sandbox": len(code) - int(live.sum())}
    for reason, mask in {"other_events": code == _OTHER, "unknown_events": code == _UNKNOWN, **masks}.items():
        if reason not in spared and mask is not None and mask.any():
            report[reason] = int((live & mask).sum())
            live = live & ~mask
    for name, column in read.items():
        if column.bad is not None:
            column.refuse_unread(live & code.is_between(*_MATTERS.get(name, (0, 6))))
    nulls: dict[str, int] = {}
    gone: pl.Series | None = None
    for name in ("user", "event_datetime", *MONEY):
        series = read[name].series
        if series.null_count():
            lost = live & series.is_null() & (code >= _MATTERS.get(name, (0, 6))[0])
            if lost.any():
                nulls[series.name] = int(lost.sum())
                gone = lost if gone is None else gone | lost
    if gone is not None:
        report["nulls"] = int(gone.sum())
        live = live & ~gone
    kind = code if live.all() else pl.select(pl.when(live).then(code).otherwise(pl.lit(-1, pl.Int8))).to_series()
    frame = pl.DataFrame([column.series.alias(name) for name, column in read.items() if name in _READERS])
    return _Part(frame, kind, report, nulls)


def _settled(frame: pl.DataFrame, kind: pl.Series) -> pl.DataFrame:
    """Put 0 where no money counts, and refuse what is no number where it does."""
    free = kind <= 0
    if free.any():
        zero = (pl.when(free).then(pl.lit(0, frame.schema[name])).otherwise(name).alias(name) for name in MONEY)
        frame = frame.with_columns(*zero)
    for name in MONEY:
        money = frame[name]
        # A sum tells at once; where it is not finite, it may yet be one of finite numbers.
        if money.dtype.is_float() and not isfinite(money.sum()) and not money.is_finite().all():
            wild = ~money.is_finite()
            raise DataError(
                f"column {name!r} holds NaN or infinity, {int(wild.sum()):,} times in rows that count, first in row "
                f"{wild.arg_max()}; expected finite numbers. Hint: filter them, or fill_nan(None) with nulls='drop'"
            )
    return frame


def refuse_nulls(what: str, dropped: Dropped, nulls: str) -> None:
    """Refuse nulls that are not to be dropped."""
    if dropped.count and nulls == "error":
        raise DataError(
            f"{what} have nulls: {dropped.told}, in rows that count; expected none. Hint: nulls='drop' leaves these "
            "rows out"
        )


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Put frames one under another; what one of them lacks is null there."""
    if len(frames) == 1:
        return frames[0]
    kinds = Kinds()
    for frame in frames:
        kinds.add(frame)
    types = kinds.common()
    return pl.concat(in_types(frame, types) for frame in frames)


class Kinds:
    """The types that the columns of some frames have; a column without a value has no say."""

    def __init__(self) -> None:
        self._all: dict[str, pl.DataType] = {}
        self._told: dict[str, dict[pl.DataType, None]] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Take note of a frame."""
        for column in frame.iter_columns():
            self._all.setdefault(column.name, column.dtype)
            if column.null_count() < len(column):
                self._told.setdefault(column.name, {})[column.dtype] = None

    def common(self) -> dict[str, pl.DataType]:
        """Give each column the type in which all frames fit."""
        return {name: _common(name, list(self._told.get(name, [kind]))) for name, kind in self._all.items()}


def in_types(frame: pl.DataFrame, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Bring a frame to some columns; what it lacks is null."""
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name) for name, kind in types.items()
    )


def _common(name: str, kinds: list[pl.DataType]) -> pl.DataType:
    """Find the type in which the pieces of one column fit."""
    if len(kinds) == 1:
        return kinds[0]
    if all(isinstance(kind, pl.Datetime) for kind in kinds):
        return columns.UTC
    if name in MONEY and all(kind.is_integer() for kind in kinds):
        return pl.Int64()
    if name in MONEY:
        return pl.Float64()
    raise SchemaError(
        f"column {name!r} is {kinds[0]} in one file and {kinds[1]} in another; expected one type. "
        "Hint: read the files yourself and cast it"
    )
