"""`make demo` in a fresh checkout, on a machine with nothing but git, make and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def fresh_checkout(tmp_path):
    """Copy what git keeps or would keep, into a folder whose name needs quoting."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=CHECKOUT, text=True)
    copy = tmp_path / "fresh checkout"
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, copy / name)
    return copy


@pytest.fixture
def environment(tmp_path):
    """Give the shell of a user with an empty home, the caches of pip and uv apart."""
    home = tmp_path / "home"
    home.mkdir()
    caches = Path("~/.cache").expanduser()
    foreign = ("AIRFLOW", "MAKE", "MFLAGS", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    defaults = {"UV_CACHE_DIR": str(caches / "uv"), "PIP_CACHE_DIR": str(caches / "pip")}
    return defaults | kept | {"HOME": str(home)}


@pytest.mark.slow
def test_a_fresh_checkout_makes_what_it_needs_and_shows_the_result(fresh_checkout, environment, tmp_path):
    command = ["make", "demo", f"PYTHON={sys.executable}"]
    done = subprocess.run(
        command, check=False, cwd=fresh_checkout, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    shown = done.stdout[done.stdout.rindex("\nResult ") :]
    assert str(fresh_checkout / ".airflow" / "demo" / "digits" / "result" / "digits.txt") in shown
    assert "0000.png 0\n" in shown
    assert "1,797 (0 failed)\n" in shown
    log = fresh_checkout / ".airflow" / "demo.log"
    assert f"Log           {log}\n" in shown
    assert "read_digits" in log.read_text()
    assert "[info" not in done.stdout
    assert [path for path in (tmp_path / "home").rglob("*") if "airflow" in path.name] == []
