"""Parse amounts of money as people write them: currencies, thousands separators, brackets, exponents.

The slow parser for what the kernel leaves; of a column it parses each distinct text once.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

BLANKS = " \t\n\v\f\r\xa0\u2007\u2009\u202f"
TOO_LARGE = 2**63
"""In place of the units of an amount that does not fit into 64 bits."""

_CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHF CLF CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ "
    "GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR "
    "LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK "
    "PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT "
    "TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG "
)
CODES = frozenset(_CODES.split())
"""ISO 4217 codes of currencies."""
_HUNDREDTHS = "¢￠"  # no sign of a currency, but of its hundredth part
_SIGNS = {"€": "EUR"}  # the signs that stand for one currency only


class Money(NamedTuple):
    """An amount in units; None for nothing but blanks."""

    units: int | None
    currency: str


@lru_cache(maxsize=16)
def _number(mark: str, *, plain: bool) -> re.Pattern[str]:
    """Return the form of a number: digits, perhaps in groups of three, decimal places and an exponent."""
    separators = re.escape(("." if mark == "," else ",") + "'\u2019" + BLANKS)
    groups = rf"[1-9][0-9]{{0,2}}(?P<mark>[{separators}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*"
    whole = "[0-9]*" if plain else f"{groups}|[0-9]*"
    return re.compile(rf"(?P<whole>{whole})(?:{re.escape(mark)}(?P<places>[0-9]*))?(?:[eE](?P<power>[+-]?[0-9]+))?")


def parse_money(text: str, mark: str, decimals: int, *, plain: bool = False) -> Money | None:
    """Parse an amount, or return None.

    >>> parse_money("($1,099.50)", ".", 2)
    Money(units=-109950, currency='$')
    """
    rest = text.strip(BLANKS)
    if not rest:
        return Money(None, "")
    currency, signs = "", 0
    negative = False
    if plain:
        signs, negative, rest = _sign(rest)
    else:
        for _ in range(2):  # a sign or brackets can stand around a currency, or within it
            if rest[:1] == "(" and rest[-1:] == ")":
                signs, negative, rest = signs + 1, True, rest[1:-1].strip(BLANKS)
            else:
                count, minus, rest = _sign(rest)
                signs, negative, rest = signs + count, negative or minus, rest.strip(BLANKS)
            if not currency:
                currency, rest = _currency(rest)
    match = _number(mark, plain=plain).fullmatch(rest)
    if match is None or signs > 1:
        return None
    digits, places = "".join(filter(str.isdigit, match["whole"])), match["places"] or ""
    if not digits and not places:
        return None
    units = _round(digits, places, match["power"] or "0", decimals)
    return Money(-units if negative and units != TOO_LARGE else units, currency)


def _sign(text: str) -> tuple[int, bool, str]:
    """Cut a sign off the start; return how many there were, and whether it is a minus."""
    return (1, text[0] == "-", text[1:]) if text[:1] in ("+", "-") and text else (0, False, text)


def _currency(text: str) -> tuple[str, str]:
    """Cut a currency sign or ISO code off the start or the end."""
    for part, rest in ((text[:1], text[1:]), (text[-1:], text[:-1])):
        if part and part not in _HUNDREDTHS and unicodedata.category(part) == "Sc":
            return _SIGNS.get(part, part), rest.strip(BLANKS)
    for part, rest in ((text[:3], text[3:]), (text[-3:], text[:-3])):
        if part in CODES:
            return part, rest.strip(BLANKS)
    return "", text


def _round(digits: str, places: str, exponent: str, decimals: int) -> int:
    """Round a decimal number half to even to 10^-decimals, exactly."""
    number = (digits + places).lstrip("0")
    power = exponent.lstrip("+-0")
    shift = int(power[:9] or 0) * (-1 if exponent[0] == "-" else 1)
    kept = len(number) - len(places) + shift + decimals  # digits before the rounding position
    if not number or kept < 0:
        return 0
    if kept > 20:
        return TOO_LARGE
    units = int(number[:kept].ljust(kept, "0") or "0")
    cut = number[kept:]
    half = "5".ljust(len(cut), "0")
    if cut > half or (cut == half and cut and units % 2):
        units += 1
    return units if units < 2**63 else TOO_LARGE
