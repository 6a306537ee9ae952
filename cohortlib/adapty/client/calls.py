"""Build the call of Adapty's API for a cohort table, without I/O."""

import json
import re

from cohortlib.adapty.request import Request
from cohortlib.errors import Arg, SettingError
from cohortlib.network.transport import Call, api_url

BASE_URL = "https://api-admin.adapty.io"

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", re.ASCII)


def cohort_call(request: Request, timezone: str | None = None, base_url: str = BASE_URL) -> Call:
    """Build the call for a cohort table, without the key.

    Examples
    --------
    >>> request = Request.of({"filters": {"date": ["2026-02-01", "2026-06-30"]}})
    >>> call = cohort_call(request, timezone="Europe/Berlin")
    >>> call.url, call.headers["Adapty-Tz"]
    ('https://api-admin.adapty.io/api/v1/client-api/metrics/cohort/', 'Europe/Berlin')
    """
    body = request.to_dict()
    body["filters"].pop("compare_date", None)  # the cohort endpoint does not take it
    headers = {"Accept": "text/csv" if request.format == "csv" else "application/json"}
    headers["Content-Type"] = "application/json"
    if timezone is not None:
        if not isinstance(timezone, str) or len(timezone) > 64 or not _ZONE.fullmatch(timezone):
            what = (Arg("timezone", timezone), " is not a time zone")
            raise SettingError(what, value=timezone, expected="an IANA name such as 'UTC' or 'Europe/Berlin'")
        headers["Adapty-Tz"] = timezone
    url = api_url(base_url, "/api/v1/client-api/metrics/cohort/")
    return Call("POST", url, headers, json.dumps(body).encode())
