"""Check what a manifest says before anything is computed from it; an edited one can have any value."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from cohortlib.errors import CohortlibError, SourceError
from cohortlib.periods import FIRST_DAY, LAST_DAY
from cohortlib.transactions.settings import Settings

_WORD, _UNITS = 2**64 - 1, 2**63 - 1
SECRET_WORDS = 34
_SETTINGS = (
    "user", "timestamp", "amount", "timezone", "decimals", "nulls", "timestamp_format", "decimal", "assume_zone",
    "normalize",
)  # fmt: skip
STATE_SETTINGS = ("freq", "week_start", "refunds")
"""Settings that the manifest keeps for a state alone."""


def damaged(file: Path, what: str, expected: str = "") -> SourceError:
    """Return the error for a file that is not as it was written."""
    hint = f"it is damaged or was edited; 'cohortlib verify {file.parent}' checks the whole folder"
    return SourceError(f"{str(file)!r} {what}", expected=expected, hint=hint)


class _Check(NamedTuple):
    passes: Callable[[Any], bool]
    expected: str


def _integer(low: int, high: int) -> _Check:
    return _Check(lambda value: type(value) is int and low <= value <= high, f"an integer from {low} to {high}")


def _text(pattern: str, expected: str) -> _Check:
    return _Check(lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)), expected)


def _list(check: _Check, expected: str) -> _Check:
    return _Check(lambda value: isinstance(value, list) and all(map(check.passes, value)), expected)


_ANY_TEXT = _text(r"(?s).*", "text")
_TEXTS = _list(_ANY_TEXT, "a list of text")
_COUNT, _DAY = _integer(0, 2**63 - 1), _integer(FIRST_DAY, LAST_DAY)
_DIGEST = _text(r"[0-9a-f]{32}", "32 hexadecimal digits")
_PART_NAME = _text(r"[0-9a-f]{8}-\d{1,9}", "a name such as '0123abcd-0000'")
_BOOLEAN = _Check(lambda value: type(value) is bool, "true or false")
_ENTRIES = _list(_Check(lambda value: isinstance(value, dict), ""), "a list of objects")

_FIELDS = {
    "user": _ANY_TEXT, "timestamp": _ANY_TEXT, "amount": _ANY_TEXT, "keep": _TEXTS, "kept_types": _TEXTS,
    "timezone": _ANY_TEXT, "decimals": _integer(0, 9), "nulls": _ANY_TEXT,
    "timestamp_format": _Check(lambda value: value is None or isinstance(value, str), "text or null"),
    "decimal": _ANY_TEXT,
    "assume_zone": _Check(lambda value: value is None or isinstance(value, str), "text or null"),
    "normalize": _Check(lambda value: value is None or isinstance(value, str), "text or null"),
    "zoned": _Check(lambda value: value is None or type(value) is bool, "true, false or null"),
    "instants": _Check(lambda value: value in (None, "dates", "kept"), "'dates', 'kept' or null"),
    "kind": _text("Int64|UInt64|String", "'Int64', 'UInt64' or 'String'"),
    "whole": _BOOLEAN,
    "secret": _Check(
        lambda value: isinstance(value, list) and len(value) == SECRET_WORDS
        and all(_integer(0, _WORD).passes(word) for word in value), f"{SECRET_WORDS} words of 64 bits"),
    "bits": _integer(0, 10), "rows": _COUNT, "first_day": _DAY, "final_day": _DAY,
    "last_dropped": _Check(lambda value: value is None or _DAY.passes(value), f"null, or {_DAY.expected}"),
    "magnitude": _integer(0, _UNITS), "dropped": _COUNT, "dropped_files": _ENTRIES,
    "runs": _list(_ENTRIES, "a list of lists of objects"),
    "state": _Check(lambda value: isinstance(value, dict), "an object"), "library": _ANY_TEXT,
}  # fmt: skip
_PART = {
    "name": _PART_NAME, "users": _integer(1, 2**32 - 1), "rows": _integer(1, 2**32 - 1), "low": _integer(0, _WORD),
    "high": _integer(0, _WORD), "first_day": _DAY, "final_day": _DAY, "magnitude": _integer(0, _UNITS),
    "users_digest": _DIGEST, "rows_digest": _DIGEST,
}  # fmt: skip
_DROPPED = {"name": _PART_NAME, "rows": _integer(1, 2**63 - 1), "rows_digest": _DIGEST}
_BATCH = {
    "code": _integer(0, 2**32 - 1),
    "names": _list(_Check(lambda value: _TEXTS.passes(value) and len(value) == 2, ""), "a list of pairs of text"),
    "rows": _COUNT, "dropped": _COUNT, "last_dropped": _FIELDS["last_dropped"], "added": _ANY_TEXT,
}  # fmt: skip
_STATE = dict.fromkeys(STATE_SETTINGS, _ANY_TEXT) | {
    "batches": _ENTRIES, "sums_digest": _DIGEST,
    "sums": _text(r"sums-[0-9a-f]{8}\.parquet", "a name such as 'sums-0123abcd.parquet'"),
}  # fmt: skip


def check_manifest(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a manifest if each is possible and they agree; else raise SourceError with the field."""
    _check_fields(file, "", facts, _FIELDS)
    parts = [part for run in facts["runs"] for part in run]
    for number, run in enumerate(facts["runs"]):
        for at, part in enumerate(run):
            _check_fields(file, f"runs[{number}][{at}].", part, _PART)
    for at, dropped in enumerate(facts["dropped_files"]):
        _check_fields(file, f"dropped_files[{at}].", dropped, _DROPPED)
    if facts["state"]:
        checks = _STATE | {"table": _FIELDS["state"]} if "table" in facts["state"] else _STATE
        _check_fields(file, "state.", facts["state"], checks)
        _check_batches(file, facts["state"]["batches"], facts["rows"])
    _check_settings(file, facts)
    for name in ("keep", "kept_types"):
        if len(facts[name]) not in {len(facts["keep"]), 0}:
            _refuse(file, name, facts[name], "one type for each kept column")
    _check_unique(file, "keep", [*facts["keep"], *(facts[name] for name in ("user", "timestamp", "amount"))])
    _check_unique(file, "names of files", [part["name"] for part in [*parts, *facts["dropped_files"]]])
    for run in facts["runs"]:
        _check_run(file, run)
    _check_totals(file, facts, parts)
    return facts


