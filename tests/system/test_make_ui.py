"""`make ui`: Airflow with the examples, from the address that it prints to Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.airflow_services import free_port

pytestmark = [pytest.mark.system, pytest.mark.slow]

CHECKOUT = Path(__file__).parents[2]


def processes_of(home):
    """Find what lives in an Airflow home."""
    return [process for process in psutil.process_iter() if is_in(home, process)]


def is_in(home, process):
    try:
        return process.environ().get("AIRFLOW_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture
def make_ui(tmp_path):
    """Start it as a terminal does: one process group, which gets the Ctrl-C."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE", "MFLAGS"))}
    made = subprocess.Popen(
        ["make", "ui", f"AIRFLOW_HOME={tmp_path / 'home'}", f"PORT={free_port()}"],
        cwd=CHECKOUT,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield made
    for process in processes_of(tmp_path / "home"):
        process.kill()
    made.communicate()


def test_it_prints_address_and_password_and_ends_with_ctrl_c(make_ui, tmp_path):
    printed = ""
    for line in make_ui.stdout:
        printed += line
        if line.startswith("End "):
            break
    url = re.search(r"Airflow +(http://\S+)\n", printed)[1]
    password = re.search(r"Log in +as admin, password (\w+)\n", printed)[1]
    body = json.dumps({"username": "admin", "password": password}).encode()
    with urlopen(Request(f"{url}/auth/token", body, {"Content-Type": "application/json"}), timeout=60) as answer:
        assert "access_token" in json.load(answer)
    assert (tmp_path / "home" / "ui.log").stat().st_size > 0
    assert len(processes_of(tmp_path / "home")) > 4

    os.killpg(make_ui.pid, signal.SIGINT)

    rest, _ = make_ui.communicate(timeout=90)
    assert "Airflow is ending." in rest
    assert "Traceback" not in rest
    assert processes_of(tmp_path / "home") == []


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ["make", "ui", f"AIRFLOW_HOME={tmp_path}", f"PORT={port}"]
        done = subprocess.run(command, check=False, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert f"Port {port} is in use. Name another one: make ui PORT={port + 1}" in done.stderr
