"""Build the calls of Termina's API, without I/O, and read the token from its reply."""

import json
import re
from numbers import Integral
from typing import Literal, get_args
from urllib.parse import urlencode

from cohortlib.errors import Arg, ReplyError, SettingError, one_of
from cohortlib.fields import Endpoint
from cohortlib.network.transport import Call, Reply, api_url

BASE_URL = "https://app.termina.ai"

UserType = Literal["business", "consumer", "supplier", "asset", "labor", "business_user"]
ApiFreq = Literal["M", "Q", "A"]

_METRIC = "a name such as 'revenue' or 'gtv'"


def table_call(
    endpoint: Endpoint, *, group_id: int, deal_id: int, user_type: UserType, metric: str, freq: ApiFreq | None = None,
    base_url: str = BASE_URL,
) -> Call:  # fmt: skip
    """Build the call for a table, without the token.

    >>> table_call("cohorts", group_id=1, deal_id=2, user_type="business", metric="net revenue", freq="M").url
    'https://app.termina.ai/api/v1/group/1/deal/2/data/cohorts?user_type=business&metric=net+revenue&freq=M'
    """
    one_of("endpoint", endpoint, get_args(Endpoint))
    one_of("user_type", user_type, get_args(UserType))
    if freq is not None:
        one_of("freq", freq, get_args(ApiFreq))
    if not isinstance(metric, str) or not metric.strip():
        raise SettingError((Arg("metric", metric), " is not a name"), value=metric, expected=_METRIC)
    path = f"/api/v1/group/{_id('group_id', group_id)}/deal/{_id('deal_id', deal_id)}/data/{endpoint}"
    parameters = {"user_type": user_type, "metric": metric} | ({"freq": freq} if freq else {})
    try:
        query = urlencode(parameters)
    except UnicodeEncodeError:
        raise SettingError((Arg("metric", metric), " is not valid text"), value=metric, expected=_METRIC) from None
    return Call("GET", f"{api_url(base_url, path)}?{query}", {"Accept": "application/json"})


def _id(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 0:
        raise SettingError((Arg(name, value), " is not an id"), value=value, expected="an integer, 0 or more")
    return int(value)


def token_call(api_key: str, base_url: str = BASE_URL) -> Call:
    """Build the call that exchanges a key for a token."""
    body = json.dumps({"api_key": api_key}).encode()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    return Call("POST", api_url(base_url, "/api/v1/auth/get-token"), headers, body)


def token_of(reply: Reply) -> str:
    """Read the token from the reply to a key. Errors show nothing of the reply, as any part may be a token."""
    try:
        payload = json.loads(reply.body)
    except (ValueError, RecursionError):
        payload = None
    token = payload.get("access_token") if isinstance(payload, dict) else None
    if isinstance(token, str) and re.fullmatch(r"[!-~]+", token):
        return token
    what = "Termina: the reply to the key (not shown) has no token"
    raise ReplyError(what, reply.status, expected="an object with the text 'access_token'")


def is_token(key: str) -> bool:
    """Check whether a key is a token already: it has the three parts of a JWT."""
    return re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", key, re.ASCII) is not None
