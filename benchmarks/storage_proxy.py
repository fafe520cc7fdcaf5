"""
A proxy in front of a server of object storage, which counts requests and adds latency.

It runs in a process of its own, so that what is measured does not share its interpreter.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any
from urllib.parse import unquote, urlsplit

_WITHOUT_BODY = {204, 304}
_PURPOSES = {
    "rows": r"shards/\d+/rows/",
    "commit": r"shards/\d+/log/\d+ PUT",
    "look: shards": r"shards/\d+/log/",
    "checkpoint": r"shards/\d+/checkpoint",
    "requests of lending": r"shards/\d+/requests/",
    "loans": r"shards/\d+/loans/",
    "status of shards": r"shards/\d+/status\.json",
    "run status": r"status\.json",
    "look: run log": r"run/log/",
    "logs": r"run/logs/",
}


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request that was passed on.

    :param at: seconds since the epoch (UTC).
    :param key: path without the bucket, decoded.
    """

    at: float
    method: str
    key: str

    @property
    def purpose(self) -> str:
        """What it was sent for, by its key in a run folder named ``run``."""
        text = f"{self.key} {self.method}"
        return next((name for name, pattern in _PURPOSES.items() if re.search(pattern, text)), "other")


class Proxy:
    """
    A running proxy.

    :ivar url: where it answers.
    """

    def __init__(self, url: str, pipe: Any) -> None:
        self.url = url
        self._pipe = pipe

    def take(self) -> list[Request]:
        """Return the requests since the last call, in the order of their arrival."""
        self._pipe.send("take")
        return [Request(*values) for values in self._pipe.recv()]


def count(requests: list[Request], *, begin: float = 0.0, end: float = float("inf")) -> Counter[str]:
    """Return the number of requests between two moments, by purpose and method."""
    return Counter(f"{found.purpose} {found.method}" for found in requests if begin <= found.at < end)


@contextmanager
def proxy_of(target: str, latency_s: float = 0.0) -> Iterator[Proxy]:
    """
    Start a proxy, and stop it at the end.

    :param target: URL of the server.
    :param latency_s: is added to each request.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(512)
        here, there = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_serve, args=(listening, target, latency_s, there), daemon=True)
        process.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield Proxy(url, here)
    finally:
        here.send("end")
        process.join()


def _serve(listening: socket.socket, target: str, latency_s: float, pipe: Any) -> None:
    asyncio.run(_Server(target, latency_s).serve(listening, pipe))


class _Server:
    def __init__(self, target: str, latency_s: float) -> None:
        address = urlsplit(target)
        self._target = address.hostname, address.port
        self._latency_s = latency_s
        self._requests: list[tuple[float, str, str]] = []

    async def serve(self, listening: socket.socket, pipe: Any) -> None:
        server = await asyncio.start_server(self._accept, sock=listening, limit=1 << 20)
        while await asyncio.to_thread(pipe.recv) == "take":
            taken, self._requests = self._requests, []
            pipe.send(taken)
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_close = [writer]
        try:
            its_reader, its_writer = await asyncio.open_connection(*self._target, limit=1 << 20)
            to_close.append(its_writer)
            # A client that goes away, or a server that closes, ends the connection.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._pass_on(reader, writer, its_reader, its_writer)
        finally:
            for each in to_close:
                each.close()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        its_reader: asyncio.StreamReader,
        its_writer: asyncio.StreamWriter,
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self._requests.append((time.time(), method, _key_of(method, path)))
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        its_writer.write(head)
        if b"100-continue" in head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await _copy_body(head, reader, its_writer)
        while True:
            answer = await its_reader.readuntil(b"\r\n\r\n")
            status = int(answer.split(b" ", 2)[1])
            if status != 100:  # noqa: PLR2004 - the proxy has said this already
                break
        writer.write(answer)
        if method != "HEAD" and status not in _WITHOUT_BODY:
            await _copy_body(answer, its_reader, writer)
        await writer.drain()


def _key_of(method: str, path: str) -> str:
    address = urlsplit(path)
    key = unquote(address.path).lstrip("/").partition("/")[2]
    return key if key or method != "GET" else f"? {unquote(address.query)}"


async def _copy_body(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    names = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if names.get(b"transfer-encoding", b"").strip() == b"chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            writer.write(line)
            await _copy(size + 2, reader, writer)
            if not size:
                return
    await _copy(int(names.get(b"content-length", b"0")), reader, writer)


async def _copy(size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while size:
        data = await reader.read(min(size, 1 << 18))
        if not data:
            raise ConnectionResetError
        writer.write(data)
        await writer.drain()
        size -= len(data)
