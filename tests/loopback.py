"""A real server on the loopback interface that replies with any bytes, at any speed, and records each request."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Received:
    """A request, and when it arrived."""

    line: str
    headers: dict
    body: bytes
    at: float

    @property
    def path(self):
        return self.line.split()[1]

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Server:
    """Answer each connection with `answer(connection, received)`."""

    url = "https://vendor.example"

    answer: object = None
    greeting: bytes = b""
    received: list = field(default_factory=list)

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *failure):
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._socket.close()
        for thread in self._threads:
            thread.join(0.2)

    def _accept(self):
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection):
        with connection:
            try:
                if self.greeting:  # sent before anything is read
                    connection.sendall(self.greeting)
                    return
                received = read_request(connection)
                if received is not None:
                    self.received.append(received)
                    self.answer(connection, received)
            except OSError:  # the client has left
                return

    def wait(self, seconds):
        """Wait, at most until the server ends."""
        self._ended.wait(seconds)


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    at = time.monotonic()
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return Received(line, headers, body, at)


def reply(status=200, body=b"", headers=(), length=None):
    """Return the bytes of a reply; `length` is a wrong Content-Length."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Odd",
        "Connection: close",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def sending(*replies):
    """Answer the requests with the replies in order; repeat the last."""
    lock, left = threading.Lock(), list(replies)

    def answer(connection, received):
        with lock:
            found = left.pop(0) if len(left) > 1 else left[0]
        connection.sendall(found)

    return answer
