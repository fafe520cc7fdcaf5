"""A real worker process, seen from the supervisor's end of the channel."""

import json
import pstats
import sys

import pandas as pd
import pytest

from tests.worker_process import DEADLINE_S, PROCESS, TABLE, worker_processes


@pytest.fixture
def start(tmp_path):
    with worker_processes(tmp_path) as start_process:
        yield start_process


def running(body):
    """A script whose run() has this body."""
    return "import os, sys\ndef run(mini_batch):\n    " + body.replace("\n", "\n    ")


def calls_in(path):
    """How often the script's functions were called, as a profile has it."""
    stats = pstats.Stats(str(path)).stats
    return {name: calls for (file, _, name), (_, calls, *_) in stats.items() if file.endswith("score.py")}


def test_a_process_that_is_ready_says_what_it_is(start):
    supervisor = start("echo.py", is_ready=False)
    ready = supervisor.receive()["ready"]
    assert (ready["python"], ready["pid"]) == (sys.version.split()[0], supervisor.process.pid)


def test_the_rows_of_a_mini_batch_are_written_before_it_is_done(start):
    supervisor = start("echo.py")
    done = supervisor.run("/in/a.png", "/in/b.png", index=7)
    assert done["done"][:2] == (7, 2)
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


RUN = """import asyncio, atexit, multiprocessing, os, threading, time
from concurrent.futures import ThreadPoolExecutor
def run(mini_batch): return mini_batch
"""
HANG = "def hang(): time.sleep(600)\n"
POLL = """async def poll():
    while True:
        try: await asyncio.sleep(600)
        except asyncio.CancelledError: pass
"""


@pytest.mark.parametrize(
    ("script", "holder"),
    [
        (
            "threading.Thread(target=hang, name='uploader').start()",
            "thread uploader (hang() in source/score.py, line 4) had not ended 0.2 seconds after the last mini-batch",
        ),
        (
            "def shutdown(): threading.Thread(target=hang, name='uploader').start()",
            "thread uploader (hang() in source/score.py, line 4) had not ended 0.2 seconds after shutdown() returned",
        ),
        (
            "ThreadPoolExecutor(1, 'pool').submit(hang)",
            "thread pool_0 (hang() in source/score.py, line 4) had not ended",
        ),
        ("atexit.register(hang)", "hang() in source/score.py, line 4, registered with atexit, had not ended"),
        ("atexit.register(time.sleep, 600)", "a function of a compiled library, registered with atexit, had not ended"),
        (
            "multiprocessing.get_context('spawn').Process(target=time.sleep, args=(600,), name='child').start()",
            "registered with atexit, which waits for process child (process id ",
        ),
        (
            f"{POLL}async def shutdown(): asyncio.ensure_future(poll())",
            "task poll() had not ended 0.2 seconds after shutdown() returned",
        ),
    ],
)
def test_what_the_script_has_left_does_not_hold_its_process_up_and_is_named(start, script, holder):
    supervisor = start(RUN + HANG + script + "\n", exit_s=0.2)
    supervisor.run("/in/a")
    assert supervisor.close() == 0
    assert holder in supervisor.last_words
    assert supervisor.last_words.endswith(", so the process was ended (exit_timeout_s)")
    assert "shutdown()" not in supervisor.last_words or "def shutdown" in script


def test_what_the_script_has_left_gets_its_time(start):
    late = "def late():\n    time.sleep(0.3)\n    print('late')\n"
    supervisor = start(RUN + late + "atexit.register(late)\nthreading.Thread(target=late).start()\n")
    assert supervisor.close() == 0
    assert (supervisor.text("stdout"), supervisor.last_words) == ("late\nlate\n", "")


def test_a_thread_does_not_hold_up_a_process_whose_init_failed(start):
    script = RUN + HANG + "def init():\n    threading.Thread(target=hang).start()\n    raise ValueError('no model')\n"
    supervisor = start(script, is_ready=False, exit_s=0.2)
    assert supervisor.receive()["failed"]["error"] == "ValueError: no model"
    assert "had not ended 0.2 seconds after init failed" in supervisor.receive()["note"]
    assert supervisor.wait() == 0


@pytest.mark.parametrize("function", ["init()", "run(mini_batch)"])
def test_a_script_that_closes_what_its_process_needs_is_told_so(start, function):
    script = f"{HANG}{RUN}def {function}: os.closerange(3, 256)\n"
    supervisor = start(script, is_ready=False)
    if supervisor.receive() is not None:
        supervisor.hand_out([0, 1, "files", 1, None, ["/in/a"]])
    assert supervisor.wait() == 1
    (line,) = supervisor.text("stderr").splitlines()
    assert line.startswith("The entry script has closed a file descriptor of its worker process")


