"""A proxy in front of a server of object storage that loses, cuts, delays and counts requests."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BUSY = "busy"
"""It answers 503, and the server hears nothing."""
CUT = "cut"
"""It closes the connection, and the server hears nothing."""
LOSE = "lose"
"""It closes the connection after the server has done what was asked."""
SLOW = "slow"
"""It waits before it passes the request on."""

Fault = Callable[[str, str], str | None]
"""Returns what happens to a request of this method and path."""


class FaultProxy:
    """
    A proxy on a port of its own. The Host header is passed on as it came, so that signatures stay valid.

    :ivar fault: what happens to requests.
    :ivar dropped: names of headers, in small letters, that the server does not get.
    :ivar counts: number of requests by method.
    :ivar target: host and port of the server.
    """

    def __init__(self, target: str, slow_s: float = 0.3) -> None:
        self.fault: Fault = lambda _method, _path: None
        self.dropped: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.slow_s = slow_s
        self.target = urlsplit(target).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.counts[self.command] += 1
        fault = self.proxy.fault(self.command, self.path)
        if fault == SLOW:
            time.sleep(self.proxy.slow_s)
        if fault == CUT:
            self._cut()
        elif fault == BUSY:
            self._reply(503, [], b"busy")
        else:
            answer = self._forward(body)
            if fault == LOSE:
                self._cut()
            else:
                self._reply(*answer)

    def _forward(self, body):
        server = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection", *self.proxy.dropped}:
                    server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            server.close()

    def _reply(self, status, headers, data):
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        if status not in {204, 304}:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments):
        pass


def every(number: int, fault: str, of: str = "") -> Fault:
    """
    Let one of so many requests fail.

    :param of: the only methods that count, with a space between them; "": all.
    """
    counter = itertools.count(1)
    methods = set(of.split())

    def decide(method: str, _path: str) -> str | None:
        return fault if (not methods or method in methods) and next(counter) % number == 0 else None

    return decide


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Make a proxy, and close it."""
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
