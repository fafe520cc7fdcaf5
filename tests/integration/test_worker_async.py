"""Entry scripts whose run() is an async def, seen from the supervisor's end of the channel."""

import os
import pstats

import pandas as pd
import pytest

from tests.worker_process import DEADLINE_S, PROCESS, TABLE, worker_processes

GATES = """
import asyncio, contextvars, os
from entry_script import EntryScript
gates = {}
def gate(path):
    return gates.setdefault(path, asyncio.Event())
"""
"""Mini-batches wait at the gate of their first item, or open that of the second one."""

MEETING = (
    GATES
    + """
async def run(mini_batch):
    if mini_batch[0] == 'open':
        gate(mini_batch[1]).set()
    else:
        await gate(mini_batch[0]).wait()
    return mini_batch
"""
)


@pytest.fixture
def start(tmp_path):
    with worker_processes(tmp_path) as start_process:
        yield start_process


def running(body):
    """An asynchronous script whose run() has this body."""
    return "import asyncio, os, sys\nasync def run(mini_batch):\n    " + body.replace("\n", "\n    ")


def order(index, *paths, try_number=1):
    return [index, try_number, "files", len(paths), None, list(paths)]


def test_a_process_that_is_ready_says_how_many_mini_batches_it_works_on_at_once(start):
    assert start(running("return mini_batch"), is_ready=False, concurrency=3).receive()["ready"]["concurrency"] == 3


def test_a_process_whose_run_is_not_asynchronous_works_on_one_at_a_time(start):
    assert start("echo.py", is_ready=False, concurrency=3).receive()["ready"]["concurrency"] == 1


@pytest.mark.parametrize("parameters", ["mini_batch", "mini_batch, mini_batch_context"])
def test_run_may_be_asynchronous(start, parameters):
    supervisor = start(f"async def run({parameters}): return mini_batch")
    assert supervisor.rows(supervisor.run("/in/a")) == ["/in/a"]


def test_mini_batches_are_worked_on_at_once_and_answered_as_they_are_done(start):
    supervisor = start(MEETING, concurrency=3)
    supervisor.hand_out(order(0, "a"), order(1, "b"), order(2, "open", "b"))
    assert {supervisor.receive()["done"][0] for _ in range(2)} == {1, 2}
    supervisor.hand_out(order(3, "open", "a"))
    assert {supervisor.receive()["done"][0] for _ in range(2)} == {0, 3}


def test_the_rows_of_each_mini_batch_stand_together(start):
    body = "await asyncio.sleep(0)\nreturn [f'{path} {number}' for number in range(50) for path in mini_batch]"
    supervisor = start(running(body), concurrency=20)
    supervisor.hand_out(*(order(index, f"file{index}") for index in range(20)))
    answers = [answer for answer in (supervisor.receive() for _ in range(21)) if "done" in answer]
    for answer in answers:
        assert supervisor.rows(answer) == [f"file{answer['done'][0]} {number}" for number in range(50)]


def test_one_at_a_time_means_in_order_and_never_two_at_once(start):
    body = "global busy\nfound, busy = busy, True\nawait asyncio.sleep(0.001)\nbusy = False\nreturn [found]"
    supervisor = start("busy = False\n" + running(body), concurrency=1)
    supervisor.hand_out(*(order(index, "/in/a") for index in range(20)))
    answers = [supervisor.receive() for _ in range(20)]
    assert [answer["done"][0] for answer in answers] == list(range(20))
    assert {row for answer in answers for row in supervisor.rows(answer)} == {"False"}


def test_init_run_and_shutdown_share_an_event_loop(start):
    script = GATES + (
        "async def init():\n    global loop\n    loop = asyncio.get_running_loop()\n"
        "async def run(mini_batch): return [asyncio.get_running_loop() is loop]\n"
        "async def shutdown():\n"
        "    open(EntryScript().output_dir + '/end', 'w').write(str(asyncio.get_running_loop() is loop))"
    )
    supervisor = start(script, concurrency=2)
    assert supervisor.rows(supervisor.run("/in/a")) == ["True"]
    assert supervisor.close() == 0
    assert (supervisor.output_dir / "end").read_text() == "True"


