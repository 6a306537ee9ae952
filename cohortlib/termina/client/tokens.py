"""The token that Termina issues for an API key."""

import threading
import time

from cohortlib.errors import Arg, TransportError
from cohortlib.network.retry import Connection
from cohortlib.termina.client.calls import token_call, token_of

# A token is valid for an hour. It is renewed earlier, so that it does not expire on the way.
TOKEN_SECONDS = 55 * 60


class TokenCache:
    """The current token of an API key. One thread renews it while the others wait."""

    def __init__(self, connection: Connection, key: str, base_url: str) -> None:
        self._connection, self._key, self._base_url = connection, key, base_url
        self._lock = threading.Lock()
        self._token = ""
        self._expires_at = 0.0

    def get(self, deadline: float, rejected: str | None = None) -> tuple[str, bool]:
        """Return the token and whether it is new; `rejected` is a token that the server no longer accepts."""
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            what = f"{self._connection.vendor}: timed out while waiting for a token"
            raise TransportError(what, hint=Arg("timeout"))
        try:
            if self._token and self._token != rejected and time.monotonic() < self._expires_at:
                return self._token, False
            requested_at = time.monotonic()
            reply = self._connection.send(token_call(self._key, self._base_url), (self._key,), deadline)
            self._token = token_of(reply)
            self._expires_at = requested_at + TOKEN_SECONDS
            return self._token, True
        finally:
            self._lock.release()
