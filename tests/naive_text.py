"""A slow, obvious parser of text, written from the rules: datetime, Fraction, one value at a time."""

import datetime as dt
import re
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

BLANKS = " \t\n\v\f\r"
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EPOCH = dt.datetime(1970, 1, 1)

_DATE = r"(?P<Y>\d{4})(?:-(?P<m>\d\d)-(?P<d>\d\d)|(?P<m2>\d\d)(?P<d2>\d\d))"
_COLONS = r":(?P<M>\d\d)(?::(?P<S>\d\d)(?:[.,](?P<f>\d+))?)?"
_TIME = rf"(?P<H>\d\d)(?:{_COLONS}|(?P<M2>\d\d)(?:(?P<S2>\d\d)(?:[.,](?P<f2>\d+))?)?)?"
_ZONE = r"(?: ?(?P<zone>Z|z|UTC|[+-]\d\d(?::?\d\d)?))?"
ISO = re.compile(rf"{_DATE}(?:[Tt ]{_TIME}{_ZONE})?", re.ASCII)


def offset(text):
    """Return an offset from UTC in minutes, or None."""
    if text in ("Z", "z", "UTC", "GMT"):
        return 0
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        return None
    return (-1 if text[0] == "-" else 1) * (60 * hours + minutes)


def micros(year, month, day, hour=0, minute=0, second=0, fraction=""):
    """Return a local time as microseconds since 1970-01-01; raise ValueError if there is none."""
    when = dt.datetime(year, month, day, hour, minute, second)
    return (when - EPOCH) // dt.timedelta(microseconds=1) + int(fraction[:6].ljust(6, "0"))


def instant(text):
    """Parse ISO 8601. Returns ("null",), ("bad",), or ("date" | "naive" | "zoned", microseconds)."""
    if text is None or not text.strip(BLANKS):
        return ("null",)
    match = ISO.fullmatch(text.strip(BLANKS))
    if match is None:
        return ("bad",)
    get = match.groupdict()
    zone = None if get["zone"] is None else offset(get["zone"])
    if get["zone"] and zone is None:
        return ("bad",)
    try:
        value = micros(
            int(get["Y"]), int(get["m"] or get["m2"]), int(get["d"] or get["d2"]), int(get["H"] or 0),
            int(get["M"] or get["M2"] or 0), int(get["S"] or get["S2"] or 0), get["f"] or get["f2"] or "",
        )  # fmt: skip
    except ValueError:
        return ("bad",)
    if get["H"] is None:
        return ("date", value)
    return ("naive", value) if zone is None else ("zoned", value - zone * 60_000_000)


NUMBER = r"[0-9]*"
SEPARATORS = ".,'\u2019 \xa0\u2007\u2009\u202f\t\n\v\f\r"
SPACES = BLANKS + "\xa0\u2007\u2009\u202f"


def amount(text, mark, decimals, codes):
    """Parse an amount. Returns ("null",), ("bad",), ("large",) or ("units", units, currency)."""
    if text is None or not text.strip(SPACES):
        return ("null",)
    rest, minus, signs, currency = text.strip(SPACES), False, 0, ""
    for _ in range(2):
        if rest.startswith("(") and rest.endswith(")"):
            rest, minus, signs = rest[1:-1].strip(SPACES), True, signs + 1
        elif rest[:1] in ("-", "+") and rest:
            minus, signs, rest = minus or rest[0] == "-", signs + 1, rest[1:].strip(SPACES)
        if not currency:
            for sign in ("$", "€", "£", *codes):
                if rest.startswith(sign):
                    currency, rest = sign, rest[len(sign) :].strip(SPACES)
                    break
                if rest.endswith(sign):
                    currency, rest = sign, rest[: -len(sign)].strip(SPACES)
                    break
    value = number(rest, mark)
    if value is None or signs > 1:
        return ("bad",)
    scaled = value * 10**decimals
    units = round(scaled)  # Python rounds a Fraction half to even
    if units >= 2**63:
        return ("large",)
    return ("units", -units if minus else units, {"€": "EUR"}.get(currency, currency))


