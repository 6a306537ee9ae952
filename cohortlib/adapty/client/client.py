"""The client of Adapty's API: download its cohort table as an answer like the one that cohortlib computes."""

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.client.calls import BASE_URL, cohort_call
from cohortlib.adapty.client.replies import read
from cohortlib.adapty.request import Request
from cohortlib.errors import ReplyError
from cohortlib.network.http_errors import parse_reply
from cohortlib.network.json_rows import parse_json, preview
from cohortlib.network.retry import ATTEMPTS, TIMEOUT, Connection, rate_limit
from cohortlib.network.secrets import read_secret, redact_sent
from cohortlib.network.transport import Transport, api_url

VENDOR = "Adapty"
VARIABLE = "ADAPTY_API_KEY"
CALLS_PER_SECOND = 2


class Client:
    """A client of Adapty's API. It can be shared by threads.

    Parameters
    ----------
    api_key
        The app's secret key. Default: the environment variable ADAPTY_API_KEY.
    base_url, transport, attempts, timeout
        As for :class:`cohortlib.termina.Client`.

    Raises
    ------
    SettingError
        If an argument has a value it cannot take.
    AuthenticationError
        If there is no key.

    Notes
    -----
    Adapty allows two requests per second. All clients in a process share this limit, across threads.

    Examples
    --------
    A transport may be any function. This one returns a fixed reply.

    >>> from cohortlib.network.transport import Reply
    >>> client = Client(api_key="k", transport=lambda call: Reply(200, {}, b'{"data": []}'))
    >>> client
    Client('https://api-admin.adapty.io')
    >>> client.cohort({"filters": {"date": ["2026-02-01", "2026-06-30"]}})
    Answer(renewals by month, 2026-02-01 to 2026-06-30: 0 segments × 0 periods)
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str = BASE_URL,
        transport: Transport | None = None,
        attempts: int = ATTEMPTS,
        timeout: float = TIMEOUT,
    ) -> None:
        limit = rate_limit(api_url(base_url, ""), CALLS_PER_SECOND, 1.0)
        self._base_url = base_url
        self._connection = Connection.open(VENDOR, transport, attempts, timeout, limit)
        self._key = read_secret("api_key", api_key, VARIABLE, VENDOR)

    def __repr__(self) -> str:
        return f"Client({self._base_url!r})"

    def cohort(self, request: Mapping[str, object] | Request, *, timezone: str | None = None) -> Answer | pl.DataFrame:
        """Download the cohort table for a request, as :func:`cohortlib.adapty.cohort` computes it.

        Parameters
        ----------
        request
            The body that the API takes, or a :class:`~cohortlib.adapty.Request`.
        timezone
            IANA name of the zone in which days begin. If None, Adapty uses the zone of the app's settings.

        Returns
        -------
        Answer or polars.DataFrame
            An answer with an empty `report` and without `conventions`, which keeps the reply: its `to_dict` and
            `to_json` have every field that Adapty sent. For a request with ``"format": "csv"``, the CSV as a frame: one
            row for each segment; :meth:`reply` returns it as it came.

        Raises
        ------
        RequestError
            If the request is invalid, with all its errors field by field; nothing is sent.
        FetchError
            One of its subclasses, with ``.status`` and ``.body``; see :mod:`cohortlib.errors`.
        """
        return self._download(request, timezone)[0]

    def reply(self, request: Mapping[str, object] | Request, *, timezone: str | None = None) -> bytes:
        """Download the reply to a request, JSON or CSV, and return it as it came, byte for byte, to save it.

        The reply is checked first. Arguments and errors are those of :meth:`cohort`.
        """
        return self._download(request, timezone)[1]

    def _download(
        self, request: Mapping[str, object] | Request, timezone: str | None
    ) -> tuple[Answer | pl.DataFrame, bytes]:
        """Return the table and the bytes of a reply."""
        checked = Request.of(request)
        call = cohort_call(checked, timezone, self._base_url)
        signed = replace(call, headers={**call.headers, "Authorization": f"Api-Key {self._key}"})
        secrets = (self._key,)
        reply = self._connection.send(signed, secrets, self._connection.deadline())
        if checked.format == "csv":
            return parse_reply(lambda: _read_csv(reply.body), VENDOR, reply, secrets), reply.body
        segments, values = parse_reply(lambda: read(parse_json(reply.body)), VENDOR, reply, secrets)
        return Answer(segments, values, checked, reply=reply.body), reply.body


def _read_csv(body: bytes) -> pl.DataFrame:
    """Read a CSV: integers as Int64, other numbers as Float64, everything else as text."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    if not body.strip() or body.lstrip()[:1] in (b"{", b"[", b"<"):
        raise ReplyError(f"the reply is not CSV; it begins with {preview(body.lstrip().decode(errors='replace'), 40)}")
    try:
        return pl.read_csv(BytesIO(body), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        reason = redact_sent(str(error).partition("\n")[0])
    raise ReplyError(f"the reply is not CSV: {reason}")