def test_what_a_synchronous_init_makes_belongs_to_the_loop(start):
    script = "import asyncio\ndef init():\n    global lock\n    lock = asyncio.Lock()\n" + running(
        "async with lock: await asyncio.sleep(0.01)\nreturn mini_batch"
    )
    supervisor = start(script, concurrency=3)
    supervisor.hand_out(*(order(index, "/in/a") for index in range(3)))
    assert sorted(supervisor.receive()["done"][0] for _ in range(3)) == [0, 1, 2]


def test_a_failing_asynchronous_init_is_told(start):
    supervisor = start("async def init(): 1 / 0\nasync def run(mini_batch): pass", is_ready=False, concurrency=2)
    failed = supervisor.receive()["failed"]
    assert (failed["stage"], failed["error"]) == ("init", "ZeroDivisionError: division by zero")
    assert str(PROCESS.parent) not in failed["traceback"]


def test_context_variables_are_those_of_each_mini_batch(start):
    script = GATES + (
        "name = contextvars.ContextVar('name', default='none')\n"
        "async def run(mini_batch):\n"
        "    before = name.get()\n    name.set(mini_batch[0])\n"
        "    await asyncio.sleep(0.01)\n    return [f'{before} {name.get()}']"
    )
    supervisor = start(script, concurrency=2)
    supervisor.hand_out(order(0, "a"), order(1, "b"))
    assert {supervisor.rows(supervisor.receive())[0] for _ in range(2)} == {"none a", "none b"}


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError",
        "sys.exit(42)",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise asyncio.CancelledError",
        "async def child(): sys.exit(42)\nawait asyncio.gather(child())",
        "async def child(): raise KeyboardInterrupt\nawait asyncio.create_task(child())",
    ],
)
def test_whatever_run_raises_the_process_goes_on(start, body, concurrency):
    supervisor = start(running(f"if mini_batch == ['/in/b']: return ['b']\n{body}"), concurrency=concurrency)
    assert supervisor.run("/in/a")["try_failed"]["status"] == "RUN_EXCEPTION"
    assert supervisor.rows(supervisor.run("/in/b")) == ["b"]


def test_a_result_without_elements_is_a_failed_try(start):
    assert start(running("return 3"), concurrency=2).run("/in/a")["try_failed"]["status"] == "RUN_BAD_RESULT"


def test_an_exception_may_say_when_to_try_again(start):
    script = "from airflow_prs.entry_script import RetryAfter\n" + running("raise RetryAfter(3)")
    assert start(script, concurrency=2).run("/in/a")["try_failed"]["retry"] == {"after_s": 3}


def test_a_mini_batch_that_is_cancelled_has_timed_out_where_it_hung(start):
    supervisor = start(MEETING, concurrency=2)
    supervisor.hand_out(order(0, "a"), order(1, "open", "x"))
    assert supervisor.receive()["done"][0] == 1
    supervisor.cancel(0, "run() did not return within 5 seconds")
    failed = supervisor.receive()["try_failed"]
    assert (failed["index"], failed["status"]) == (0, "RUN_TIMEOUT")
    assert failed["error"] == "run() did not return within 5 seconds"
    assert "await gate(mini_batch[0]).wait()" in failed["traceback"]
    assert str(PROCESS.parent) not in failed["traceback"]
    assert supervisor.run("open", "b", index=2)["done"][0] == 2


def test_a_mini_batch_that_is_cancelled_at_once_is_answered(start):
    supervisor = start(MEETING, concurrency=2)
    supervisor.hand_out(order(0, "a"))
    supervisor.cancel(0)
    assert supervisor.receive()["try_failed"]["status"] == "RUN_TIMEOUT"


