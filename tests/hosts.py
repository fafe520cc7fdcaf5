"""
Hosts on one machine: processes with a host name, a network, process numbers and a view of the disk of their own.

A host is a set of Linux namespaces that live as long as their first process: nothing is left where that has ended.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from tests.airflow_services import wait_until, with_luck
from tests.lacking import lacking

_FIRST_PROCESS = """
hostname "$1"
ip link set lo up
until ip address add "$2" dev eth0; do sleep 0.05; done 2>&-
ip link set eth0 up
shift 2
"$@" &
wait
"""
"""Of a host: the shell takes in what orphans leave, as the first process must."""

_UNSHARE = ["unshare", "--net", "--uts", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]
# A host ends with the tests, however those end.
_NEW_HOST = ["setpriv", "--pdeathsig", "KILL", *_UNSHARE]
_MANY = 64 * 256
_CHUNK_BYTES = 1 << 16
_STARTS_S = 20


def check_hosts_can_be_made() -> None:
    """Fail or skip where this user or this system cannot make namespaces."""
    missing = [tool for tool in ("ip", "setpriv", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        lacking(f"hosts cannot be made without {', '.join(missing)} (iproute2, util-linux)")
    done = subprocess.run([*_NEW_HOST, "ip", "link"], capture_output=True, text=True, check=False)
    if os.geteuid() != 0 or done.returncode != 0:
        lacking(f"hosts cannot be made, only root may: {done.stderr.strip()}")


class Host:
    """
    A host that runs one command.

    :param name: its host name.
    :param ports: what it can reach of the outside, on `gateway`: ports of 127.0.0.1 there.
    """

    def __init__(self, name: str, ports: Sequence[int]) -> None:
        self.name = name
        self._link = f"prs-{secrets.token_hex(4)}"
        # Four addresses for each, of a range that is kept for tests between hosts.
        self._prefix, self._first = _network(secrets.randbelow(_MANY))
        self.gateway = f"{self._prefix}.{self._first + 1}"
        self._forwarder = Forwarder(self.gateway, ports)
        self._outside: subprocess.Popen[bytes] | None = None
        self._inside: psutil.Process | None = None

    def start(self, command: Sequence[str], *, log: Path, cwd: Path, environment: Mapping[str, str]) -> None:
        """Start the command on the host; it is lost with everything that it has started when the host is killed."""
        address = f"{self._prefix}.{self._first + 2}/30"
        with log.open("ab") as output:
            self._outside = subprocess.Popen(
                [*_NEW_HOST, "bash", "-c", _FIRST_PROCESS, "bash", self.name, address, *command],
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        outside = psutil.Process(self._outside.pid)
        (self._inside,) = wait_until(outside.children, f"the host {self.name}", _STARTS_S)
        peer = ["type", "veth", "peer", "name", "eth0", "netns", str(self._inside.pid)]
        _run("ip", "link", "add", self._link, *peer)
        _run("ip", "address", "add", f"{self.gateway}/30", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")
        self._forwarder.start()

    def processes(self) -> list[psutil.Process]:
        """Every process of the host but its first one."""
        return [] if self._inside is None else self._inside.children(recursive=True)

    def process(self, number: int) -> psutil.Process:
        """Find a process by its number on the host."""
        (found,) = (process for process in self.processes() if _number_inside(process) == number)
        return found

    def lose_network(self) -> None:
        """Cut the cable: nothing comes in, nothing goes out, and nobody is told."""
        _run("ip", "link", "set", self._link, "down")

    def regain_network(self) -> None:
        """Mend it."""
        _run("ip", "link", "set", self._link, "up")

    def hide(self, folder: Path) -> None:
        """Let the host see an empty folder in the place of this one."""
        self._enter("mount", "-t", "tmpfs", "none", str(folder))

    def show(self, folder: Path) -> None:
        """Let it see the folder again."""
        self._enter("umount", str(folder))

    def kill(self) -> None:
        """End every process of the host at once, as where the machine is gone."""
        if self._outside is None:
            return
        if self._inside is not None:
            with_luck(self._inside.kill)
        else:
            self._outside.kill()
        self._outside.wait()
        self._forwarder.stop()
        wait_until(lambda: not Path("/sys/class/net", self._link).exists(), f"the end of {self.name}", _STARTS_S)
        self._outside = self._inside = None

    def _enter(self, *command: str) -> None:
        assert self._inside is not None
        _run("nsenter", "--target", str(self._inside.pid), "--mount", *command)


@contextmanager
def hosts(names: Sequence[str], ports: Sequence[int]) -> Iterator[dict[str, Host]]:
    """Make hosts, and leave nothing of them."""
    made = {name: Host(name, ports) for name in names}
    try:
        yield made
    finally:
        for host in made.values():
            host.kill()


class Forwarder:
    """
    Hands connections on to ports of 127.0.0.1, which a host cannot reach.

    :param address: where it listens, at the same ports.
    """

    def __init__(self, address: str, ports: Sequence[int]) -> None:
        self._address, self._ports = address, ports
        self._listens = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; from now on connections are handed on."""
        self._listens.clear()
        self._thread = threading.Thread(target=asyncio.run, args=[self._run()], daemon=True)
        self._thread.start()
        assert self._listens.wait(_STARTS_S), f"nothing listens at {self._address}"

    def stop(self) -> None:
        """Listen no more, and close all connections."""
        if self._thread is not None:
            self._stop()
            self._thread.join()
            self._thread = None

    async def _run(self) -> None:
        end = asyncio.Event()
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, end.set)
        servers = [await asyncio.start_server(_to(port), self._address, port) for port in self._ports]
        self._listens.set()
        await end.wait()
        for server in servers:
            server.close()


def _to(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A handler that is cancelled when all end would be reported as if it had failed.
        with suppress(OSError, asyncio.CancelledError):
            answers, questions = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pass_on(reader, questions), _pass_on(answers, writer))

    return connect


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
    finally:
        writer.close()


def _network(number: int) -> tuple[str, int]:
    return f"198.18.{number // 64}", number % 64 * 4


def _number_inside(process: psutil.Process) -> int | None:
    with suppress(OSError):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
    return None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
