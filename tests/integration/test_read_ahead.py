"""A worker process loads its next mini-batch of a table while run() works on the one before."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from airflow_prs.errors import RunAbortedError
from airflow_prs.records import InputKind, Piece, TryStatus
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.steering.orders import abort
from tests.airflow_services import wait_until
from tests.shards import Tries, make_plan, read_outcomes, read_rows, read_tries
from tests.worker_process import TABLE, worker_processes

SLOW_STORAGE = """
import builtins, os, signal, sys, time
from pathlib import Path

here = Path(HERE)
opened = builtins.open

def open_slowly(path, *arguments, **options):
    if str(path).endswith(".csv"):
        time.sleep(0.12)
    return opened(path, *arguments, **options)

builtins.open = open_slowly

def wait_for(name):
    while not (here / name).exists():
        time.sleep(0.002)

def is_loading_ahead():
    return any({"load_ahead", "open_slowly"} <= set(names_in(frame)) for frame in sys._current_frames().values())

def names_in(frame):
    return [] if frame is None else [frame.f_code.co_name, *names_in(frame.f_back)]

def wait_for_load():
    while not is_loading_ahead():
        time.sleep(0.002)
"""
"""The beginning of a script whose tables come from slow storage."""

ECHO = """
def run(mini_batch):
    return list(mini_batch["name"])
"""
WAITS_FOR_TWO = """
def run(mini_batch):
    if mini_batch["name"][0] == "item-2":
        wait_for("go")
    return list(mini_batch["name"])
"""
OPTIONS = {"separator": ",", "header": False, "encoding": "utf-8", "columns": ["name", "value"]}
ROOM = 1 << 30


@pytest.fixture
def start(tmp_path):
    with worker_processes(tmp_path) as start_process:

        def start_slow(script, **options):
            options = {"read_ahead_bytes": ROOM, "inputs": [TABLE], **options}
            return start_process(SLOW_STORAGE.replace("HERE", repr(str(tmp_path))) + script, **options)

        yield start_slow


def write_table(folder, number, text=None) -> Path:
    path = folder / f"{number}.csv"
    path.write_text(f"item-{number},{number}\n" if text is None else text)
    return path


def order(folder, number, text=None):
    return [number, 1, "table", 1, None, [[str(write_table(folder, number, text)), None, None, None]]]


def messages_until(supervisor, is_last):
    """All messages up to one, without what is told about times."""
    found = []
    while not found or not is_last(found[-1]):
        message = supervisor.receive()
        if "done" in message:
            message = {"done": message["done"].minibatch_index}
        elif "try_failed" in message:
            message = {"failed": message["try_failed"]["index"], "status": message["try_failed"]["status"]}
        found.append(message)
    return found


def start_reading_ahead(start, tmp_path, script, **options):
    """A worker process that has answered two mini-batches and reads ahead."""
    supervisor = start(script, **options)
    supervisor.hand_out(order(tmp_path, 0))
    assert messages_until(supervisor, lambda m: "ahead" in m)[-2:] == [{"done": 0}, {"ahead": 2}]
    supervisor.hand_out(order(tmp_path, 1))
    messages_until(supervisor, lambda m: m == {"done": 1})
    return supervisor


def test_the_next_mini_batch_is_loaded_while_run_works(start, tmp_path):
    supervisor = start_reading_ahead(start, tmp_path, WAITS_FOR_TWO)
    supervisor.hand_out(order(tmp_path, 2), order(tmp_path, 3), order(tmp_path, 4))
    told = messages_until(supervisor, lambda m: m == {"loaded": 3})
    assert {"loading": 3} in told
    assert {"loading": 4} not in told

    (tmp_path / "go").touch()

    answers = messages_until(supervisor, lambda m: m == {"done": 4})
    answered_before_the_next_run = [{"done": 2}, {"running": 3}]
    assert [answer for answer in answers if answer in answered_before_the_next_run] == answered_before_the_next_run
    supervisor.close()
    assert supervisor.rows_path.read_text().split() == [f"item-{number}" for number in range(5)]


def test_a_mini_batch_that_only_was_loaded_can_be_called_back(start, tmp_path):
    supervisor = start_reading_ahead(start, tmp_path, WAITS_FOR_TWO)
    supervisor.hand_out(order(tmp_path, 2), order(tmp_path, 3), order(tmp_path, 4))
    messages_until(supervisor, lambda m: m == {"loaded": 3})

    supervisor.recall()

    assert messages_until(supervisor, lambda m: "returned" in m)[-1] == {"returned": [3, 4]}
    (tmp_path / "go").touch()
    messages_until(supervisor, lambda m: m == {"done": 2})
    supervisor.hand_out(order(tmp_path, 3))
    messages_until(supervisor, lambda m: m == {"done": 3})
    assert supervisor.close() == 0


def test_a_load_that_fails_is_a_failed_try_of_its_own_mini_batch(start, tmp_path):
    supervisor = start_reading_ahead(start, tmp_path, WAITS_FOR_TWO)
    supervisor.hand_out(order(tmp_path, 2), order(tmp_path, 3, text="a,b\nc,d\n"), order(tmp_path, 4))
    messages_until(supervisor, lambda m: m == {"loaded": 3})
    (tmp_path / "go").touch()
    answers = messages_until(supervisor, lambda m: m == {"done": 4})
    in_order = [{"done": 2}, {"failed": 3, "status": "LOAD_EXCEPTION"}, {"done": 4}]
    assert [answer for answer in answers if "done" in answer or "failed" in answer] == in_order


@pytest.mark.parametrize(
    "options",
    [{"read_ahead_bytes": 0}, {"concurrency": 4}, {"inputs": [{"name": "table", "kind": "files", "options": {}}]}],
)
def test_nothing_is_loaded_ahead_where_that_is_off_or_of_no_use(start, tmp_path, options):
    is_async = "concurrency" in options
    script = f"{'async ' if is_async else ''}def run(mini_batch): return ['x']"
    supervisor = start(script, **options)
    orders = [order(tmp_path, number) for number in range(4)]
    if "inputs" in options:
        orders = [[*fields[:5], ["/in/a"]] for fields in orders]
    supervisor.hand_out(*orders)
    supervisor.send_close()
    messages = []
    while (message := supervisor.receive()) is not None:
        messages.append(next(iter(message)))
    assert messages.count("done") == 4
    assert not {"ahead", "loading"} & set(messages)


@pytest.mark.parametrize("options", [{"read_ahead_bytes": 1}, {"memory_limit_bytes": 1}])
def test_a_mini_batch_that_may_not_fit_into_memory_is_not_loaded_ahead(start, tmp_path, options):
    supervisor = start_reading_ahead(start, tmp_path, ECHO, **options)
    supervisor.hand_out(order(tmp_path, 2), order(tmp_path, 3), order(tmp_path, 4))
    messages = messages_until(supervisor, lambda m: m == {"done": 4})
    assert not [message for message in messages if "loading" in message]


def test_rows_that_wait_for_the_layout_get_its_answer_while_the_next_order_is_awaited(start, tmp_path):
    script = """
