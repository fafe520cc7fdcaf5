"""A real worker process, seen from the supervisor's end of the channel."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pandas as pd
import pytest

from airflow_prs.worker.channel import Channel, encode_frame

PROCESS = Path(__file__).parents[2] / "airflow_prs" / "worker" / "process.py"
SCRIPTS = Path(__file__).parents[1] / "scripts"
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

    def __init__(self, folder, *, argv=(), inputs=(FILES,), append_rows=True):
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
        setup = {
            "source": str(folder / "source"),
            "entry_script": "score.py",
            "argv": list(argv),
            "inputs": list(inputs),
            "side_inputs": {"mosaic": "/models/mosaic.pkl"},
            "append_rows": append_rows,
            "rows_path": str(self.rows_path),
            "output_dir": str(self.output_dir),
            "node": "host-0-1",
            "process": "process000",
            "logging_level": "INFO",
            "script_log": str(self.logs / "process000.log.txt"),
        }
        self._channel.send({"setup": setup})

    def receive(self):
        return self._channel.receive()

    def run(self, *paths, index=0, try_number=1, items=None, partition=None):
        """Hand out a mini-batch of files; the answer to it."""
        self.hand_out([index, try_number, "files", len(paths) if items is None else items, partition, list(paths)])
        return self.receive()

    def hand_out(self, *orders):
        os.write(self._channel._fd, b"".join(encode_frame({"run": order}) for order in orders))

    def rows(self, done):
        """The rows that an answer speaks of, checked."""
        _, _, offset, length, crc, *_ = done["done"]
        data = self.rows_path.read_bytes()[offset : offset + length]
        assert zlib.crc32(data) == crc
        return data.decode().splitlines()

    def close(self):
        """Say that there is no more work; the exit code."""
        self._channel.send({"close": True})
        return self.process.wait(DEADLINE_S)

    def text(self, name):
        return (self._folder / name).read_text()

    def hang_up(self):
        self._channel.close()
        self._channel = None

    def end(self):
        if self._channel:
            self._channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)


@pytest.fixture
def start(tmp_path):
    """Start a worker process on a script of tests/scripts or on a text, until it is ready (or not)."""
    supervisors = []

    def start_process(script, *, is_ready=True, **options):
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        if script.endswith(".py"):
            shutil.copy(SCRIPTS / script, source / "score.py")
        else:
            (source / "score.py").write_text(script)
        supervisor = Supervisor(tmp_path, **options)
        supervisors.append(supervisor)
        if is_ready:
            assert "ready" in supervisor.receive()
        return supervisor

    yield start_process
    for supervisor in supervisors:
        supervisor.end()


def running(body):
    """A script whose run() has this body."""
    return "import os, sys\ndef run(mini_batch):\n    " + body.replace("\n", "\n    ")


def test_a_process_that_is_ready_says_what_it_is(start):
    supervisor = start("echo.py", is_ready=False)
    ready = supervisor.receive()["ready"]
    assert (ready["python"], ready["pid"]) == (sys.version.split()[0], supervisor.process.pid)


def test_the_rows_of_a_mini_batch_are_written_before_it_is_done(start):
    supervisor = start("echo.py")
    done = supervisor.run("/in/a.png", "/in/b.png", index=7)
    assert done["done"][:2] == [7, 2]
    assert supervisor.rows(done) == ["a.png", "b.png"]


def test_mini_batches_sent_ahead_are_answered_one_by_one_in_order(start):
    supervisor = start("echo.py")
    supervisor.hand_out(*([index, 1, "files", 1, None, [f"/in/{index}.png"]] for index in range(500)))
    answers = [supervisor.receive() for _ in range(500)]
    assert [answer["done"][0] for answer in answers] == list(range(500))
    assert [supervisor.rows(answer) for answer in answers] == [[f"{index}.png"] for index in range(500)]


def test_init_and_shutdown_are_called_once_around_the_mini_batches(start):
    supervisor = start("remembers.py")
    supervisor.run("/in/a", index=3)
    supervisor.run("/in/b", index=4, try_number=2)
    assert supervisor.close() == 0
    calls = (supervisor.output_dir / "calls.txt").read_text().splitlines()
    assert calls == ["init", "run 3 try 1", "run 4 try 2", "shutdown"]


def test_without_a_supervisor_the_process_ends_without_shutdown(start):
    supervisor = start("remembers.py")
    supervisor.hang_up()
    assert supervisor.process.wait(DEADLINE_S) == 0
    assert (supervisor.output_dir / "calls.txt").read_text() == "init\n"


def test_a_failing_shutdown_is_logged_and_nothing_else(start):
    supervisor = start("def run(mini_batch): return mini_batch\ndef shutdown(): raise ValueError('too late')")
    assert supervisor.close() == 0
    assert "ValueError: too late" in supervisor.text("stderr")


def test_a_failing_init_is_told_with_its_traceback_and_ends_the_process(start):
    supervisor = start("fails_in_init.py", is_ready=False)
    failed = supervisor.receive()["failed"]
    assert (failed["stage"], failed["error"]) == ("init", "RuntimeError: there is no model")
    assert failed["traceback"].count("File ") == 1
    assert supervisor.process.wait(DEADLINE_S) == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def run(mini_batch:", "SyntaxError: "),
        ("raise SystemExit(42)", "SystemExit: 42"),
        ("x = 1", "EntryScriptError: score.py has no function run(mini_batch)"),
    ],
)
def test_a_script_that_cannot_be_imported_is_told(start, script, error):
    failed = start(script, is_ready=False).receive()["failed"]
    assert failed["stage"] == "import"
    assert failed["error"].startswith(error)
    assert str(PROCESS.parent) not in failed["traceback"]


def test_an_exception_in_run_is_a_failed_try_with_the_users_traceback(start):
    failed = start("fails_in_run.py").run("/in/good.png", "/in/bad.png", index=5)["try_failed"]
    assert (failed["index"], failed["status"]) == (5, "RUN_EXCEPTION")
    assert failed["error"] == "ValueError: bad pixel in bad.png"
    assert "in read" in failed["traceback"]
    assert str(PROCESS.parent) not in failed["traceback"]


@pytest.mark.parametrize(
    "body",
    [
        "sys.exit(42)",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "return run(mini_batch)",
        "class Mute(Exception):\n    def __str__(self): return 1 / 0\nraise Mute",
        "class Mute:\n    def __str__(self): return 1 / 0\nreturn [Mute()]",
        "return (1 / 0 for path in mini_batch)",
    ],
)
def test_whatever_run_raises_the_process_goes_on(start, body):
    supervisor = start(running(f"if mini_batch == ['/in/b']: return ['b']\n{body}"))
    assert supervisor.run("/in/a")["try_failed"]["status"] == "RUN_EXCEPTION"
    assert supervisor.rows(supervisor.run("/in/b")) == ["b"]


@pytest.mark.parametrize("returns", ["none", "text", "number", "dict"])
def test_a_result_without_elements_is_a_failed_try(start, returns):
    failed = start("wrong_shape.py", argv=["--returns", returns]).run("/in/a")["try_failed"]
    assert failed["status"] == "RUN_BAD_RESULT"
    assert "it must return a pandas DataFrame, or a list" in failed["error"]


@pytest.mark.parametrize(("returns", "elements"), [("fewer", 1), ("nothing", 0)])
def test_fewer_elements_than_items_are_counted(start, returns, elements):
    assert start("wrong_shape.py", argv=["--returns", returns]).run("/in/a", "/in/b")["done"][1] == elements


def test_more_elements_than_items_are_noted_once(start):
    supervisor = start("wrong_shape.py", argv=["--returns", "more"])
    assert supervisor.run("/in/a") == {"note": "run() returned 2 elements for 1 items"}
    assert supervisor.receive()["done"][1] == 2
    assert supervisor.run("/in/a")["done"][1] == 2


def test_without_rows_the_elements_are_only_counted(start):
    supervisor = start(running("return (path for path in mini_batch)"), append_rows=False)
    assert supervisor.run("/in/a", "/in/b")["done"][1:5] == [2, 0, 0, 0]
    assert not supervisor.rows_path.exists()


def test_rows_that_do_not_fit_on_the_disk_are_a_failed_try_that_leaves_nothing(start):
    limit = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    supervisor = start(limit + "def run(mini_batch): return mini_batch")
    supervisor.run("/in/a")
    failed = supervisor.run("/in/" + "b" * 200)["try_failed"]
    assert (failed["status"], failed["error"]) == ("RUN_EXCEPTION", "OSError: [Errno 27] File too large")
    assert supervisor.rows(supervisor.run("/in/c")) == ["/in/c"]
    assert supervisor.rows_path.read_text() == "/in/a\n/in/c\n"


def test_a_table_is_told_when_it_is_loaded(start, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,1\nb,2\n")
    supervisor = start("echo.py", inputs=[TABLE])
    supervisor.hand_out([9, 1, "table", 2, None, [[str(path), 0, 8, None]]])
    assert supervisor.receive() == {"running": 9}
    assert supervisor.rows(supervisor.receive()) == ["a 1", "b 2"]


def test_a_table_that_cannot_be_read_is_a_failed_try_that_names_the_file(start, tmp_path):
    supervisor = start("echo.py", inputs=[TABLE])
    supervisor.hand_out([9, 1, "table", 2, None, [[str(tmp_path / "gone.csv"), 0, 8, None]]])
    failed = supervisor.receive()["try_failed"]
    assert failed["status"] == "LOAD_EXCEPTION"
    assert "gone.csv (bytes 0 to 8): FileNotFoundError" in failed["error"]
    assert failed["run_s"] == 0


def test_parquet_rows_are_read(start, tmp_path):
    pd.DataFrame({"number": [1, 2, 3]}).to_parquet(tmp_path / "table.parquet")
    supervisor = start("echo.py", inputs=[{**TABLE, "kind": "parquet", "options": {}}])
    supervisor.hand_out([0, 1, "table", 2, None, [[str(tmp_path / "table.parquet"), 1, 3, 0]]])
    assert supervisor.receive() == {"running": 0}
    assert supervisor.rows(supervisor.receive()) == ["2", "3"]


def test_files_alone_do_not_wait_for_pandas(start):
    supervisor = start(running("return ['pandas' in sys.modules]"))
    assert supervisor.rows(supervisor.run("/in/a")) == ["False"]


def test_a_data_frame_may_be_returned_for_files(start):
    supervisor = start(running("import pandas\nreturn pandas.DataFrame({'path': mini_batch, 'value': 1})"))
    assert supervisor.rows(supervisor.run("/in/a b")) == ['"/in/a b" 1']


def test_the_context_tells_partition_and_files(start):
    script = (
        "def run(mini_batch, mini_batch_context):\n"
        "    values = mini_batch_context.partition_key_value\n"
        "    return [values['user'], values['day'].year, mini_batch_context.dataset.to_path()]"
    )
    partition = {"user": "ann", "day": {"moment": "2026-03-01T00:00:00"}}
    supervisor = start(script)
    assert supervisor.rows(supervisor.run("/in/a", partition=partition, items=3)) == ["ann", "2026", "['/in/a']"]


def test_a_copy_of_the_process_that_comes_back_from_run_ends_at_once(start):
    supervisor = start(running("child = os.fork()\nif child: os.waitpid(child, 0)\nreturn [child > 0]"))
    assert supervisor.rows(supervisor.run("/in/a")) == ["True"]
    assert supervisor.rows(supervisor.run("/in/b")) == ["True"]


def test_a_copy_of_the_process_that_raises_out_of_run_ends_at_once(start):
    supervisor = start(running("child = os.fork()\nif not child: raise ValueError\nos.waitpid(child, 0)\nreturn [1]"))
    assert supervisor.run("/in/a", index=1)["done"][0] == 1
    assert supervisor.run("/in/b", index=2)["done"][0] == 2


def test_run_may_close_the_standard_streams(start):
    supervisor = start(running("os.closerange(0, 3)\nreturn list(mini_batch)"))
    assert supervisor.rows(supervisor.run("/in/a")) == ["/in/a"]
    assert supervisor.rows(supervisor.run("/in/b")) == ["/in/b"]


def test_programs_that_run_starts_do_not_get_the_channel(start):
    body = "import subprocess\nlisting = subprocess.run(['ls', '/proc/self/fd'], capture_output=True, close_fds=False)"
    supervisor = start(running(f"{body}\nreturn [max(map(int, listing.stdout.split())) < 64]"))
    assert supervisor.rows(supervisor.run("/in/a")) == ["True"]


def test_the_script_may_spawn_processes_of_its_own(start):
    script = (
        "import multiprocessing\n"
        "from azureml_user.parallel_run import EntryScript\n"
        "def size(path): return len(path)\n"
        "def run(mini_batch):\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        return pool.map(size, mini_batch)\n"
    )
    supervisor = start(script)
    assert supervisor.rows(supervisor.run("/in/abc")) == ["7"]


def test_modules_of_the_script_may_have_the_names_of_ours(start, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "readers.py").write_text("owner = 'user'")
    supervisor = start("import readers\ndef run(mini_batch): return [readers.owner]")
    assert supervisor.rows(supervisor.run("/in/a")) == ["user"]


def test_our_folder_is_not_where_the_script_imports_from(start):
    supervisor = start(running("return [sys.path]"))
    assert str(PROCESS.parent) not in supervisor.rows(supervisor.run("/in/a"))[0]


def test_the_scripts_loggers_write_to_stderr_and_to_its_log(start):
    script = (
        "import logging, warnings\n"
        "from entry_script import EntryScript\n"
        "def init():\n"
        "    logging.getLogger('mine').info('model loaded')\n"
        "    logging.getLogger('mine').debug('never')\n"
        "    warnings.warn('old model')\n"
        "    EntryScript().logger.info('in the file')\n"
        "def run(mini_batch): return mini_batch\n"
    )
    supervisor = start(script)
    stderr = supervisor.text("stderr")
    assert "INFO mine: model loaded" in stderr
    assert "old model" in stderr
    assert "never" not in stderr
    assert "in the file" in (supervisor.logs / "process000.log.txt").read_text()


def test_a_dead_process_ends_the_channel(start):
    supervisor = start("dies.py")
    assert supervisor.run("/in/a")["done"][1] == 1
    assert supervisor.run("/in/deadly") is None
    assert supervisor.process.wait(DEADLINE_S) == -9


def test_times_are_those_of_the_try(start):
    supervisor = start("slow.py", argv=["--seconds", "0.2"])
    *_, run_s, cpu_s = supervisor.run("/in/a")["done"]
    assert 0.2 <= run_s < 5
    assert cpu_s < 0.2