@pytest.mark.parametrize("reaction", ["return mini_batch", "raise ValueError('broken off')"])
def test_whatever_a_script_makes_of_its_cancellation_it_has_timed_out(start, reaction):
    body = f"try:\n    await asyncio.sleep(60)\nexcept asyncio.CancelledError:\n    {reaction}"
    supervisor = start(running(body), concurrency=2)
    supervisor.hand_out(order(0, "a"))
    supervisor.cancel(0, "too long")
    failed = supervisor.receive()["try_failed"]
    assert (failed["status"], failed["error"]) == ("RUN_TIMEOUT", "too long")


def test_a_cancellation_that_comes_too_late_is_no_harm(start):
    supervisor = start(running("return mini_batch"), concurrency=2)
    supervisor.run("/in/a", index=0)
    supervisor.cancel(0)
    assert supervisor.run("/in/b", index=1)["done"][0] == 1


def test_what_is_in_work_is_answered_before_shutdown(start):
    script = "async def shutdown(): print('shutdown')\n" + running("await asyncio.sleep(0.2)\nreturn mini_batch")
    supervisor = start(script, concurrency=2)
    supervisor.hand_out(order(0, "a"))
    supervisor.send_close()
    assert supervisor.receive()["done"][0] == 0
    assert supervisor.wait() == 0
    assert supervisor.text("stdout") == "shutdown\n"


def test_without_a_supervisor_the_process_ends_though_it_is_at_work(start):
    supervisor = start(running("await asyncio.sleep(60)"), concurrency=2)
    supervisor.hand_out(order(0, "a"))
    supervisor.hang_up()
    assert supervisor.process.wait(DEADLINE_S) in {0, 1}


def test_tasks_that_the_script_leaves_behind_are_ended(start):
    body = "async def rest():\n    try:\n        await asyncio.sleep(60)\n    finally:\n        print('ended')\n"
    body += "global task\ntask = asyncio.create_task(rest())\nawait asyncio.sleep(0)\nreturn mini_batch"
    supervisor = start(running(body), concurrency=2)
    supervisor.run("/in/a")
    assert supervisor.close() == 0
    assert supervisor.text("stdout") == "ended\n"


def test_a_copy_of_the_process_that_comes_back_from_run_ends_at_once(start):
    supervisor = start(running("child = os.fork()\nif child: os.waitpid(child, 0)\nreturn [child > 0]"), concurrency=2)
    assert supervisor.rows(supervisor.run("/in/a")) == ["True"]
    assert supervisor.rows(supervisor.run("/in/b")) == ["True"]


def test_a_copy_of_the_process_that_goes_on_waiting_takes_no_work(start):
    body = "child = os.fork()\nif not child: await asyncio.sleep(60)\nreturn [child > 0]"
    supervisor = start(running(body), concurrency=2)
    supervisor.run("/in/a", index=0)
    assert [supervisor.rows(supervisor.run("/in/b", index=number)) for number in range(1, 20)] == [["True"]] * 19