import pandas
def run(mini_batch):
    name = mini_batch["name"][0]
    return pandas.DataFrame({"name": [name], **({"more": [1]} if name == "item-2" else {})})
"""
    options = {"rows_format": {"format": "csv", "to_csv": {"sep": ",", "header": True, "index": False}}}
    supervisor = start(script, **options)
    supervisor.hand_out(order(tmp_path, 0))
    header = {"columns": ["name"], "header": "name\n"}
    assert supervisor.receive() == {"running": 0}
    supervisor.answer(supervisor.receive(), 0, json.dumps(header).encode())
    messages_until(supervisor, lambda m: "ahead" in m)
    supervisor.hand_out(order(tmp_path, 1))
    messages_until(supervisor, lambda m: m == {"done": 1})
    supervisor.hand_out(order(tmp_path, 2))
    assert "layout" in messages_until(supervisor, lambda m: "layout" in m or "failed" in m)[-1]


def test_a_process_that_reads_ahead_ends_when_its_supervisor_is_gone(start, tmp_path):
    supervisor = start_reading_ahead(start, tmp_path, WAITS_FOR_TWO)
    supervisor.hand_out(order(tmp_path, 2), order(tmp_path, 3))
    messages_until(supervisor, lambda m: m == {"loaded": 3})
    supervisor.hang_up()
    (tmp_path / "go").touch()
    assert supervisor.process.wait(30) == 1


def test_a_copy_of_the_process_does_not_inherit_a_load_in_its_middle(start, tmp_path):
    script = """
def run(mini_batch):
    if mini_batch["name"][0] == "item-3":
        wait_for_load()
        child = os.fork()
        if not child:
            os._exit(is_loading_ahead())
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
    return ["none"]
"""
    supervisor = start_reading_ahead(start, tmp_path, script)
    supervisor.hand_out(order(tmp_path, 2), order(tmp_path, 3), order(tmp_path, 4))
    messages = messages_until(supervisor, lambda m: m == {"done": 4})
    assert messages.index({"loaded": 4}) < messages.index({"done": 3}), "the copy waited for the load"
    assert supervisor.rows_path.read_text().split() == ["none", "none", "none", "0", "none"]


# A node


def plan(tmp_path, script, *, mini_batches=8, **config):
    pieces = [(Piece(str(write_table(tmp_path, number)), None, None),) for number in range(mini_batches)]
    values = {"kind": InputKind.DELIMITED, "options": OPTIONS, "process_count_per_node": 1, **config}
    return make_plan(tmp_path, SLOW_STORAGE.replace("HERE", repr(str(tmp_path))) + script, pieces=pieces, **values)


def items(*but, of=8):
    return [f"item-{number}" for number in range(of) if number not in but]


def test_a_process_that_dies_in_run_and_loads_another_one_charges_only_its_own(tmp_path):
    script = """