def number(text, mark):
    """Parse digits with groups, decimal places and an exponent as a Fraction, or return None."""
    head, _, power = text.replace("E", "e").partition("e")
    if "e" in text.replace("E", "e") and not re.fullmatch(r"[+-]?[0-9]+", power):
        return None
    whole, _, places = head.partition(mark)
    if not re.fullmatch(r"[0-9]*", places):
        return None
    if not re.fullmatch(r"[0-9]*", whole):
        used = {letter for letter in whole if letter in SEPARATORS and letter != mark}
        if len(used) != 1:
            return None
        groups = whole.split(used.pop())
        if not all(re.fullmatch(r"[0-9]{3}", group) for group in groups[1:]):
            return None
        if not re.fullmatch(r"[1-9][0-9]{0,2}", groups[0]):
            return None
        whole = "".join(groups)
    if not whole and not places:
        return None
    return Fraction(int(whole + places or "0"), 10 ** len(places)) * Fraction(10) ** int(power or 0)


_PARTS = {
    "%Y": r"(?P<Y>[0-9]{4})", "%y": r"(?P<y>[0-9]{2})", "%m": r"(?P<m>[0-9]{1,2})", "%d": r"(?P<d>[0-9]{1,2})",
    "%H": r"(?P<H>[0-9]{1,2})", "%I": r"(?P<I>[0-9]{1,2})", "%M": r"(?P<M>[0-9]{1,2})", "%S": r"(?P<S>[0-9]{1,2})",
    "%f": r"(?P<f>[0-9]+)", "%z": r"(?P<z>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)", "%p": r"(?P<p>[AaPp][Mm])",
    "%b": r"(?P<b>[A-Za-z]+)", "%a": r"(?P<a>[A-Za-z]+)", " ": r"[ \t\n\v\f\r]+",
}  # fmt: skip


def formatted(text, form):
    """Parse an instant in a format; ISO 8601 with dashes too, if the format does not begin with the year."""
    if text is None or not text.strip(BLANKS):
        return ("null",)
    parts = re.findall(r"%.|.", form)
    match = re.fullmatch("".join(_PARTS.get(part) or re.escape(part) for part in parts), text.strip(BLANKS))
    result = ("bad",) if match is None else _from_parts(match.groupdict())
    if result == ("bad",) and not form.startswith("%Y") and text.strip(BLANKS)[4:5] == "-":
        return instant(text)
    return result


def _from_parts(get):
    """Put the parts of a format together."""
    year = int(get.get("Y") or (2000 if int(get["y"]) < 69 else 1900) + int(get["y"]))
    month = int(get["m"]) if "m" in get else name(get["b"], MONTHS)
    if get.get("a") and name(get["a"], DAYS) is None:
        return ("bad",)
    hour = int(get.get("H") or 0)
    if "I" in get:
        if not 1 <= int(get["I"]) <= 12:
            return ("bad",)
        hour = int(get["I"]) % 12 + (12 if get["p"].lower() == "pm" else 0)
    try:
        value = micros(
            year, month or 0, int(get["d"]), hour, int(get.get("M") or 0), int(get.get("S") or 0), get.get("f") or ""
        )
    except ValueError:
        return ("bad",)
    if get.get("z"):
        zone = offset(get["z"])
        return ("bad",) if zone is None else ("zoned", value - zone * 60_000_000)
    return ("naive" if {"H", "I", "M", "S"} & set(get) else "date", value)


def name(text, names):
    """Return the number of a name from 1, in full or its first three letters; None if there is none."""
    for place, each in enumerate(names, 1):
        if text.lower() in (each, each[:3]):
            return place
    return None


# --- whole tables ----------------------------------------------------------------------------------------------------

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
DAY = 86_400_000_000
FIRST, BEYOND = ((dt.datetime(year, 1, 1) - EPOCH) // dt.timedelta(microseconds=1) for year in (1900, 2201))
TICKS = {"epoch_s": 10**6, "epoch_ms": 10**3, "epoch_us": 1}


class Refused(Exception):
    """A table that cannot be read: some words of the message, and the row at fault, or None."""

    def __init__(self, words, row=None):
        super().__init__(words)
        self.words, self.row = words, row


def user(text, normalize):
    """Read a user id."""
    if text is None or not text.strip(WHITE_SPACE):
        return None
    if normalize is None:
        return text
    text = text.strip(WHITE_SPACE)
    return text.casefold() if normalize == "casefold" else text


def epoch(text, form):
    """Parse a number since an epoch; else ISO 8601 with dashes."""
    stripped = (text or "").strip(BLANKS)
    match = re.fullmatch(r"([+-]?)([0-9.]+(?:[eE][+-]?[0-9]+)?)", stripped)
    value = match and number(match[2], ".")
    if value is None:
        return instant(text) if not stripped or stripped[4:5] == "-" else ("bad",)
    value = -value if match[1] == "-" else value
    if form != "excel":
        ticks = round(value * TICKS[form])
        return ("zoned", ticks) if abs(ticks) < 2**63 else ("bad",)
    if value < 61 or value >= 2**63 // 10**9:
        return ("bad",)
    ticks = (int(value) - 25_569) * DAY + int(value % 1 * 86_400_000 + Fraction(1, 2)) * 1000
    return ("naive" if ticks % DAY else "date", ticks)


def assumed(ticks, zone):
    """Take a local time of a zone as microseconds of UTC."""
    if not FIRST - 2 * DAY <= ticks <= BEYOND + 2 * DAY:
        return ticks  # refused, or left out
    local = EPOCH + dt.timedelta(microseconds=ticks)
    aware = local.replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC).replace(tzinfo=None)
    return (aware - EPOCH) // dt.timedelta(microseconds=1)


