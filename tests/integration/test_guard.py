"""The guard and real processes: whatever the worker starts ends with it, and its folders are gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

GUARD = Path(__file__).parents[2] / "airflow_prs" / "worker" / "guard.py"
DEADLINE_S = 10.0

WITH_ESCAPEES = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
pids = [subprocess.Popen(sleeper).pid, subprocess.Popen(sleeper, start_new_session=True).pid]
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    daemon = os.fork()
    if daemon == 0:
        os.execv(sleeper[0], sleeper)
    os.write(write, str(daemon).encode())
    os._exit(0)
pids.append(int(os.read(read, 20)))
os.wait()
with open(sys.argv[1] + ".new", "w") as file:
    file.write(" ".join(map(str, [os.getpid(), *pids])))
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""
"""A child, a child with a session of its own and a daemon; their pids and the worker's go to a file."""

HOPPING = """
import os, sys, time
if os.fork() == 0:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        open(sys.argv[1], "w").close()
        time.sleep(0.002)
time.sleep(60)
"""
"""A child that leaves its session, parent and process id behind again and again."""


class Guarded:
    """A guard and its worker, seen from the supervisor."""

    def __init__(self, folder, code):
        self.work_dir, self.node_dir = folder / "node" / "work", folder / "node"
        self.work_dir.mkdir(parents=True)
        (self.work_dir / "leftover.txt").write_text("x")
        self.pids_path = folder / "pids"
        self.control, control_there = socket.socketpair()
        self.channel, channel_there = socket.socketpair()
        self.control.settimeout(DEADLINE_S)
        self.channel.settimeout(DEADLINE_S)
        with control_there, channel_there:
            fds = (control_there.fileno(), channel_there.fileno())
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(GUARD), *map(str, fds), str(self.work_dir), str(self.node_dir)),
                    *("--", sys.executable, "-I", "-S", "-c", code, str(self.pids_path), str(fds[1])),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=fds,
            )

    def pids(self):
        wait_until(self.pids_path.exists)
        return [int(pid) for pid in self.pids_path.read_text().split()]

    def report(self):
        line = b""
        while not line.endswith(b"\n"):
            line += self.control.recv(100)
        return json.loads(line)

    def end(self):
        """As a supervisor that dies; what a broken guard has left over is killed here."""
        self.control.close()
        self.channel.close()
        self.process.stdout.close()
        self.process.wait(DEADLINE_S)
        for pid in alive(self.pids() if self.pids_path.exists() else []):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start(tmp_path):
    started = []

    def start_guarded(code):
        started.append(Guarded(tmp_path / str(len(started)), code))
        return started[-1]

    yield start_guarded
    for guarded in started:
        guarded.end()


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def alive(pids):
    return [pid for pid in pids if is_alive(pid)]


def test_an_exit_code_is_reported(start):
    assert start("import sys; sys.exit(7)").report() == {"exit": 7}


def test_a_signal_is_reported_as_a_negative_number(start):
    assert start("import os; os.kill(os.getpid(), 11)").report() == {"exit": -signal.SIGSEGV}


def test_an_interpreter_that_is_not_there_is_an_exit_code(tmp_path):
    control, control_there = socket.socketpair()
    channel, channel_there = socket.socketpair()
    fds = (control_there.fileno(), channel_there.fileno())
    with control, control_there, channel, channel_there:
        command = [sys.executable, "-I", "-S", str(GUARD), *map(str, fds), str(tmp_path / "w"), str(tmp_path / "n")]
        ended = subprocess.run(
            [*command, "--", "/no/python"], pass_fds=fds, capture_output=True, timeout=DEADLINE_S, check=True
        )
        assert [json.loads(line) for line in control.recv(100).splitlines()] == [{"start_errno": 2}, {"exit": 127}]
    assert b"cannot start /no/python: " in ended.stderr


def test_what_the_worker_started_ends_with_it(start):
    guarded = start(WITH_ESCAPEES)
    assert guarded.report() == {"exit": 0}
    assert len(guarded.pids()) == 4
    assert alive(guarded.pids()) == []


def test_what_the_worker_started_is_killed_with_it(start):
    guarded = start(WITH_ESCAPEES + "time.sleep(600)")
    pids = guarded.pids()
    assert alive(pids) == pids
    guarded.control.send(b"k")
    assert guarded.report() == {"exit": -signal.SIGKILL}
    assert alive(pids) == []


def test_everything_is_killed_when_the_supervisor_dies(start):
    guarded = start(WITH_ESCAPEES + "time.sleep(600)")
    pids = guarded.pids()
    guarded.control.close()
    guarded.process.wait(DEADLINE_S)
    assert alive(pids) == []


def test_a_worker_that_ignores_signals_is_killed(start):
    code = (
        "import signal, sys, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)];"
        "open(sys.argv[1], 'w').close(); time.sleep(600)"
    )
    guarded = start(code)
    wait_until(guarded.pids_path.exists)
    guarded.control.send(b"k")
    assert guarded.report() == {"exit": -signal.SIGKILL}


def test_a_process_that_keeps_changing_its_id_is_caught(start):
    guarded = start(HOPPING)
    wait_until(guarded.pids_path.exists)
    guarded.control.send(b"k")
    guarded.report()
    guarded.process.wait(DEADLINE_S)
    assert [command for command in running_commands() if str(guarded.pids_path) in command] == []


def test_signals_that_are_the_supervisors_do_not_end_the_guard(start):
    guarded = start("import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)")
    wait_until(guarded.pids_path.exists)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        guarded.process.send_signal(number)
    guarded.control.send(b"k")
    assert guarded.report() == {"exit": -signal.SIGKILL}


def test_the_worker_dies_with_its_guard(start):
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    guarded = start(code)
    wait_until(lambda: guarded.pids_path.exists() and guarded.pids_path.read_text())
    guarded.process.kill()
    wait_until(lambda: alive(guarded.pids()) == [])


def test_the_worker_reacts_to_signals_as_any_program(start):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); os._exit(0)"
    assert start(code).report() == {"exit": -signal.SIGTERM}


def test_the_worker_is_not_in_the_supervisors_session(start):
    code = "import os, sys; os.write(int(sys.argv[2]), str(os.getsid(0)).encode())"
    assert int(start(code).channel.recv(20)) != os.getsid(0)


def test_the_supervisor_sees_the_end_of_pipe_and_channel(start):
    guarded = start(WITH_ESCAPEES)
    guarded.report()
    assert guarded.process.communicate(timeout=DEADLINE_S)[0] == b""
    assert guarded.channel.recv(1) == b""


def test_the_worker_gets_the_channel_but_not_the_control(start):
    code = (
        "import os, sys, socket; channel = socket.socket(fileno=int(sys.argv[2]));"
        "paths = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')];"
        "names = [os.readlink(path) for path in paths if os.path.lexists(path)];"
        "channel.sendall(str(sum(name.startswith('socket:') for name in names)).encode())"
    )
    assert start(code).channel.recv(10) == b"1"


def test_the_working_directory_is_removed_and_the_nodes_stays(start):
    guarded = start("pass")
    guarded.report()
    guarded.process.wait(DEADLINE_S)
    assert list(guarded.node_dir.iterdir()) == []


def test_the_nodes_folder_is_removed_when_the_supervisor_is_gone(start):
    guarded = start("import time; time.sleep(600)")
    guarded.control.close()
    guarded.process.wait(DEADLINE_S)
    assert not guarded.node_dir.exists()


def running_commands():
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
