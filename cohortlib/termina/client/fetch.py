"""Fetch Termina's product tables: the frames that the local computation gives, with the vendor's numbers."""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, overload

import polars as pl

from cohortlib.errors import AuthenticationError, SettingError, TransportError
from cohortlib.fields import Endpoint
from cohortlib.network.retry import Line, parsed, understood
from cohortlib.network.secrets import Secrets, secret
from cohortlib.network.transport import Call, Reply, Transport
from cohortlib.termina.client.calls import BASE_URL, Freq, UserType, is_token, table_call, token_call, token_of
from cohortlib.termina.client.replies import Concentration, Table, read

__all__ = [
    "fetch_cohorts",
    "fetch_concentration",
    "fetch_customer_cohorts",
    "fetch_growth_accounting",
    "fetch_user_accounting",
]

WHO = "Termina"
ATTEMPTS, TIMEOUT = 5, 120.0
VARIABLE = "TERMINA_API_KEY"
# A token lasts an hour; one that is used near its end could be too old when it arrives.
TOKEN_SECONDS = 55 * 60


def fetch_cohorts(
    *,
    group_id: int,
    deal_id: int,
    user_type: UserType,
    metric: str,
    freq: Freq | None = None,
    token: str | None = None,
    api_key: str | None = None,
    base_url: str = BASE_URL,
    transport: Transport | None = None,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
) -> pl.DataFrame:
    """Fetch the cohort table: one row for each cohort and age, as :func:`cohortlib.termina.cohorts` computes it.

    Parameters
    ----------
    group_id, deal_id
        Whose table: the numbers in the address of a deal.
    user_type
        ``"business"``, ``"consumer"``, ``"supplier"``, ``"asset"``, ``"labor"`` or ``"business_user"``.
    metric
        What the amount is, such as ``"revenue"`` or ``"gtv"``.
    freq
        ``"M"``, ``"Q"`` or ``"A"``. None leaves it to Termina; then cohorts that it names by dates stay dates.
    token
        A token, which is sent as it is.
    api_key
        A key, for which Termina gives a token that lasts an hour. It is kept and renewed for all calls of this
        process. Without either, the key (or a token) is taken from the environment variable TERMINA_API_KEY.
    base_url
        Another address than Termina's. It has to be https, unless it is this machine.
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
    polars.DataFrame
        The columns of :func:`cohortlib.termina.cohorts`, with its types. Fields that Termina leaves out are null.

    Raises
    ------
    SettingError
        Where an argument is not one of the values it may take.
    FetchError
        In one of its kinds, with ``.status`` and ``.body``; see :mod:`cohortlib.errors`.

    Examples
    --------
    A transport may be any function, here one that answers from a text.

    >>> from cohortlib.network.transport import Reply
    >>> row = '{"cohort": "2026-01-01", "period": 0, "cohort_size": 2, "cohort_size_amount": 9.5, "active_users": 2}'
    >>> table = fetch_cohorts(
    ...     group_id=1, deal_id=1, user_type="business", metric="revenue", freq="M", token="t",
    ...     transport=lambda call: Reply(200, {}, f"[{row}]".encode()),
    ... )
    >>> table.row(0)[:5]
    ('2026-01', 0, 2, 9.5, 2)
    """
    return _fetch(
        "cohorts",
        partial(table_call, group_id=group_id, deal_id=deal_id, user_type=user_type, metric=metric, freq=freq),
        freq,
        _Access(token, api_key, base_url, transport, attempts, timeout),
    )


def fetch_customer_cohorts(
    *,
    group_id: int,
    deal_id: int,
    user_type: UserType,
    metric: str,
    freq: Freq | None = None,
    token: str | None = None,
    api_key: str | None = None,
    base_url: str = BASE_URL,
    transport: Transport | None = None,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
) -> pl.DataFrame:
    """Fetch the table of customers: one row for each customer and age.

    As :func:`cohortlib.termina.customer_cohorts` computes it, of the customers that Termina chooses.
    Everything else is as in :func:`fetch_cohorts`.
    """
    return _fetch(
        "customer-cohorts",
        partial(table_call, group_id=group_id, deal_id=deal_id, user_type=user_type, metric=metric, freq=freq),
        freq,
        _Access(token, api_key, base_url, transport, attempts, timeout),
    )


def fetch_user_accounting(
    *,
    group_id: int,
    deal_id: int,
    user_type: UserType,
    metric: str,
    freq: Freq | None = None,
    token: str | None = None,
    api_key: str | None = None,
    base_url: str = BASE_URL,
    transport: Transport | None = None,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
) -> pl.DataFrame:
    """Fetch the accounting of users: how many users came, stayed and left, one row for each period.

    The columns are those of ``cohortlib.fields.USER_ACCOUNTING``.
    Everything else is as in :func:`fetch_cohorts`.
    """
    return _fetch(
        "user-accounting",
        partial(table_call, group_id=group_id, deal_id=deal_id, user_type=user_type, metric=metric, freq=freq),
        freq,
        _Access(token, api_key, base_url, transport, attempts, timeout),
    )