def test_why_init_failed_is_told_before_the_process_is_ended_however_short_its_time_is(start):
    slow = "class Slow(Exception):\n    def __str__(self):\n        time.sleep(0.1)\n        return 'no model'\n"
    supervisor = start(RUN + HANG + slow + "def init(): raise Slow\n", is_ready=False, exit_s=0)
    assert supervisor.receive()["failed"]["error"] == "Slow: no model"
    supervisor.wait()


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
    assert supervisor.run("/in/a", "/in/b")["done"][1:5] == (2, 0, 0, 0)
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
        "from azureml.core import Model\n"
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


LOGGING = """
import logging, os, warnings
from entry_script import EntryScript
log = EntryScript().logger
def init():
    logging.getLogger('mine').info('model loaded')
    logging.getLogger('mine').debug('never')
    warnings.warn('old model')
    log.info('from init')
def run(mini_batch):
    for path in mini_batch: log.info('scoring %s', path)
    return mini_batch
def shutdown():
    log.info('from shutdown')
"""


def test_the_scripts_loggers_write_to_stderr(start):
    stderr = start(LOGGING).text("stderr")
    assert "INFO mine: model loaded" in stderr
    assert "INFO EntryScript: from init" in stderr
    assert "old model" in stderr
    assert "never" not in stderr


def test_the_scripts_own_log_goes_to_the_supervisor_whole_and_in_order(start):
    supervisor = start(LOGGING)
    supervisor.run(*map(str, range(5000)))
    assert supervisor.close() == 0
    messages = [line.split("INFO ")[1] for line in supervisor.log.splitlines()]
    assert messages == ["from init", *(f"scoring {number}" for number in range(5000)), "from shutdown"]


def test_the_log_of_a_process_that_fails_at_its_start_is_not_lost(start):
    supervisor = start(
        LOGGING.replace("log.info('from init')", "log.info('one'); log.info('two'); 1 / 0"), is_ready=False
    )
    assert supervisor.wait() == 1
    assert [line[-3:] for line in supervisor.log.splitlines()] == ["one", "two"]


def test_lines_that_nothing_follows_are_sent_without_waiting_for_the_end(start):
    supervisor = start(LOGGING)
    supervisor.run("/in/a", "/in/b")
    while "scoring /in/b" not in supervisor.log:
        supervisor.receive_log()


def test_a_copy_of_the_process_does_not_write_into_the_channel(start):
    body = (
        "child = os.fork()\nif not child: log.info('child'); log.handlers[0].flush(); os._exit(0)\nos.waitpid(child, 0)"
    )
    script = "from entry_script import EntryScript\nlog = EntryScript().logger\n" + running(body + "\nreturn [1]")
    supervisor = start(script)
    assert supervisor.run("/in/a")["done"][1] == 1
    supervisor.close()
    assert supervisor.log == ""
    assert "INFO EntryScript: child" in supervisor.text("stderr")


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


RETRY = "from airflow_prs.entry_script import NotRetryable, RetryAfter\n"


@pytest.mark.parametrize(
    ("raising", "wish"),
    [
        ("raise NotRetryable('no such user')", {"never": True}),
        ("raise NotRetryable('no such user') from ValueError()", {"never": True}),
        ("class Gone(NotRetryable): pass\nraise Gone", {"never": True}),
        ("raise RetryAfter(12.5)", {"after_s": 12.5}),
        ("raise RetryAfter(12, 'too many requests')", {"after_s": 12}),
        ("class Busy(RetryAfter):\n    def __init__(self): super().__init__(3)\nraise Busy", {"after_s": 3}),
        ("class Busy(RetryAfter):\n    def __init__(self): pass\nraise Busy", None),
        ("raise ValueError from NotRetryable()", None),
        ("raise RetryAfter(-1)", None),
    ],
)
def test_an_exception_may_say_whether_to_try_again(start, raising, wish):
    failed = start(RETRY + running(raising)).run("/in/a")["try_failed"]
    assert failed["status"] == "RUN_EXCEPTION"
    assert failed.get("retry") == wish


def test_an_exception_that_says_when_to_try_again_is_told_in_words(start):
    supervisor = start(RETRY + running("raise RetryAfter(2, 'busy') if mini_batch == ['/in/b'] else RetryAfter(1.5)"))
    assert supervisor.run("/in/a")["try_failed"]["error"] == "RetryAfter: try again after 1.5 seconds"
    assert supervisor.run("/in/b")["try_failed"]["error"] == "RetryAfter: busy"


