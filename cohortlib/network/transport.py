"""HTTP: send one call, return one reply. All network I/O of the package is here.

A transport is a function from :class:`Call` to :class:`Reply`. :func:`http` makes the default one; any other may be
passed in. An exception raised by a transport counts as a missing reply; an OSError counts as temporary.
"""

import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from cohortlib.errors import Arg, FetchError, ReplyError, SettingError, TransportError

if TYPE_CHECKING:  # imported where they are used: `cohortlib --help` does not need them
    import socket
    import ssl

__all__ = ["Call", "Reply", "Transport", "http"]

MAX_BYTES = 128 * 2**20
_CHUNK = 2**18
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII)


@dataclass(frozen=True, repr=False)
class Call:
    """An HTTP request.

    Attributes
    ----------
    method, url
        ``"GET"`` or ``"POST"``, and the full address.
    headers
        Names and values, including the header with the key.
    body
        The bytes to send; may be empty.
    timeout
        The time left for the whole reply, in seconds.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout: float = 60.0

    def __repr__(self) -> str:
        return f"Call({self.method} {self.url}, {len(self.headers)} headers, {len(self.body):,} bytes)"


@dataclass(frozen=True, repr=False)
class Reply:
    """An HTTP response.

    Attributes
    ----------
    status
        The HTTP status.
    headers
        Names, in any case, and values.
    body
        The whole body, decompressed.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.headers)} headers, {len(self.body):,} bytes)"

    def header(self, name: str) -> str:
        """Return the value of a header, or an empty string."""
        return next((value for known, value in self.headers.items() if known.lower() == name.lower()), "")


Transport: TypeAlias = Callable[[Call], Reply]


def missing_extra(error: ImportError) -> FetchError:
    """Return the error for a package of the extra that is not installed."""
    return FetchError(f"fetching needs {error.name}, which is not installed", hint="pip install 'cohortlib[fetch]'")


def api_url(base_url: str, path: str) -> str:
    """Join a base address and a path. The address must be https, or on this machine.

    >>> api_url("https://example.com/proxy/", "/api/v1")
    'https://example.com/proxy/api/v1'
    """
    expected = "https://host, or http:// where the host is this machine (localhost, 127.0.0.1, ::1)"
    not_shown = SettingError((Arg("base_url"), " (not shown) is not an address"), expected=expected)
    if not isinstance(base_url, str) or not re.fullmatch(r"[!-~]+", base_url) or "\\" in base_url:
        raise not_shown
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise not_shown from None
    if "@" in base_url:
        what = (Arg("base_url"), " (not shown) has a user or a password")
        raise SettingError(what, expected=expected, hint=("pass the key as ", Arg("api_key")))
    if not _HOST_AND_PORT.fullmatch(parts.netloc) or port == 0 or parts.query or parts.fragment:
        raise SettingError((Arg("base_url", base_url), " is not an address"), value=base_url, expected=expected)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        what = (Arg("base_url", base_url), " would send the key unencrypted")
        raise SettingError(what, value=base_url, expected=expected)
    return base_url.rstrip("/") + path


