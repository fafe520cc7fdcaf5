"""A node with real worker processes: what a user's script may do to it, what is counted, and that it goes on."""

from __future__ import annotations

import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from airflow_prs.errors import EntryScriptError, EnvironmentBrokenError, NodeError, RunAbortedError, SupersededError
from airflow_prs.records import InputKind, TryStatus
from tests.shards import Tries, make_plan, read_outcomes, read_rows, read_tries

RUNS = """
import ctypes, os, signal, subprocess, sys, threading, time

def run(mini_batch, context):
    if "item-4" in mini_batch:
        misbehave(context)
    return mini_batch

def misbehave(context):
"""


def misbehaving(body: str) -> str:
    return RUNS + textwrap.indent(body, "    ")


class OddError(Exception):
    """Only its name is used, in a script."""


FAILURES = {
    "exception": ("raise ValueError('bad pixel')", TryStatus.RUN_EXCEPTION, "ValueError: bad pixel"),
    "sys_exit": ("sys.exit(42)", TryStatus.RUN_EXCEPTION, "SystemExit: 42"),
    "keyboard_interrupt": ("raise KeyboardInterrupt", TryStatus.RUN_EXCEPTION, "KeyboardInterrupt"),
    "recursion": ("misbehave(context)", TryStatus.RUN_EXCEPTION, "RecursionError"),
    "os_exit": ("os._exit(3)", TryStatus.PROCESS_DIED, "exited with code 3"),
    "segfault": ("ctypes.string_at(0)", TryStatus.PROCESS_DIED, "SIGSEGV"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", TryStatus.PROCESS_DIED, "SIGKILL"),
    "sleeps": ("time.sleep(60)", TryStatus.RUN_TIMEOUT, "run_invocation_timeout"),
    "spins_in_c": ("b'a'.join([b''] * 0); sum(range(10**12))", TryStatus.RUN_TIMEOUT, "run_invocation_timeout"),
    "ignores_sigterm": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
        TryStatus.RUN_TIMEOUT,
        "run_invocation_timeout",
    ),
    "blocks_in_io": ("os.mkfifo('pipe'); open('pipe')", TryStatus.RUN_TIMEOUT, "run_invocation_timeout"),
    "stops_its_parent": (
        "os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)",
        TryStatus.RUN_TIMEOUT,
        "run_invocation_timeout",
    ),
    "kills_its_parent": ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)", TryStatus.PROCESS_DIED, "guard"),
}

HARMLESS = {
    "closes_descriptors": "[os.close(n) for n in (0, 1, 2)]",
    "changes_directory": "os.chdir('/')",
    "starts_threads": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "starts_subprocess": "subprocess.Popen(['sleep', '60'])",
    "starts_daemon": "subprocess.Popen(['setsid', 'sleep', '60'], start_new_session=True)",
    "floods_stdout": "print('x' * 50_000_000)",
    "prints_no_utf8": "sys.stdout.buffer.write(bytes(range(256)))",
    "replaces_handlers": "[signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]",
    "forks": "os.fork()",
}


SHORT_OF_MEMORY = SimpleNamespace(total=1000 * 2**20, available=20 * 2**20)


OTHERS = set()
"""Descendants that this process had before the test, such as servers of object storage."""


@pytest.fixture(autouse=True)
def _note_others():
    OTHERS.clear()
    OTHERS.update(psutil.Process().children(recursive=True))


def no_descendants() -> bool:
    """Whether this process has no child of the test left; the threads of a node end with it."""
    return set(psutil.Process().children(recursive=True)) <= OTHERS


@pytest.mark.parametrize("name", FAILURES)
def test_a_try_that_fails_is_counted_and_the_node_goes_on(tmp_path, name):
    body, status, text = FAILURES[name]
    folder = make_plan(tmp_path, misbehaving(body), run_max_try=2, run_invocation_timeout=1)

    summary = Tries(folder).run()

    assert (summary["succeeded"], summary["failed"], summary["items_failed"]) == (5, 1, 2)
    tries = read_tries(folder)
    assert [(t.index, t.try_number, t.final, t.status) for t in tries] == [(2, 1, False, status), (2, 2, True, status)]
    assert all(text in t.error for t in tries)
    assert read_rows(folder) == [f"item-{n}" for n in (0, 1, 2, 3, 6, 7, 8, 9, 10, 11)]
    assert no_descendants()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_run_does_beside_its_work_harms_nobody(tmp_path, name):
    folder = make_plan(tmp_path, misbehaving(HARMLESS[name]))

    assert Tries(folder).run()["succeeded"] == 6

    assert read_rows(folder) == [f"item-{n}" for n in range(12)]
    assert no_descendants()


