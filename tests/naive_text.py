"""A slow, obvious parser of text, written from the rules: datetime, Fraction, one value at a time."""

import datetime as dt
import re
from fractions import Fraction

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
    if text in ("Z", "z", "UTC"):
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
    "%f": r"(?P<f>[0-9]+)", "%z": r"(?P<z>Z|z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)", "%p": r"(?P<p>[AaPp][Mm])",
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