def is_loopback(host: str) -> bool:
    """Check whether a host is this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def http(*, connect: float = 10.0, read: float = 60.0, max_bytes: int = MAX_BYTES) -> Transport:
    """Make a transport on httpx2, with limits on time and size. It uses the environment's proxies.

    Redirects are not followed: they could lead the key elsewhere.

    Parameters
    ----------
    connect
        The maximum time to connect, in seconds.
    read
        The maximum time between two chunks of a reply, in seconds. The whole reply must arrive within the timeout of
        the call.
    max_bytes
        The maximum size of a decompressed body.

    Raises
    ------
    FetchError
        If httpx2 is not installed.
    """
    try:
        import httpx2
    except ImportError as error:
        missing = missing_extra(error)
    else:
        return lambda call: _send(httpx2, call, connect, read, max_bytes)
    raise missing


def _send(library: Any, call: Call, connect: float, read: float, max_bytes: int) -> Reply:  # noqa: ANN401
    """Send a call. Errors are raised outside `except`: httpx2's exceptions hold the request and its key."""
    host = urlsplit(call.url).hostname or ""
    limits = library.Timeout(min(read, call.timeout), connect=min(connect, call.timeout))
    headers = {"Accept-Encoding": "gzip", **call.headers}
    timer = _CloseAfter(call.timeout)
    problem: FetchError
    try:
        # Plain HTTP to this machine must not go through a proxy.
        client = library.Client(
            timeout=limits, follow_redirects=False, trust_env=not is_loopback(host), verify=_tls_context(library)
        )
        with client, timer:
            request = client.build_request(call.method, call.url, headers=headers, content=call.body or None)
            request.extensions["trace"] = timer.trace
            response = client.send(request, stream=True)
            try:
                encoding = response.headers.get("content-encoding", "")
                body = _decompress(response.iter_raw(_CHUNK), encoding, max_bytes)
            finally:
                response.close()
            return Reply(response.status_code, dict(response.headers), body)
    except FetchError as error:
        problem = error
    except Exception as error:
        problem = _transport_error(library, error, host, connect, read)
    if timer.expired:
        problem = TransportError(f"{host} did not send its whole reply within {call.timeout:.3g} seconds")
        problem.lasting = True
    problem.__context__ = None
    raise problem


@cache
def _tls_context(library: Any) -> "ssl.SSLContext":  # noqa: ANN401
    """Load the trusted certificates once; that takes longer than many calls."""
    context: ssl.SSLContext = library.create_ssl_context()
    return context


def _transport_error(library: Any, error: Exception, host: str, connect: float, read: float) -> TransportError:  # noqa: ANN401
    """Turn an exception of httpx2 into a TransportError."""
    if isinstance(error, library.ConnectTimeout):
        return TransportError(f"no connection to {host} within {connect:g} seconds")
    if isinstance(error, library.TimeoutException):
        return TransportError(f"{host} sent nothing for {read:g} seconds")
    reason = str(error) or type(error).__name__
    if isinstance(error, library.ConnectError):
        problem = TransportError(f"no connection to {host}: {reason}")
        problem.lasting = _is_tls_error(error)
        return problem
    if isinstance(error, library.NetworkError | library.RemoteProtocolError):
        return TransportError(f"the reply of {host} was cut short: {reason}")
    problem = TransportError(f"cannot send to {host}: {reason}")
    problem.lasting = True
    return problem


def _is_tls_error(error: BaseException | None) -> bool:
    import ssl

    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _decompress(chunks: Iterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """Join and decompress the chunks of a body; stop as soon as they exceed `max_bytes`."""
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        known = encoding if encoding in ("br", "compress", "deflate", "zstd") else "an unknown encoding"
        raise ReplyError(f"the reply is compressed with {known}", expected="gzip or no compression")
    gunzip = zlib.decompressobj(31) if encoding.endswith("gzip") else None
    body, received = bytearray(), 0
    for chunk in chunks:
        received += len(chunk)
        try:
            body += chunk if gunzip is None else gunzip.decompress(chunk, max_bytes + 1 - len(body))
        except zlib.error:
            raise ReplyError("the reply is labelled as gzip, but is not") from None
        if max(received, len(body)) > max_bytes:
            hint = (Arg("transport"), "http(max_bytes=...)")
            raise ReplyError(f"the reply is larger than {max_bytes:,} bytes", hint=hint)
    if gunzip is not None and not gunzip.eof and received:
        raise TransportError("the reply was cut short: its gzip data have no end")
    return bytes(body)


class _CloseAfter:
    """Close the connection once the time is up: httpx2 limits each read, but a server may send a byte per read."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._close)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket; httpx2 calls this at every event."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.expired:
                self._close()

    def _close(self) -> None:
        import socket

        with self._lock:
            self.expired = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:  # already closed
                    return
