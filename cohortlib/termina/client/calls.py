"""What goes out to Termina: calls built without I/O, and the token that it gives for a key."""

import json
import re
from numbers import Integral
from typing import Literal, get_args
from urllib.parse import urlencode

from cohortlib.errors import ReplyError, SettingError, one_of
from cohortlib.fields import Endpoint
from cohortlib.network.retry import address
from cohortlib.network.transport import Call, Reply

BASE_URL = "https://app.termina.ai"

UserType = Literal["business", "consumer", "supplier", "asset", "labor", "business_user"]
Freq = Literal["M", "Q", "A"]


def table_call(
    endpoint: Endpoint,
    *,
    group_id: int,
    deal_id: int,
    user_type: UserType,
    metric: str,
    freq: Freq | None = None,
    base_url: str = BASE_URL,
) -> Call:
    """Build the call for a table, without the token.

    Examples
    --------
    >>> table_call("cohorts", group_id=1, deal_id=2, user_type="business", metric="net revenue", freq="M").url
    'https://app.termina.ai/api/v1/group/1/deal/2/data/cohorts?user_type=business&metric=net+revenue&freq=M'
    """
    one_of("endpoint", endpoint, get_args(Endpoint))
    one_of("user_type", user_type, get_args(UserType))
    if freq is not None:
        one_of("freq", freq, get_args(Freq))
    if not isinstance(metric, str) or not metric.strip():
        raise SettingError(f"metric={metric!r} is no name; expected one such as 'revenue' or 'gtv'")
    place = f"/api/v1/group/{_id('group_id', group_id)}/deal/{_id('deal_id', deal_id)}/data/{endpoint}"
    asked = {"user_type": user_type, "metric": metric} | ({"freq": freq} if freq else {})
    try:
        query = urlencode(asked)
    except UnicodeEncodeError:
        raise SettingError(f"metric={metric!r} is no text; expected one such as 'revenue' or 'gtv'") from None
    return Call("GET", f"{address(base_url, place)}?{query}", {"Accept": "application/json"})


def _id(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 0:
        raise SettingError(f"{name}={value!r} is not an id; expected a whole number, 0 or more")
    return int(value)


def token_call(api_key: str, base_url: str = BASE_URL) -> Call:
    """Build the call that gives a token for a key."""
    body = json.dumps({"api_key": api_key}).encode()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    return Call("POST", address(base_url, "/api/v1/auth/get-token"), headers, body)


def token_of(reply: Reply) -> str:
    """Take the token from the reply to a key; whatever that holds may be a token, so that no error shows it."""
    try:
        payload = json.loads(reply.body)
    except (ValueError, RecursionError):
        payload = None
    token = payload.get("access_token") if isinstance(payload, dict) else None
    if isinstance(token, str) and re.fullmatch(r"[!-~]+", token):
        return token
    raise ReplyError(
        "Termina: the reply to the key (not shown) has no token; expected an object with the text 'access_token'",
        reply.status,
    )


def is_token(key: str) -> bool:
    """Tell whether a key is a token already, by its form: the three parts of a JWT."""
    return re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", key, re.ASCII) is not None