def run(mini_batch):
    name = mini_batch["name"][0]
    with opened(here / "calls", "a") as calls:
        calls.write(name + "\\n")
    if name == "item-3":
        if not (here / "died").exists():
            wait_for_load()
            (here / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [name]
"""
    folder = plan(tmp_path, script, run_max_try=2)
    Tries(folder).run()
    assert read_rows(folder) == items(3)
    failed = read_tries(folder)
    assert [(t.index, t.try_number, t.status) for t in failed] == [
        (3, number, TryStatus.PROCESS_DIED) for number in (1, 2)
    ]
    calls = (tmp_path / "calls").read_text().split()
    assert sorted(calls) == sorted([*items(), "item-3", "item-3"]), "it was tried alone before it was charged"
    assert read_outcomes(folder)["tries"].tolist() == [1, 1, 1, 2, 1, 1, 1, 1]


def test_a_process_that_dies_of_what_it_loads_charges_that(tmp_path):
    script = """
def open_or_die(path, *arguments, **options):
    if str(path).endswith("4.csv"):
        os.kill(os.getpid(), signal.SIGKILL)
    return open_slowly(path, *arguments, **options)

builtins.open = open_or_die

def run(mini_batch):
    time.sleep(0.2)
    return list(mini_batch["name"])
"""
    folder = plan(tmp_path, script, run_max_try=2)
    Tries(folder).run()
    assert read_rows(folder) == items(4)
    assert [(t.index, t.status) for t in read_tries(folder)] == [(4, TryStatus.PROCESS_DIED)] * 2


def test_a_load_that_hangs_does_not_disturb_run_and_is_charged_with_its_own_clock(tmp_path):
    script = """
def run(mini_batch):
    if mini_batch["name"][0] == "item-2":
        time.sleep(0.6)
    return list(mini_batch["name"])
"""
    folder = plan(tmp_path, script, run_max_try=1, run_invocation_timeout=1)
    (tmp_path / "3.csv").unlink()
    os.mkfifo(tmp_path / "3.csv")
    Tries(folder).run()
    assert read_rows(folder) == items(3)
    [failed] = read_tries(folder)
    assert (failed.index, failed.status) == (3, TryStatus.LOAD_TIMEOUT)


def test_a_run_that_hangs_is_charged_and_what_was_loaded_ahead_is_not(tmp_path):
    script = """
def run(mini_batch):
    if mini_batch["name"][0] == "item-3":
        time.sleep(60)
    return list(mini_batch["name"])
"""
    folder = plan(tmp_path, script, run_max_try=1, run_invocation_timeout=1)
    Tries(folder).run()
    assert read_rows(folder) == items(3)
    [failed] = read_tries(folder)
    assert (failed.index, failed.status) == (3, TryStatus.RUN_TIMEOUT)


def test_the_last_mini_batches_do_not_wait_in_a_busy_process(tmp_path):
    # It returns when all others are done, which the same process would load ahead, and never begin.
    script = """
def run(mini_batch):
    name = mini_batch["name"][0]
    if name == "item-4":
        while len(list(here.glob("done-*"))) < 11:
            time.sleep(0.002)
    (here / f"done-{name}").touch()
    return [name]
"""
    folder = plan(tmp_path, script, mini_batches=12, process_count_per_node=2, run_invocation_timeout=30)
    Tries(folder).run()
    assert read_rows(folder) == items(of=12)
    assert read_tries(folder) == []


def test_a_drain_begins_no_mini_batch_that_was_only_loaded(tmp_path, caplog):
    script = """
def run(mini_batch):
    name = mini_batch["name"][0]
    if name == "item-3":
        wait_for_load()
        (here / "loading").touch()
        wait_for("go")
    return [name]
"""
    folder = plan(tmp_path, script, run_invocation_timeout=60)
    caplog.set_level("INFO", "tests.node")

    def run():
        with pytest.raises(RunAbortedError):
            Tries(folder).run()

    node = threading.Thread(target=run)
    node.start()
    try:
        wait_until((tmp_path / "loading").exists, "a load", 30, 0.02)
        abort(folder, AbortKind.DRAIN, "ann")
        wait_until(lambda: "nothing more is handed out" in caplog.text, "the drain", 30, 0.02)
    finally:
        (tmp_path / "go").touch()
        node.join()
    assert read_rows(folder) == items(4, 5, 6, 7)
    assert read_tries(folder) == []