def fetch_growth_accounting(
    *,
    group_id: int,
    deal_id: int,
    user_type: UserType,
    metric: str,
    freq: Freq | None = None,
    token: str | None = None,
    api_key: str | None = None,
    base_url: str = BASE_URL,
    transport: Transport | None = None,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
) -> pl.DataFrame:
    """Fetch the accounting of the amount: how the amount grew and shrank, one row for each period.

    The columns are those of ``cohortlib.fields.GROWTH_ACCOUNTING``.
    Everything else is as in :func:`fetch_cohorts`.
    """
    return _fetch(
        "growth-accounting",
        partial(table_call, group_id=group_id, deal_id=deal_id, user_type=user_type, metric=metric, freq=freq),
        freq,
        _Access(token, api_key, base_url, transport, attempts, timeout),
    )


def fetch_concentration(
    *,
    group_id: int,
    deal_id: int,
    user_type: UserType,
    metric: str,
    freq: Freq | None = None,
    token: str | None = None,
    api_key: str | None = None,
    base_url: str = BASE_URL,
    transport: Transport | None = None,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
) -> Concentration:
    """Fetch the concentration: how much of the amount the largest users hold.

    The columns of its three frames are those of ``cohortlib.fields.CONCENTRATION``.
    Everything else is as in :func:`fetch_cohorts`.
    """
    return _fetch(
        "concentration",
        partial(table_call, group_id=group_id, deal_id=deal_id, user_type=user_type, metric=metric, freq=freq),
        freq,
        _Access(token, api_key, base_url, transport, attempts, timeout),
    )


@dataclass(frozen=True, repr=False)
class _Access:
    """How a caller gets in: what every fetch takes beside the question."""

    token: str | None
    api_key: str | None
    base_url: str
    transport: Transport | None
    attempts: int
    timeout: float


@overload
def _fetch(
    endpoint: Literal["concentration"], build: Callable[..., Call], freq: Freq | None, access: _Access
) -> Concentration: ...


@overload
def _fetch(endpoint: Table, build: Callable[..., Call], freq: Freq | None, access: _Access) -> pl.DataFrame: ...


def _fetch(
    endpoint: Endpoint, build: Callable[..., Call], freq: Freq | None, access: _Access
) -> pl.DataFrame | Concentration:
    reply, secrets = _ask(build(endpoint, base_url=access.base_url), access)
    return understood(lambda: read(endpoint, parsed(reply), freq=freq), WHO, reply, secrets)


def _ask(call: Call, access: _Access) -> tuple[Reply, Secrets]:
    """Send a call with a token; give the reply, and the secrets that no message about it may have."""
    if access.token is not None and access.api_key is not None:
        raise SettingError("token= and api_key= are both given; expected one of them")
    line = Line.open(WHO, access.transport, access.attempts, access.timeout)
    if access.token is not None:
        given = secret("token", access.token)
    else:
        given = secret("api_key", access.api_key, VARIABLE, WHO)
        if access.api_key is not None or not is_token(given):
            return _with_key(line, call, given, access.base_url)
    return line.ask(_signed(call, given), (given,)), (given,)


def _with_key(line: Line, call: Call, key: str, base_url: str) -> tuple[Reply, Secrets]:
    kept = _kept(base_url, key)
    token, new = kept.token(line, key)
    try:
        return line.ask(_signed(call, token), (key, token)), (key, token)
    except AuthenticationError:
        if new:
            raise
    token, _ = kept.token(line, key, instead_of=token)
    return line.ask(_signed(call, token), (key, token)), (key, token)


def _signed(call: Call, token: str) -> Call:
    return replace(call, headers={**call.headers, "Authorization": f"Bearer {token}"})


class _Kept:
    """The token of one key at one address, asked for once however many callers need it."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def token(self, line: Line, key: str, instead_of: str | None = None) -> tuple[str, bool]:
        """Give the token, and whether it is new; `instead_of` is one that is known to be good no more."""
        late = TransportError(f"{WHO}: the time was over before there was a token. Hint: timeout=")
        if not self._lock.acquire(timeout=max(0.0, line.deadline - time.monotonic())):
            raise late
        try:
            if self._token and self._token != instead_of and time.monotonic() < self._until:
                return self._token, False
            asked = time.monotonic()
            reply = line.ask(token_call(key, self._base_url), (key,))
            self._token = token_of(reply)
            self._until = asked + TOKEN_SECONDS
            return self._token, True
        finally:
            self._lock.release()


_all_kept: dict[tuple[str, bytes], _Kept] = {}
_all_kept_lock = threading.Lock()


def _kept(base_url: str, key: str) -> _Kept:
    with _all_kept_lock:
        return _all_kept.setdefault((base_url, hashlib.sha256(key.encode()).digest()), _Kept(base_url))