def test_the_traceback_starts_and_ends_in_the_users_code(tmp_path):
    folder = make_plan(tmp_path, misbehaving("raise ValueError('bad pixel')"), run_max_try=1)

    Tries(folder).run()

    (failed,) = read_tries(folder)
    files = [line.split('"')[1] for line in failed.traceback.splitlines() if line.startswith('  File "')]
    assert {Path(file).name for file in files} == {"script.py"}
    assert failed.items == ("item-4", "item-5")
    assert (folder.path / failed.log).parent.name == failed.node


def test_a_process_that_is_killed_while_memory_is_short_is_said_to_lack_it(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SHORT_OF_MEMORY)
    folder = make_plan(tmp_path, misbehaving(FAILURES["killed"][0]), run_max_try=1)

    Tries(folder).run()

    (failed,) = read_tries(folder)
    assert "SIGKILL; memory was short (20 of 1000 MiB available)" in failed.error


def test_elements_need_not_be_picklable(tmp_path):
    folder = make_plan(tmp_path, "def run(mini_batch): return [lambda: 0 for _ in mini_batch]\n", mini_batches=1)

    assert Tries(folder).run()["succeeded"] == 1

    assert all(row.startswith("<function run.") for row in read_rows(folder))


@pytest.mark.slow
def test_a_flood_of_gigabytes_is_kept_within_limits(tmp_path):
    body = "for _ in range(40): sys.stdout.write('x' * 50_000_000 + chr(10))"
    folder = make_plan(tmp_path, misbehaving(body), run_invocation_timeout=300)

    assert Tries(folder).run()["succeeded"] == 6

    logs = sum(file.stat().st_size for file in folder.names.logs.rglob("*") if file.is_file())
    assert logs < 2 * 2 * 110 * 2**20


def test_an_exception_that_cannot_be_shown_is_a_failed_try(tmp_path):
    body = "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd"
    folder = make_plan(tmp_path, misbehaving(body), run_max_try=1)

    assert Tries(folder).run()["failed"] == 1


@pytest.mark.parametrize("returned", ["None", "'text'", "42", "{'a': 1}", "b'bytes'"])
def test_a_result_that_is_no_list_of_elements_is_a_failed_try(tmp_path, returned):
    folder = make_plan(tmp_path, f"def run(mini_batch):\n    return {returned}\n", mini_batches=1, run_max_try=1)

    Tries(folder).run()

    (failed,) = read_tries(folder)
    assert failed.status is TryStatus.RUN_BAD_RESULT
    assert "run() returned" in failed.error


def test_a_failed_try_that_is_mended_leaves_no_trace_in_the_counts(tmp_path):
    script = "def run(mini_batch, context):\n    if context.try_number == 1: raise OSError\n    return mini_batch\n"
    folder = make_plan(tmp_path, script)

    assert Tries(folder).run()["failed"] == 0

    progress = folder.read_shard(folder.read_manifest().shards[0]).progress
    assert (progress.succeeded, progress.failing, progress.items_failed) == (6, 0, 0)
    assert read_rows(folder) == [f"item-{n}" for n in range(12)]


def test_missing_elements_are_failed_items_and_surplus_ones_are_kept(tmp_path):
    script = "def run(mini_batch):\n    return mini_batch[:1] if 'item-0' in mini_batch else mini_batch + ['extra']\n"
    folder = make_plan(tmp_path, script, mini_batches=2)

    Tries(folder).run()

    progress = folder.read_shard(folder.read_manifest().shards[0]).progress
    assert (progress.items_succeeded, progress.items_failed, progress.elements) == (3, 1, 4)
    assert read_rows(folder) == ["item-0", "item-2", "item-3", "extra"]


def test_only_the_mini_batch_in_run_is_charged_when_a_process_dies(tmp_path):
    script = "import os\ndef run(mini_batch):\n    if 'item-300' in mini_batch: os._exit(1)\n    return mini_batch\n"
    folder = make_plan(tmp_path, script, mini_batches=600, run_max_try=3)

    summary = Tries(folder).run()

    assert summary["failed"] == 1
    tries = read_tries(folder)
    assert [(t.index, t.try_number) for t in tries] == [(150, 1), (150, 2), (150, 3)]
    progress = folder.read_shard(folder.read_manifest().shards[0]).progress
    assert progress.handed_out == progress.total == 600


