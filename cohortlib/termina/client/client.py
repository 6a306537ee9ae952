"""The client of Termina's API: download its tables as frames like those that cohortlib computes."""

from dataclasses import replace
from typing import Literal, TypeAlias, overload

import polars as pl

from cohortlib.errors import Arg, AuthenticationError, SettingError, one_of
from cohortlib.fields import Endpoint
from cohortlib.network.http_errors import parse_reply
from cohortlib.network.json_rows import parse_json
from cohortlib.network.retry import ATTEMPTS, TIMEOUT, Connection
from cohortlib.network.secrets import Secrets, read_secret
from cohortlib.network.transport import Call, Reply, Transport, api_url
from cohortlib.termina.client.calls import BASE_URL, ApiFreq, UserType, is_token, table_call
from cohortlib.termina.client.replies import ENDPOINTS, Table, read
from cohortlib.termina.client.tokens import TokenCache
from cohortlib.termina.frames import Concentration

__all__ = ["Client"]

VENDOR = "Termina"
VARIABLE = "TERMINA_API_KEY"

Deal: TypeAlias = tuple[int, int, UserType, str, ApiFreq | None]
"""The arguments of a download: group, deal, user type, metric and frequency."""


class Client:
    """A client of Termina's API. Its methods download one table each; it can be shared by threads.

    Parameters
    ----------
    api_key
        The API key. The client exchanges it for a token, which is valid for an hour, and renews the token when
        needed. Without `api_key` and `token`, the key (or a token) is read from the environment variable
        TERMINA_API_KEY.
    token
        A token to send as it is, instead of a key.
    base_url
        The address of the API. It must be https, unless it is on this machine.
    transport
        A function from :class:`~cohortlib.network.transport.Call` to :class:`~cohortlib.network.transport.Reply`.
        Default: :func:`cohortlib.network.transport.http`.
    attempts
        How often a call is sent at most, if the server is busy (429, 502, 503, 504) or the connection fails.
    timeout
        The total time for a table, including retries and waits, in seconds.

    Raises
    ------
    SettingError
        If an argument has a value it cannot take.
    AuthenticationError
        If there is no key.

    Examples
    --------
    A transport may be any function. This one returns a fixed reply.

    >>> from cohortlib.network.transport import Reply
    >>> row = '{"cohort": "2026-01-01", "period": 0, "cohort_size": 2, "cohort_size_amount": 9.5, "active_users": 2}'
    >>> client = Client(token="t", transport=lambda call: Reply(200, {}, f"[{row}]".encode()))
    >>> client
    Client('https://app.termina.ai')
    >>> client.cohorts(group_id=1, deal_id=1, user_type="business", metric="revenue", freq="M").row(0)[:5]
    ('2026-01', 0, 2, 9.5, 2)
    """

    def __init__(
        self, *, api_key: str | None = None, token: str | None = None, base_url: str = BASE_URL,
        transport: Transport | None = None, attempts: int = ATTEMPTS, timeout: float = TIMEOUT,
    ) -> None:  # fmt: skip
        if token is not None and api_key is not None:
            raise SettingError((Arg("token"), " and ", Arg("api_key"), " are both set"), expected="one of them")
        api_url(base_url, "")
        self._base_url = base_url
        self._connection = Connection.open(VENDOR, transport, attempts, timeout)
        if token is not None:
            self._secret = read_secret("token", token)
        else:
            self._secret = read_secret("api_key", api_key, VARIABLE, VENDOR)
        has_token = token is not None or (api_key is None and is_token(self._secret))
        self._tokens = None if has_token else TokenCache(self._connection, self._secret, base_url)

    def __repr__(self) -> str:
        return f"Client({self._base_url!r})"

    def cohorts(
        self, *, group_id: int, deal_id: int, user_type: UserType, metric: str, freq: ApiFreq | None = None
    ) -> pl.DataFrame:
        """Download the cohort table: one row for each cohort and age.

        Parameters
        ----------
        group_id, deal_id
            The numbers in the address of a deal.
        user_type
            ``"business"``, ``"consumer"``, ``"supplier"``, ``"asset"``, ``"labor"`` or ``"business_user"``.
        metric
            What the amount is, such as ``"revenue"`` or ``"gtv"``.
        freq
            ``"M"``, ``"Q"`` or ``"A"``. If None, Termina decides, and cohorts that it labels by dates stay dates.

        Returns
        -------
        polars.DataFrame
            The columns and types of :func:`cohortlib.termina.cohorts`. Fields that Termina omits are null.

        Raises
        ------
        SettingError
            If an argument has a value it cannot take; nothing is sent.
        FetchError
            One of its subclasses, with ``.status`` and ``.body``; see :mod:`cohortlib.errors`.
        """
        return self._get("cohorts", (group_id, deal_id, user_type, metric, freq))

    def customer_cohorts(
        self, *, group_id: int, deal_id: int, user_type: UserType, metric: str, freq: ApiFreq | None = None
    ) -> pl.DataFrame:
        """Download the customer table: one row for each customer and age, for the customers that Termina selects.

        The columns are those of :func:`cohortlib.termina.customer_cohorts`. Arguments and errors are those of
        :meth:`cohorts`.
        """
        return self._get("customer-cohorts", (group_id, deal_id, user_type, metric, freq))

    def user_accounting(
        self, *, group_id: int, deal_id: int, user_type: UserType, metric: str, freq: ApiFreq | None = None
    ) -> pl.DataFrame:
        """Download how many users came, stayed and left: one row for each period.

        The columns are those of ``cohortlib.fields.USER_ACCOUNTING``. Arguments and errors are those of
        :meth:`cohorts`.
        """
        return self._get("user-accounting", (group_id, deal_id, user_type, metric, freq))

    def growth_accounting(
        self, *, group_id: int, deal_id: int, user_type: UserType, metric: str, freq: ApiFreq | None = None
    ) -> pl.DataFrame:
        """Download how the amount grew and shrank: one row for each period.

        The columns are those of ``cohortlib.fields.GROWTH_ACCOUNTING``. Arguments and errors are those of
        :meth:`cohorts`.
        """
        return self._get("growth-accounting", (group_id, deal_id, user_type, metric, freq))

    def concentration(
        self, *, group_id: int, deal_id: int, user_type: UserType, metric: str, freq: ApiFreq | None = None
    ) -> Concentration:
        """Download how much of the amount the largest users hold.

        The columns of its three frames are those of ``cohortlib.fields.CONCENTRATION``. Arguments and errors are those
        of :meth:`cohorts`.
        """
        return self._get("concentration", (group_id, deal_id, user_type, metric, freq))

    def reply(
        self, table: Endpoint, *, group_id: int, deal_id: int, user_type: UserType, metric: str,
        freq: ApiFreq | None = None,
    ) -> bytes:  # fmt: skip
        """Download the reply for a table and return it as it came, byte for byte, to save it.

        The reply is checked first. The other arguments and the errors are those of :meth:`cohorts`.

        Parameters
        ----------
        table
            ``"cohorts"``, ``"customer-cohorts"``, ``"user-accounting"``, ``"growth-accounting"`` or
            ``"concentration"``.
        """
        one_of("table", table, ENDPOINTS)
        return self._download(table, (group_id, deal_id, user_type, metric, freq))[1]

    @overload
    def _get(self, endpoint: Table, deal: Deal) -> pl.DataFrame: ...

    @overload
    def _get(self, endpoint: Literal["concentration"], deal: Deal) -> Concentration: ...

    def _get(self, endpoint: Endpoint, deal: Deal) -> pl.DataFrame | Concentration:
        return self._download(endpoint, deal)[0]

    def _download(self, endpoint: Endpoint, deal: Deal) -> tuple[pl.DataFrame | Concentration, bytes]:
        """Return the table and the bytes of a reply."""
        group_id, deal_id, user_type, metric, freq = deal
        call = table_call(
            endpoint, group_id=group_id, deal_id=deal_id, user_type=user_type, metric=metric, freq=freq,
            base_url=self._base_url,
        )  # fmt: skip
        reply, secrets = self._send(call)
        table = parse_reply(lambda: read(endpoint, parse_json(reply.body), freq=freq), VENDOR, reply, secrets)
        return table, reply.body

    def _send(self, call: Call) -> tuple[Reply, Secrets]:
        """Send a call with a token; return the reply and the secrets that no message may show."""
        deadline = self._connection.deadline()
        if self._tokens is None:
            return self._send_with(self._secret, call, deadline)
        token, is_new = self._tokens.get(deadline)
        try:
            return self._send_with(token, call, deadline)
        except AuthenticationError:
            if is_new:
                raise
        # Termina has revoked the cached token: exchange the key once more.
        token, _ = self._tokens.get(deadline, rejected=token)
        return self._send_with(token, call, deadline)

    def _send_with(self, token: str, call: Call, deadline: float) -> tuple[Reply, Secrets]:
        secrets = (self._secret, token)
        signed = replace(call, headers={**call.headers, "Authorization": f"Bearer {token}"})
        return self._connection.send(signed, secrets, deadline), secrets
