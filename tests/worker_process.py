"""Worker processes for tests, seen from the supervisor's end of the channel."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_prs.worker.channel import Channel, encode_frame

PROCESS = Path(__file__).parents[1] / "airflow_prs" / "worker" / "process.py"
SCRIPTS = Path(__file__).parent / "scripts"
DEADLINE_S = 30
FILES = {"name": "files", "kind": "files", "options": {}, "partition_keys": []}
TABLE = {
    "name": "table",
    "kind": "delimited",
    "options": {"separator": ",", "header": False, "encoding": "utf-8", "columns": ["name", "value"]},
    "partition_keys": [],
}


class Supervisor:
    """The other end of a worker process."""

    def __init__(
        self,
        folder,
        *,
        argv=(),
        inputs=(FILES,),
        append_rows=True,
        rows_format=None,
        concurrency=1,
        profile=None,
        exit_s=10,
        read_ahead_bytes=0,
        memory_limit_bytes=None,
    ):
        self.rows_path = folder / "rows" / "process000.rows"
        self.output_dir, self.work_dir, self.logs = folder / "out", folder / "work", folder / "logs"
        for path in (self.output_dir, self.work_dir):
            path.mkdir()
        here, there = socket.socketpair()
        # A worker that does not answer is an error here, not a test that hangs.
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", DEADLINE_S, 0))
        with there, (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-u", str(PROCESS), str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.work_dir,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        self._channel = Channel(here.detach())
        self._folder = folder
        self.log = self.last_words = ""
        self.is_leaving = False
        setup = {
            "source": str(folder / "source"),
            "entry_script": "score.py",
            "argv": list(argv),
            "inputs": list(inputs),
            "side_inputs": {"mosaic": "/models/mosaic.pkl"},
            "append_rows": append_rows,
            "rows_format": rows_format,
            "rows_path": str(self.rows_path),
            "output_dir": str(self.output_dir),
            "node": "host-0-1",
            "process": "process000",
            "logging_level": "INFO",
            "script_log": str(self.logs / "process000.log.txt"),
            "concurrency": concurrency,
            "profile": profile,
            "exit_timeout_s": exit_s,
            "read_ahead_bytes": read_ahead_bytes,
            "memory_limit_bytes": memory_limit_bytes,
        }
        self._channel.send({"setup": setup})

    def receive(self):
        """The next message, but for the lines of the script's log and what it says when it leaves: `log` has these."""
        while (message := self._channel.receive()) is not None:
            if "log" in message:
                self.log += message["log"]
            elif "leaving" in message:
                self.is_leaving = True
            elif self.is_leaving and "note" in message:
                self.last_words = message["note"]
            else:
                return message
        return None

    def receive_log(self):
        """Wait for lines of the script's log."""
        self.log += self._channel.receive()["log"]

    def run(self, *paths, index=0, try_number=1, items=None, partition=None):
        """Hand out a mini-batch of files; the answer to it."""
        self.hand_out([index, try_number, "files", len(paths) if items is None else items, partition, list(paths)])
        return self.receive()

    def hand_out(self, *orders):
        os.write(self._channel._fd, b"".join(encode_frame({"run": [order]}) for order in orders))

    def answer(self, message, number, content):
        """Answer a question about the layout."""
        self._channel.send({"layout": (message["layout"].question, number, content)})

    def rows(self, done):
        """The rows that an answer speaks of, checked."""
        _, _, offset, length, crc, *_ = done["done"]
        data = self.rows_path.read_bytes()[offset : offset + length]
        assert zlib.crc32(data) == crc
        return data.decode().splitlines()

    def cancel(self, index, error="run() did not return within 1 seconds"):
        self._channel.send({"cancel": index, "error": error})

    def recall(self):
        """Ask for what run() has not begun with."""
        self._channel.send({"recall": True})

    def close(self):
        """Say that there is no more work; the exit code."""
        self.send_close()
        return self.wait()

    def send_close(self):
        self._channel.send({"close": True})

    def wait(self):
        """Wait for the end of the channel and of the process; the exit code."""
        while self.receive() is not None:
            pass
        return self.process.wait(DEADLINE_S)

    def text(self, name):
        return (self._folder / name).read_text()

    def hang_up(self):
        self._channel.close()
        self._channel = None

    def end(self):
        if self._channel:
            self._channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


@contextmanager
def worker_processes(folder):
    """Give what starts a worker process on a script of tests/scripts or on a text, until it is ready (or not)."""
    supervisors = []

    def start(script, *, is_ready=True, **options):
        source = folder / "source"
        source.mkdir(exist_ok=True)
        if script.endswith(".py"):
            shutil.copy(SCRIPTS / script, source / "score.py")
        else:
            (source / "score.py").write_text(script)
        supervisor = Supervisor(folder, **options)
        supervisors.append(supervisor)
        if is_ready:
            assert "ready" in supervisor.receive()
        return supervisor

    try:
        yield start
    finally:
        for supervisor in supervisors:
            supervisor.end()