def test_of_many_short_mini_batches_those_that_end_their_process_are_charged_and_no_others(tmp_path):
    killers = {"item-150", "item-151", "item-400"}
    script = f"""
import os
def run(mini_batch):
    if mini_batch[0] in {killers}:
        os._exit(3)
    return mini_batch
"""
    folder = make_plan(tmp_path, script, mini_batches=600, items=1, run_max_try=1)
    Tries(folder).run()

    outcomes = read_outcomes(folder)
    charged = {f"item-{outcome['index']}" for outcome in outcomes if outcome["status"] == TryStatus.PROCESS_DIED}
    assert charged == killers
    assert set(outcomes["tries"]) == {1}
    assert read_rows(folder) == [name for name in map("item-{}".format, range(600)) if name not in killers]


def test_init_runs_once_in_each_process_and_shutdown_at_its_end(tmp_path):
    script = f"""
        import os
        def note(what):
            with open({str(tmp_path / "notes")!r}, "a") as file: print(os.getpid(), what, file=file)
        def init(): note("init")
        def run(mini_batch): note("run"); return mini_batch
        def shutdown(): note("shutdown")
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=20)

    Tries(folder).run()

    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    lives = [[what for pid, what in notes if pid == process] for process in {pid for pid, _ in notes}]
    # A process that is still in init() when another one has done everything is not waited for.
    assert [life for life in lives if life != ["init"]]
    for life in lives:
        assert life == ["init"] or (life[0], set(life[1:-1]), life[-1]) in (
            ("init", {"run"}, "shutdown"),
            ("init", set(), "shutdown"),
        )


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("threading.Thread(target=hang, name='it').start()", "thread it (hang() in source/script.py, line 2) had not"),
        ("atexit.register(hang)", "hang() in source/script.py, line 2, registered with atexit, had not ended"),
        ("subprocess.Popen(['sleep', '600']); os.fork() or hang()", ""),
        ("libc.__cxa_atexit(libc.pause, 0, 0)", "it had not ended 0.3 seconds after its work was done"),
    ],
)
def test_what_a_script_leaves_running_holds_no_node_up_and_is_named(tmp_path, caplog, monkeypatch, left, words):
    if "work was done" in words:
        monkeypatch.setattr("airflow_prs.node.processes.slot._EXIT_GRACE_S", 0)
    script = f"""
        import atexit, ctypes, os, subprocess, threading, time
        def hang(): time.sleep(600)
        libc = ctypes.CDLL(None)
        {left}
        def run(mini_batch): return mini_batch
    """
    caplog.set_level("INFO")
    folder = make_plan(tmp_path, textwrap.dedent(script)[1:], mini_batches=1, exit_timeout_s=0.3)

    assert Tries(folder).run()["succeeded"] == 1

    said = [line for line in caplog.messages if line.startswith("process0")]
    assert [words in line for line in said] == [True] * bool(words)
    assert "shutdown" not in caplog.text
    assert no_descendants()


def test_a_thread_of_a_script_whose_init_fails_holds_no_node_up(tmp_path):
    script = """
        import threading, time
        def init():
            threading.Thread(target=time.sleep, args=(600,)).start()
            raise OSError("no model here")
        def run(mini_batch): return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), process_count_per_node=1, exit_timeout_s=0.2)

    with pytest.raises(NodeError, match=r"failed 3 times .*no model here"):
        Tries(folder).run()
    assert no_descendants()