def _check_fields(file: Path, prefix: str, facts: Mapping[str, Any], checks: Mapping[str, _Check]) -> None:
    for name in dict.fromkeys([*checks, *facts]):
        if name not in facts:
            raise damaged(file, f"has no {prefix}{name}")
        if name not in checks:
            raise damaged(file, f"has the unknown field {prefix}{name}")
        if not checks[name].passes(facts[name]):
            _refuse(file, prefix + name, facts[name], checks[name].expected)


def _check_settings(file: Path, facts: Mapping[str, Any]) -> None:
    settings = {name: facts[name] for name in _SETTINGS}
    settings |= {name: facts["state"][name] for name in STATE_SETTINGS if facts["state"]}
    try:
        Settings.of(**settings)
    except CohortlibError as error:
        raise damaged(file, f"has a setting that cannot be: {error}") from error


def _check_unique(file: Path, what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            _refuse(file, what, name, "each name once")
        seen.add(name)


def _check_run(file: Path, run: list[dict[str, Any]]) -> None:
    if not run:
        _refuse(file, "runs", run, "parts in every run")
    for part in run:
        if part["low"] > part["high"] or part["users"] > part["rows"] or part["first_day"] > part["final_day"]:
            _refuse(file, f"part {part['name']}", part, "low <= high, users <= rows and first_day <= final_day")
    for part, following in pairwise(run):
        if part["high"] >= following["low"]:
            _refuse(file, f"part {following['name']}", following["low"], "parts by ascending key")


def _check_batches(file: Path, batches: list[dict[str, Any]], rows: int) -> None:
    for at, batch in enumerate(batches):
        _check_fields(file, f"state.batches[{at}].", batch, _BATCH)
    _check_unique(file, "codes of batches", [str(batch["code"]) for batch in batches])
    _check_unique(file, "names of batches", [name for batch in batches for name, _ in batch["names"]])
    total = sum(batch["rows"] for batch in batches)
    if total != rows:
        _refuse(file, "rows of batches", total, f"{rows}, as in all parts")


def _check_totals(file: Path, facts: Mapping[str, Any], parts: list[dict[str, Any]]) -> None:
    for name in ("rows", "magnitude"):
        total = sum(part[name] for part in parts)
        if facts[name] != total:
            _refuse(file, name, facts[name], f"{total}, the sum over all parts")
    first = min((part["first_day"] for part in parts), default=0)
    final = max((part["final_day"] for part in parts), default=-1)
    if (facts["first_day"], facts["final_day"]) != (first, final):
        days = [facts["first_day"], facts["final_day"]]
        _refuse(file, "first_day, final_day", days, f"[{first}, {final}], as in the parts")
    last = facts["last_dropped"]
    if last is not None and not facts["dropped"]:
        _refuse(file, "last_dropped", last, "null, as no row was dropped")


def _refuse(file: Path, name: str, value: object, expected: str) -> NoReturn:
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:76]} ..."
    raise damaged(file, f"has {name} = {shown}", expected)