@pytest.mark.parametrize("module", ["cProfile", "profile"])
def test_a_profile_of_all_calls_of_run_is_written_at_the_end(start, tmp_path, module):
    path = tmp_path / "profiles" / "process000.prof"
    script = "def load(path):\n    if path == '/in/bad': raise ValueError\n    return path\n" + running(
        "return map(load, mini_batch)"
    )
    supervisor = start(script, profile={"module": module, "path": str(path)})
    supervisor.run("/in/a", "/in/b")
    supervisor.run("/in/bad")
    assert supervisor.rows(supervisor.run("/in/c")) == ["/in/c"]
    assert supervisor.close() == 0
    assert calls_in(path) == {"run": 3, "load": 4}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_profile_that_cannot_be_written_fails_nothing(start, tmp_path):
    (tmp_path / "file").write_text("")
    supervisor = start("echo.py", profile={"module": "cProfile", "path": str(tmp_path / "file" / "x.prof")})
    assert supervisor.rows(supervisor.run("/in/a")) == ["a"]
    assert supervisor.close() == 0
    assert "cannot be written" in supervisor.text("stderr")


def test_a_mini_batch_without_input_is_an_empty_list(start):
    script = "def run(mini_batch, mini_batch_context):\n    return [[mini_batch, mini_batch_context.minibatch_index]]"
    supervisor = start(script)
    assert supervisor.rows(supervisor.run(index=4, items=1)) == ["[[], 4]"]


def test_a_cancellation_that_comes_too_late_is_no_harm(start):
    supervisor = start("echo.py")
    supervisor.run("/in/a", index=0)
    supervisor.cancel(0)
    assert supervisor.run("/in/b", index=1)["done"][0] == 1


def test_init_and_shutdown_may_be_asynchronous_where_run_is_not(start):
    script = (
        "import asyncio, os\nfrom entry_script import EntryScript\n"
        "async def init():\n    global loop\n    await asyncio.sleep(0)\n    loop = asyncio.get_running_loop()\n"
        "def run(mini_batch): return mini_batch\n"
        "async def shutdown():\n"
        "    open(EntryScript().output_dir + '/end', 'w').write(str(asyncio.get_running_loop() is loop))"
    )
    supervisor = start(script)
    assert supervisor.rows(supervisor.run("/in/a")) == ["/in/a"]
    assert supervisor.close() == 0
    assert (supervisor.output_dir / "end").read_text() == "True"


def test_scripts_that_are_not_asynchronous_do_not_wait_for_asyncio(start):
    supervisor = start(running("return ['asyncio' in sys.modules]"))
    assert supervisor.rows(supervisor.run("/in/a")) == ["False"]


CSV = {"format": "csv", "to_csv": None}
AS_FRAME = "import pandas as pd\n" + running("return pd.DataFrame({'item': mini_batch})")


def order(index, *paths):
    return [index, 1, "files", len(paths), None, list(paths)]


def test_rows_that_do_not_fit_the_layout_that_is_known_wait_for_an_answer(start):
    supervisor = start(AS_FRAME, rows_format=CSV)
    supervisor.hand_out(order(0, "a"))
    question = supervisor.receive()
    number, content = question["layout"][1:]
    assert (number, json.loads(content)) == (0, {"columns": ["item"], "header": "item\n"})
    supervisor.hand_out(order(1, "b"))
    supervisor.answer(question, number, content)
    supervisor.hand_out(order(2, "c"))
    supervisor.send_close()
    answers = [supervisor.receive() for _ in range(3)]
    assert [supervisor.rows(answer) for answer in answers] == [["a"], ["b"], ["c"]]
    assert supervisor.wait() == 0


def test_the_layout_that_another_process_was_faster_with_counts(start):
    supervisor = start(AS_FRAME, rows_format=CSV)
    supervisor.hand_out(order(0, "a"))
    supervisor.answer(supervisor.receive(), 3, json.dumps({"columns": ["score"], "header": "score\n"}).encode())
    question = supervisor.receive()
    assert question["layout"][1:] == (4, b"")  # whether a newer one has the column
    supervisor.answer(question, 4, json.dumps({"columns": ["item"], "header": "item\n"}).encode())
    assert supervisor.rows(supervisor.receive()) == ["a"]


def test_a_process_whose_supervisor_goes_without_an_answer_ends(start):
    supervisor = start(AS_FRAME, rows_format=CSV)
    supervisor.hand_out(order(0, "a"))
    assert "layout" in supervisor.receive()
    supervisor.hang_up()
    assert supervisor.process.wait(DEADLINE_S) == 1