def test_init_that_fails_once_is_tried_in_another_process(tmp_path):
    script = f"""
        import pathlib
        def init():
            marker = pathlib.Path({str(tmp_path / "marker")!r})
            if not marker.exists():
                marker.touch()
                raise OSError("the model server is not up yet")
        def run(mini_batch): return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), process_count_per_node=1)

    assert Tries(folder).run()["succeeded"] == 6


FAILED_6_TIMES = r"(?s)^init\(\) of script.py failed 6 times on this node, .*no model here\. .*\n\nTraceback.*no model"


def test_init_that_always_fails_ends_the_node_with_the_users_traceback(tmp_path):
    script = "def init():\n    raise OSError('no model here')\ndef run(mini_batch): return mini_batch\n"
    folder = make_plan(tmp_path, script)

    with pytest.raises(NodeError, match=FAILED_6_TIMES) as ended:
        Tries(folder).run()
    assert "Airflow" not in str(ended.value)
    assert no_descendants()


def test_init_that_hangs_ends_the_node(tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_prs.node.processes.starting.INIT_GRACE_S", 0)
    script = "import time\ndef init(): time.sleep(60)\ndef run(mini_batch): return mini_batch\n"
    folder = make_plan(tmp_path, script, run_invocation_timeout=1)

    with pytest.raises(NodeError, match=r"init\(\) did not finish within 3 seconds.*does init\(\) of script.py wait"):
        Tries(folder).run()
    assert no_descendants()


def test_a_script_that_cannot_be_imported_ends_the_node_at_once(tmp_path):
    folder = make_plan(tmp_path, "import no_such_module\ndef run(mini_batch): return mini_batch\n")

    shown = r"(?s)^The entry script script.py cannot be used: .*No module named 'no_such_module'.*\n\nTraceback"
    with pytest.raises(EntryScriptError, match=shown):
        Tries(folder).run()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("import no_such_module", "ModuleNotFoundError.*not change that.*no_such_module is missing in .*pip install"),
        ("exec('def')", "SyntaxError: .*not change that. Correct the script"),
        ("argparse.ArgumentParser().parse_args(['--x'])", "SystemExit: 2.*error: unrecognized arguments: --x"),
        ("raise NotRetryable('no licence')", "NotRetryable: no licence"),
    ],
)
def test_init_that_cannot_succeed_ends_the_node_at_the_first_failure(tmp_path, body, error):
    script = f"""
        import argparse
        from airflow_prs.entry_script import NotRetryable
        def init():
            open({str(tmp_path / "calls")!r}, "a").write("x")
            {body}
        def run(mini_batch): return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), process_count_per_node=1)

    with pytest.raises(EntryScriptError, match=rf"(?s)^init\(\) of script.py cannot succeed: .*{error}.*\n\nTraceback"):
        Tries(folder).run()
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.parametrize("where", ["", "    "])
def test_what_one_process_could_do_is_not_hopeless_for_the_next(tmp_path, where):
    script = f"""
        import pathlib
        calls = pathlib.Path({str(tmp_path / "calls")!r})
        def init():
            pass
        {where}calls.open("a").write("x")
        {where}if calls.read_text() == "xx": raise ImportError("cannot map a segment of a shared object")
        def run(mini_batch): return mini_batch
    """
    config = {"process_count_per_node": 1, "max_mini_batches_per_process": 2}
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=6, **config)

    assert Tries(folder).run()["succeeded"] == 6
    assert (tmp_path / "calls").read_text() == "xxxx"


def test_not_retryable_in_init_counts_whatever_other_processes_could_do(tmp_path):
    script = f"""
        import pathlib
        from airflow_prs.entry_script import NotRetryable
        calls = pathlib.Path({str(tmp_path / "calls")!r})
        def init():
            calls.open("a").write("x")
            if calls.read_text() != "x": raise NotRetryable("the licence has come to its end")
        def run(mini_batch): return mini_batch
    """
    config = {"process_count_per_node": 1, "max_mini_batches_per_process": 2}
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=6, **config)

    with pytest.raises(EntryScriptError, match="licence"):
        Tries(folder).run()
    assert (tmp_path / "calls").read_text() == "xx"


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "No such file"), ("text", "Exec format"), ("plain", "Permission denied")]
)
def test_an_interpreter_that_is_not_there_ends_the_node_and_is_named(tmp_path, name, reason):
    (tmp_path / "text").touch(0o755)
    (tmp_path / "plain").touch(0o644)
    python = str(tmp_path / name)
    folder = make_plan(tmp_path, "def run(mini_batch): return mini_batch\n", environment=python)

    with pytest.raises(EnvironmentBrokenError, match=f"environment: on .*, {python} cannot be started: {reason}"):
        Tries(folder).run()
    assert no_descendants()


def test_an_interpreter_without_pandas_is_named(tmp_path, bare_python):
    script = "def run(mini_batch): return mini_batch\n"
    folder = make_plan(tmp_path, script, environment=str(bare_python), kind=InputKind.PARQUET)

    with pytest.raises(EnvironmentBrokenError, match=r"pandas"):
        Tries(folder).run()


