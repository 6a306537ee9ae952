"""The only I/O of the package that leaves the machine: one call goes out, one reply comes back.

A transport is a function from :class:`Call` to :class:`Reply`. :func:`http` makes the one that is used by default;
any other may be passed in. What a transport raises counts as no answer; an OSError, as a fault that may pass.
"""

import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from cohortlib.errors import FetchError, ReplyError, TransportError

__all__ = ["Call", "Reply", "Transport", "http"]

LARGEST = 128 * 2**20
_PIECE = 2**18


@dataclass(frozen=True, repr=False)
class Call:
    """What goes out.

    Attributes
    ----------
    method, url
        ``"GET"`` or ``"POST"``, and the whole address.
    headers
        Names and values; among them the one that holds the key.
    body
        What is sent, or nothing.
    timeout
        The seconds until there has to be a reply.
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
    """What comes back.

    Attributes
    ----------
    status
        The HTTP status.
    headers
        Names, in any case, and values.
    body
        All of the body, unpacked.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.headers)} headers, {len(self.body):,} bytes)"

    def header(self, name: str) -> str:
        """Give the value of a header, or an empty text."""
        return next((value for known, value in self.headers.items() if known.lower() == name.lower()), "")


Transport: TypeAlias = Callable[[Call], Reply]


def extra(error: ImportError) -> FetchError:
    """Say that what fetching needs is not installed."""
    return FetchError(f"fetching needs the extra: pip install 'cohortlib[fetch]' ({error.name} is not installed)")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def http(*, connect: float = 10.0, read: float = 60.0, max_bytes: int = LARGEST) -> Transport:
    """Make a transport on httpx2: no redirects, bounded in time and size, proxies as the environment says.

    Parameters
    ----------
    connect
        The most seconds to wait for a connection.
    read
        The most seconds to wait for the next piece of a reply. All of it has to be there within the call's timeout.
    max_bytes
        The most bytes of a body, unpacked.

    Raises
    ------
    FetchError
        Where httpx2 is not installed.
    """
    try:
        import httpx2
    except ImportError as error:
        missing = extra(error)
    else:
        return lambda call: _send(httpx2, call, connect, read, max_bytes)
    raise missing


def _send(library: Any, call: Call, connect: float, read: float, max_bytes: int) -> Reply:  # noqa: ANN401
    """Send a call. Errors are raised outside of `except`: those of the library hold the request and its key."""
    host = urlsplit(call.url).hostname or ""
    limit = call.timeout
    pauses = library.Timeout(min(read, limit), connect=min(connect, limit))
    headers = {"Accept-Encoding": "gzip", **call.headers}
    watch = _Watch(limit)
    problem: FetchError
    try:
        # What is for this machine must not go to a proxy, in the clear.
        client = library.Client(
            timeout=pauses, follow_redirects=False, trust_env=not is_loopback(host), verify=_trust(library)
        )
        with client, watch:
            request = client.build_request(call.method, call.url, headers=headers, content=call.body or None)
            request.extensions["trace"] = watch.connected
            response = client.send(request, stream=True)
            try:
                body = _unpacked(response.iter_raw(_PIECE), response.headers.get("content-encoding", ""), max_bytes)
            finally:
                response.close()
            return Reply(response.status_code, dict(response.headers), body)
    except FetchError as error:
        problem = error
    except Exception as error:
        problem = _fault(library, error, host, connect, read)
    if watch.over:
        problem = TransportError(f"{host} took longer than {limit:.3g} seconds for its reply, and was left")
        problem.lasting = True
    problem.__context__ = None
    raise problem


@cache
def _trust(library: Any) -> ssl.SSLContext:  # noqa: ANN401
    """Read the certificates to trust, which takes as long as many a call, once."""
    trust: ssl.SSLContext = library.create_ssl_context()
    return trust


def _fault(library: Any, error: Exception, host: str, connect: float, read: float) -> TransportError:  # noqa: ANN401
    """Say why there is no answer."""
    if isinstance(error, library.ConnectTimeout):
        return TransportError(f"no connection to {host} within {connect:g} seconds")
    if isinstance(error, library.TimeoutException):
        return TransportError(f"{host} sent nothing for {read:g} seconds")
    told = str(error) or type(error).__name__
    if isinstance(error, library.ConnectError):
        problem = TransportError(f"no connection to {host}: {told}")
        problem.lasting = _is_of_tls(error)
        return problem
    if isinstance(error, library.NetworkError | library.RemoteProtocolError):
        return TransportError(f"the reply of {host} was cut short: {told}")
    problem = TransportError(f"{host} could not be asked: {told}")
    problem.lasting = True
    return problem


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _unpacked(pieces: Iterable[bytes], coding: str, max_bytes: int) -> bytes:
    """Join the pieces of a body, unpacked, and stop where they are too many."""
    coding = coding.strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        known = f"as {coding}" if coding in ("br", "compress", "deflate", "zstd") else "in an unknown way"
        raise ReplyError(f"the reply is packed {known}; expected gzip, or nothing")
    unpack = zlib.decompressobj(31) if coding.endswith("gzip") else None
    found, came = bytearray(), 0
    for piece in pieces:
        came += len(piece)
        try:
            found += piece if unpack is None else unpack.decompress(piece, max_bytes + 1 - len(found))
        except zlib.error:
            raise ReplyError("the reply is said to be packed as gzip, and is not") from None
        if max(came, len(found)) > max_bytes:
            raise ReplyError(f"the reply is larger than {max_bytes:,} bytes. Hint: transport=http(max_bytes=...)")
    if unpack is not None and not unpack.eof and came:
        raise TransportError("the reply was cut short: its gzip has no end")
    return bytes(found)


class _Watch:
    """End a call at its time: the library bounds each wait, but a server may send a byte with each."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def connected(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of the connection; the library calls this at every event."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self._end()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:  # it has ended by itself
                    return
