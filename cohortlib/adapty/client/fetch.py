"""Fetch Adapty's cohort table: the answer that the local computation gives, with the vendor's numbers."""

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.client.calls import BASE_URL, cohort_call
from cohortlib.adapty.client.replies import read
from cohortlib.adapty.request import Request
from cohortlib.errors import ReplyError
from cohortlib.network.retry import Line, pace, parsed, understood
from cohortlib.network.secrets import secret
from cohortlib.network.transport import Reply, Transport

__all__ = ["fetch_cohort"]

WHO = "Adapty"
ATTEMPTS, TIMEOUT = 5, 120.0
VARIABLE = "ADAPTY_API_KEY"
CALLS_A_SECOND = 2


def fetch_cohort(
    request: Mapping[str, object] | Request,
    *,
    timezone: str | None = None,
    api_key: str | None = None,
    base_url: str = BASE_URL,
    transport: Transport | None = None,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
) -> Answer | pl.DataFrame:
    """Fetch the cohort table for a request, as :func:`cohortlib.adapty.cohort` computes it.

    Parameters
    ----------
    request
        The body that the API takes, or a :class:`~cohortlib.adapty.Request`.
    timezone
        IANA name of the zone in which days begin. None leaves it to Adapty: the zone of the app's settings.
    api_key
        The app's secret key; by default that of the environment variable ADAPTY_API_KEY.
    base_url
        Another address than Adapty's. It has to be https, unless it is this machine.
    transport
        A function from :class:`~cohortlib.network.transport.Call` to
        :class:`~cohortlib.network.transport.Reply` that is used in place
        of :func:`cohortlib.network.transport.http`.
    attempts
        How often a call is sent at most, where the server is busy (429, 502, 503, 504) or the connection fails.
    timeout
        The seconds in which all has to be done, retries and waits included.

    Returns
    -------
    Answer or polars.DataFrame
        An answer, whose `report` is empty and whose `conventions` are None. For a request with
        ``"format": "csv"``, the CSV as it is delivered: one row for each segment.

    Raises
    ------
    RequestError
        With everything that is wrong with the request, field by field.
    FetchError
        In one of its kinds, with ``.status`` and ``.body``; see :mod:`cohortlib.errors`.

    Notes
    -----
    Adapty takes two requests a second. All calls of this process keep to that together, from whatever thread.

    Examples
    --------
    A transport may be any function, here one that answers from a text.

    >>> from cohortlib.network.transport import Reply
    >>> request = {"filters": {"date": ["2026-02-01", "2026-06-30"]}}
    >>> fetch_cohort(request, api_key="k", transport=lambda call: Reply(200, {}, b'{"data": []}'))
    Answer(renewals by month, 2026-02-01 to 2026-06-30: 0 segments × 0 periods)
    """
    asked = Request.of(request)
    call = cohort_call(asked, timezone, base_url)
    key = secret("api_key", api_key, VARIABLE, WHO)
    line = Line.open(WHO, transport, attempts, timeout, pace(call.url, CALLS_A_SECOND, 1.0))
    signed = replace(call, headers={**call.headers, "Authorization": f"Api-Key {key}"})
    reply = line.ask(signed, (key,))
    if asked.format == "csv":
        return understood(lambda: _lines(reply), WHO, reply, (key,))
    segments, values = understood(lambda: read(parsed(reply)), WHO, reply, (key,))
    return Answer(segments, values, asked)


def _lines(reply: Reply) -> pl.DataFrame:
    """Read a CSV as it is: whole numbers Int64, other numbers Float64, all else text."""
    body = reply.body.removeprefix(b"\xef\xbb\xbf")
    if not body.strip() or body.lstrip()[:1] in (b"{", b"[", b"<"):
        raise ReplyError(f"the reply is not CSV; it begins with {body.lstrip()[:40].decode(errors='replace')!r}")
    try:
        return pl.read_csv(BytesIO(body), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        why = str(error).partition("\n")[0]
    raise ReplyError(f"the reply is not CSV: {why}")