def read_table(
    rows, *, timestamp_format=None, decimal=".", assume_zone=None, normalize=None, nulls="error", decimals=6, end=None,
    codes=(),
):  # fmt: skip
    """Read rows of text: users, dates and datetimes (with a zone if zoned), and Decimals; raise Refused."""
    users = [user(row[0], normalize) for row in rows]
    if timestamp_format is None:
        instants = [instant(row[1]) for row in rows]
    elif timestamp_format.startswith("%"):
        instants = [formatted(row[1], timestamp_format) for row in rows]
    else:
        instants = [epoch(row[1], timestamp_format) for row in rows]
    amounts = [amount(row[2], decimal, decimals, codes) for row in rows]
    _check_instants([each[0] for each in instants], assume_zone)
    ticks = [each[1] if len(each) > 1 else None for each in instants]
    if assume_zone is not None:
        ticks = [assumed(tick, assume_zone) if each[0] != "zoned" and tick is not None else tick
                 for tick, each in zip(ticks, instants, strict=True)]  # fmt: skip
    last = None if end is None else (end - EPOCH.date()).days + 1
    days = [None if tick is None else tick // DAY for tick in ticks]
    wrong = [index for index, day in enumerate(days) if day is not None and not FIRST // DAY <= day < BEYOND // DAY
             and (last is None or day <= last)]  # fmt: skip
    if wrong:
        raise Refused(f"before 1900 or after 2200 ({len(wrong)} instant", wrong[0])
    _check_amounts(amounts)
    counts = [sum(value is None for value in column) for column in (users, ticks)]
    counts.append(sum(each == ("null",) for each in amounts))
    if any(counts) and nulls == "error":
        named = zip(("user_id", "timestamp", "amount"), counts, strict=True)
        found = ", ".join(f"{count} in column '{name}'" for name, count in named if count)
        raise Refused(f"the table has nulls: {found}, of {len(rows)} rows")
    zoned = assume_zone is not None or any(each[0] == "zoned" for each in instants)
    when = [None if tick is None else EPOCH + dt.timedelta(microseconds=min(tick, BEYOND + 2 * DAY)) for tick in ticks]
    when = [each.replace(tzinfo=dt.UTC) if each and zoned else each for each in when]
    money = [Decimal(each[1]).scaleb(-decimals) if each[0] == "units" else None for each in amounts]
    return list(zip(users, when, money, strict=True))


def _check_instants(kinds, assume_zone):
    bad = [index for index, kind in enumerate(kinds) if kind == "bad"]
    if bad:
        raise Refused(f"is not a date ({len(bad)} of {len(kinds) - kinds.count('null')} values)", bad[0])
    if "zoned" in kinds and ("date" in kinds or "naive" in kinds) and assume_zone is None:
        words = {"date": "date{}", "naive": "instant{} without an offset", "zoned": "instant{} with an offset"}
        counts = [(kinds.count(kind), words[kind]) for kind in words if kind in kinds]
        texts = [f"{count} {word.format('s' * (count > 1))}" for count, word in counts]
        raise Refused(f"has {', '.join(texts[:-1])} and {texts[-1]}. Expected all with")


def _check_amounts(amounts):
    kinds = [each[0] for each in amounts]
    if "bad" in kinds:
        total = len(kinds) - kinds.count("null")
        raise Refused(f"is not a number ({kinds.count('bad')} of {total} values)", kinds.index("bad"))
    currencies = {each[2] for each in amounts if each[0] == "units" and each[2]}
    if len(currencies) > 1:
        raise Refused(f"has amounts in {len(currencies)} currencies")
    if "large" in kinds:
        raise Refused("an amount, or the sum of all, is beyond")
