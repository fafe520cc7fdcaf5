"""
`make ui`: run `airflow standalone` with these DAGs until Ctrl-C.

The output of the services goes to a file. As soon as they are healthy, the address and the password are printed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import psutil

START_S = 600
STOP_S = 30
EVERY_S = 0.5
LAST_LINES = 20


def main():
    home, port = Path(os.environ["AIRFLOW_HOME"]), int(os.environ["AIRFLOW__API__PORT"])
    url = f"http://127.0.0.1:{port}"
    log = home / "ui.log"
    if is_taken(port):
        raise SystemExit(f"Port {port} is in use. Name another one: make ui PORT={port + 1}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    home.mkdir(parents=True, exist_ok=True)
    print(f"Airflow is starting; its log is {log}", flush=True)
    airflow = start(log, url)
    try:
        wait_until_healthy(airflow, url)
        print(describe(home, url), flush=True)
        airflow.wait()
        complain(log)
    except KeyboardInterrupt:
        print("\nAirflow is ending.", flush=True)
    except TimeoutError:
        complain(log)
    finally:
        stop(airflow)


def is_taken(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def start(log, url):
    # `airflow standalone` searches PATH for the airflow command, so this installation comes first. Airflow has its own
    # session, so only this process receives Ctrl-C. It passes the signal on in stop().
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env={**os.environ, "PATH": path, "AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__BASE_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_healthy(airflow, url):
    end = time.monotonic() + START_S
    while not is_healthy(url):
        if time.monotonic() > end or airflow.poll() is not None:
            raise TimeoutError
        time.sleep(EVERY_S)


def is_healthy(url):
    try:
        with urlopen(f"{url}/api/v2/monitor/health", timeout=START_S) as answer:  # noqa: S310 - our own address
            parts = json.load(answer).values()
    except (OSError, ValueError):
        return False
    return all(part["status"] == "healthy" for part in parts if part)


def describe(home, url):
    lines = ["", f"Airflow    {url}"]
    with suppress(OSError, ValueError, KeyError):
        passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text(encoding="utf-8"))
        lines.append(f"Log in     as admin, password {passwords['admin']}")
    return "\n".join([*lines, f"Try        {url}/dags/example_digits, then click Trigger", "End        Ctrl-C"])


def complain(log):
    with log.open(encoding="utf-8", errors="replace") as lines:
        print("".join(deque(lines, LAST_LINES)))
    raise SystemExit(f"Airflow is not running. Its full log is {log}")


def stop(airflow):
    """Stop Airflow with SIGINT, as Ctrl-C does, and kill the processes that have not ended after STOP_S seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if airflow.poll() is None:
        airflow.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(processes(airflow), timeout=STOP_S)
    while alive:
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=STOP_S)
        alive = processes(airflow)
    airflow.wait()


def processes(airflow):
    """Return the processes of Airflow's session and their children, which may be in other sessions."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == airflow.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.update({each.pid: each for each in [process, *process.children(recursive=True)]})
    return list(found.values())


if __name__ == "__main__":
    main()
