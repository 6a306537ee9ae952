"""Read installs: one row per profile and install date."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial, reduce
from operator import or_

import polars as pl

from cohortlib.adapty.read import columns, revenuecat
from cohortlib.adapty.read.counted import refuse_nulls
from cohortlib.adapty.read.events import Arriving, device_of, pick_columns
from cohortlib.adapty.read.names import READERS, Reader, accepted_names, refuse_missing
from cohortlib.adapty.read.tables import Raw, tables
from cohortlib.adapty.read.types import stacked_rows
from cohortlib.errors import DataError, SchemaError
from cohortlib.read.nulls import Dropped
from cohortlib.read.tables import Source

_OF_INSTALLS: dict[str, Reader] = {
    "user": columns.user,
    "install_date": columns.instant,
    "installs": columns.whole,
    **dict.fromkeys(("store", "country", *(n for n in READERS if n.startswith("attribution_"))), columns.text),
}


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
    return _checked_installs(stacked_rows(frames), nulls)


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
    accepted = {name: accepted_names(user_unit if name == "user" else name) for name in _OF_INSTALLS} | {
        "country": ("country", "store_country", "profile_country", "profile_county"),
    }
    if user_unit in revenuecat.USERS:
        accepted["user"] += (revenuecat.USERS[user_unit],)
    accepted["install_date"] += ("first_seen_time",)
    return accepted


def _choose_installs(accepted: dict[str, tuple[str, ...]], user_unit: str, there: list[str], where: str) -> list[str]:
    counts = "installs" in there and not any(name in there for name in accepted["user"])
    who = {"installs": ("installs",)} if counts else {user_unit: accepted["user"]}
    refuse_missing({**who, "install_date": accepted["install_date"]}, there, where)
    unread = accepted["user"] if counts else accepted["installs"]
    names = (name for some in accepted.values() for name in some)
    return [name for name in dict.fromkeys(names) if name in there and name not in unread]


def _installs(raw: Raw, accepted: dict[str, tuple[str, ...]], user_unit: str) -> pl.DataFrame:
    """Read a table of installs."""
    readers: dict[str, Reader] = {
        **_OF_INSTALLS,
        "user": device_of if user_unit == "device_id" else columns.user,
        "install_date": partial(columns.instant, dates=raw.dates),
    }
    read = {name: pick_columns(raw, accepted[name], reader) for name, reader in readers.items()}
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