def test_a_process_sees_its_arguments_variables_and_a_copy_of_the_code_in_its_directory(tmp_path):
    script = """
        import os, sys
        def run(mini_batch):
            here = os.getcwd()
            open("scratch", "a").close()
            return [os.environ["COLOUR"], os.path.exists("script.py"), here != os.path.dirname(__file__)]
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=1, items=3)

    Tries(folder, variables={"COLOUR": "blue"}).run()

    assert read_rows(folder) == ["blue", "True", "True"]


def test_a_script_finds_its_arguments_and_the_reserved_ones_in_one_list(tmp_path):
    script = """
        import argparse, sys
        parser = argparse.ArgumentParser()
        parser.add_argument("--model_name")
        parser.add_argument("--output")
        parser.add_argument("--process_count_per_node", type=int)
        options, _ = parser.parse_known_args()
        def run(mini_batch): return [options.model_name, options.output, options.process_count_per_node]
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=1, items=3)
    folder.write_settings(replace(folder.read_settings(), arguments=("--model_name", "mosaic")))

    Tries(folder).run()

    assert read_rows(folder) == ["mosaic", str(tmp_path / "out"), "2"]


def test_a_passed_threshold_aborts_within_two_seconds_while_run_is_busy(tmp_path):
    script = """
import time
def run(mini_batch):
    if "item-0" in mini_batch: raise ValueError("no good")
    time.sleep(60)
"""
    folder = make_plan(tmp_path, script, run_max_try=1, allowed_failed_count=0, run_invocation_timeout=100)

    began = time.monotonic()
    with pytest.raises(RunAbortedError, match=r"allowed_failed_count"):
        Tries(folder).run()

    assert time.monotonic() - began < 4
    assert no_descendants()


def test_a_shard_that_starts_after_an_abort_starts_no_process(tmp_path):
    script = f"""
        import time
        from pathlib import Path
        def init(): Path({str(tmp_path)!r}, "started").touch()
        def run(mini_batch):
            if "item-0" not in mini_batch: time.sleep(60)
            raise ValueError("no good")
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), shards=2, run_max_try=1, error_threshold=0)
    with pytest.raises(RunAbortedError):
        Tries(folder).run(shard=0)
    (tmp_path / "started").unlink()

    with pytest.raises(RunAbortedError):
        Tries(folder).run(shard=1)

    assert not (tmp_path / "started").exists()


def test_a_retry_goes_on_where_the_last_attempt_stopped(tmp_path):
    counter = tmp_path / "runs"
    script = f"""
        import os
        def run(mini_batch):
            with open({str(counter)!r}, "a") as file: print(mini_batch[0], file=file)
            return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=40)
    tries = Tries(folder)
    tries.run()

    tries.run()

    assert len(counter.read_text().splitlines()) == 40
    assert read_rows(folder) == [f"item-{n}" for n in range(80)]


def test_clearing_a_shard_gives_its_failed_mini_batches_fresh_tries(tmp_path):
    script = f"""
        from pathlib import Path
        def run(mini_batch):
            if "item-4" in mini_batch and not Path({str(tmp_path)!r}, "mended").exists(): raise ValueError("broken")
            return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), run_max_try=2)
    tries = Tries(folder)
    assert tries.run()["failed"] == 1
    (tmp_path / "mended").touch()
    assert tries.run()["failed"] == 1, "a plain retry does not reopen what failed for good"

    tries.clear()

    assert tries.run()["failed"] == 0
    assert read_rows(folder) == [f"item-{n}" for n in range(12)]


def test_an_abort_does_not_bind_a_shard_that_was_cleared_after_it(tmp_path):
    script = f"""
        import time
        from pathlib import Path
        def run(mini_batch):
            if Path({str(tmp_path)!r}, "mended").exists(): return mini_batch
            if "item-0" not in mini_batch: time.sleep(60)
            raise ValueError("broken")
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), run_max_try=1, error_threshold=0)
    tries = Tries(folder)
    with pytest.raises(RunAbortedError):
        tries.run()
    with pytest.raises(RunAbortedError):
        tries.run()
    (tmp_path / "mended").touch()

    tries.clear()

    assert tries.run()["succeeded"] == 6
    assert read_rows(folder) == [f"item-{n}" for n in range(12)]


def test_a_node_without_its_airflow_supervisor_ends_itself(tmp_path):
    folder = make_plan(tmp_path, "import time\ndef run(mini_batch): time.sleep(60)\n", run_invocation_timeout=100)
    looks = iter([False, False])

    with pytest.raises(SupersededError, match="ends itself"):
        Tries(folder, is_orphaned=lambda: next(looks, True)).run()
    assert no_descendants()