def test_tables_are_loaded_while_others_are_worked_on(start, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,1\nb,2\n")
    supervisor = start(running("await asyncio.sleep(0.01)\nreturn mini_batch"), inputs=[TABLE], concurrency=8)
    supervisor.hand_out(*([index, 1, "table", 2, None, [[str(path), 0, 8, None]]] for index in range(8)))
    messages = [supervisor.receive() for _ in range(16)]
    assert {message["running"] for message in messages if "running" in message} == set(range(8))
    rows = [supervisor.rows(message) for message in messages if "done" in message]
    assert rows == [["a 1", "b 2"]] * 8


def test_parquet_files_are_read_by_several_threads(start, tmp_path):
    path = tmp_path / "table.parquet"
    pd.DataFrame({"number": range(100)}).to_parquet(path, row_group_size=10)
    parquet = {**TABLE, "kind": "parquet", "options": {}}
    supervisor = start(running("return mini_batch['number'].tolist()"), inputs=[parquet], concurrency=100)
    supervisor.hand_out(*([n, 1, "table", 1, None, [[str(path), n % 10, n % 10 + 1, n // 10]]] for n in range(100)))
    done = [message for message in (supervisor.receive() for _ in range(200)) if "done" in message]
    assert {message["done"][0]: supervisor.rows(message) for message in done} == {n: [str(n)] for n in range(100)}


def test_a_table_that_cannot_be_read_is_a_failed_try(start, tmp_path):
    supervisor = start(running("return mini_batch"), inputs=[TABLE], concurrency=2)
    supervisor.hand_out([9, 1, "table", 2, None, [[str(tmp_path / "gone.csv"), 0, 8, None]]])
    failed = supervisor.receive()["try_failed"]
    assert failed["status"] == "LOAD_EXCEPTION"
    assert "gone.csv (bytes 0 to 8): FileNotFoundError" in failed["error"]


def test_a_table_that_takes_too_long_to_load_is_given_up(start, tmp_path):
    pipe = tmp_path / "a pipe that nobody writes to"
    os.mkfifo(pipe)
    supervisor = start(running("return mini_batch"), inputs=[TABLE], concurrency=2)
    supervisor.hand_out([9, 1, "table", 2, None, [[str(pipe), 0, 8, None]]])
    supervisor.cancel(9, "the mini-batch was not loaded within 1 seconds")
    failed = supervisor.receive()["try_failed"]
    assert (failed["index"], failed["status"]) == (9, "LOAD_TIMEOUT")


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("module", ["cProfile", "profile"])
def test_a_profile_has_what_run_does_and_what_it_starts(start, tmp_path, module, concurrency):
    path = tmp_path / "process000.prof"
    script = (
        "def work(path): return path\nasync def child(path):\n    await asyncio.sleep(0.01)\n    return work(path)\n"
    )
    body = "await asyncio.sleep(0.01)\nreturn await asyncio.gather(*map(child, mini_batch))"
    supervisor = start(script + running(body), concurrency=concurrency, profile={"module": module, "path": str(path)})
    supervisor.hand_out(order(0, "a", "b"), order(1, "c"))
    assert {supervisor.receive()["done"][0] for _ in range(2)} == {0, 1}
    assert supervisor.close() == 0
    stats = pstats.Stats(str(path)).stats
    calls = {name: calls for (file, _, name), (_, calls, *_) in stats.items() if file.endswith("score.py")}
    assert calls["work"] == 3
    assert calls["run"] >= 2


def test_the_scripts_own_log_goes_to_the_supervisor(start):
    script = "from entry_script import EntryScript\n" + running("EntryScript().logger.info('hello')\nreturn mini_batch")
    supervisor = start(script, concurrency=2)
    supervisor.run("/in/a")
    supervisor.close()
    assert supervisor.log.endswith("INFO hello\n")


def test_what_is_told_while_rows_wait_for_the_layout_is_done_afterwards(start):
    body = "if mini_batch[0] == 'slow': await asyncio.sleep(60)\nreturn pd.DataFrame({'item': mini_batch})"
    csv = {"format": "csv", "to_csv": None}
    supervisor = start("import pandas as pd\n" + running(body), concurrency=3, rows_format=csv)
    supervisor.hand_out(order(0, "slow"), order(1, "a"))
    question = supervisor.receive()
    supervisor.hand_out(order(2, "b"))
    supervisor.cancel(0)
    supervisor.send_close()
    supervisor.answer(question, *question["layout"][1:])
    answers = [supervisor.receive() for _ in range(3)]
    assert {answer["try_failed"]["status"] for answer in answers if "try_failed" in answer} == {"RUN_TIMEOUT"}
    assert sorted(supervisor.rows(answer) for answer in answers if "done" in answer) == [["a"], ["b"]]
    assert supervisor.wait() == 0
