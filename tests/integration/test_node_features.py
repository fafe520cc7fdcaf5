"""What a script and its configuration may ask of a node."""

from __future__ import annotations

import json
import os
import re
import socket
import textwrap
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_prs.errors import NodeError
from airflow_prs.records import TryStatus
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import encode, shard_status
from tests.shards import Tries, make_plan, read_outcomes, read_rows, read_tries

ANSWER_S = 0.1


@pytest.fixture
def service():
    """A local HTTP service that answers after 100 ms; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(ANSWER_S)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"scored")

        def log_message(self, *args):
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_asynchronous_script_works_on_several_mini_batches_at_once(tmp_path, service):
    script = f"""
        import asyncio, urllib.request
        def get():
            with urllib.request.urlopen({service!r}) as answer: return answer.read().decode()
        async def run(mini_batch):
            answer = await asyncio.to_thread(get)
            return [f"{{item}} {{answer}}" for item in mini_batch]
    """
    seconds = {}
    for concurrency in (1, 8):
        folder = make_plan(
            tmp_path / str(concurrency),
            textwrap.dedent(script),
            mini_batches=32,
            process_count_per_node=1,
            max_concurrency_per_process=concurrency,
        )
        Tries(folder).run()
        assert read_rows(folder) == [f"item-{n} scored" for n in range(64)]
        started = read_outcomes(folder)
        seconds[concurrency] = (started["started"] + started["duration_s"]).max() - started["started"].min()
    assert seconds[1] >= 32 * ANSWER_S
    # Eight at once could be eight times as fast; a busy machine gets less.
    assert seconds[8] < seconds[1] / 3


def test_a_plain_script_works_on_one_mini_batch_at_a_time_whatever_is_allowed(tmp_path):
    script = "import time\ndef run(mini_batch): time.sleep(0.5); return mini_batch\n"
    folder = make_plan(
        tmp_path,
        script,
        mini_batches=15,
        process_count_per_node=1,
        max_concurrency_per_process=6,
        run_invocation_timeout=1,
    )

    assert Tries(folder).run()["failed"] == 0

    assert read_tries(folder) == []


def test_a_timeout_of_one_asynchronous_mini_batch_leaves_the_others_alone(tmp_path):
    script = """
        import asyncio
        async def run(mini_batch):
            if "item-4" in mini_batch: await asyncio.sleep(60)
            await asyncio.sleep(0.2)
            return mini_batch
    """
    folder = make_plan(
        tmp_path,
        textwrap.dedent(script),
        process_count_per_node=1,
        max_concurrency_per_process=6,
        run_max_try=1,
        run_invocation_timeout=1,
    )

    Tries(folder).run()

    (failed,) = read_tries(folder)
    assert (failed.index, failed.status) == (2, TryStatus.RUN_TIMEOUT)
    assert set(read_outcomes(folder)["tries"].tolist()) == {1}


def test_of_several_mini_batches_in_a_process_that_dies_only_the_guilty_one_is_charged(tmp_path):
    script = """
        import asyncio, os
        async def run(mini_batch):
            await asyncio.sleep(0.05)
            if "item-4" in mini_batch: os._exit(1)
            await asyncio.sleep(0.1)
            return mini_batch
    """
    folder = make_plan(
        tmp_path,
        textwrap.dedent(script),
        mini_batches=12,
        process_count_per_node=2,
        max_concurrency_per_process=6,
        run_max_try=2,
    )

    Tries(folder).run()

    assert [(t.index, t.try_number, t.status) for t in read_tries(folder)] == [
        (2, 1, TryStatus.PROCESS_DIED),
        (2, 2, TryStatus.PROCESS_DIED),
    ]
    assert read_rows(folder) == [f"item-{n}" for n in range(24) if n not in {4, 5}]


def test_retries_wait_longer_each_time_while_the_others_go_on(tmp_path):
    script = """
        def run(mini_batch, context):
            if "item-0" in mini_batch and context.try_number < 3: raise OSError("busy")
            return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=20, process_count_per_node=1, retry_delay_s=0.5)

    Tries(folder).run()

    first, second = (failed.started for failed in read_tries(folder))
    last = {row["index"]: row["started"] for row in read_outcomes(folder)}
    assert second - first >= 0.375
    assert last[0] - second >= 0.75
    assert all(last[index] < second for index in range(1, 20))


def test_a_script_can_ask_to_wait_before_the_next_try(tmp_path):
    script = """
        from airflow_prs.entry_script import RetryAfter
        def run(mini_batch, context):
            if context.try_number == 1: raise RetryAfter(0.7, "the service asks to wait")
            return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=1)

    Tries(folder).run()

    (failed,) = read_tries(folder)
    assert "the service asks to wait" in failed.error
    assert read_outcomes(folder)["started"][0] - failed.started >= 0.7


def test_a_script_can_say_that_another_try_would_not_help(tmp_path):
    script = """
        from airflow_prs.entry_script import NotRetryable
        def run(mini_batch):
            if "item-0" in mini_batch: raise NotRetryable("this scan is blank")
            return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=2, run_max_try=3)

    Tries(folder).run()

    (failed,) = read_tries(folder)
    assert (failed.try_number, failed.final) == (1, True)
    assert "this scan is blank" in failed.error


def test_a_process_is_replaced_after_as_many_mini_batches_as_it_may_do(tmp_path):
    script = "import os\ndef run(mini_batch): return [os.getpid()] * len(mini_batch)\n"
    folder = make_plan(tmp_path, script, mini_batches=100, process_count_per_node=1, max_mini_batches_per_process=30)

    Tries(folder).run()

    processes = read_rows(folder)
    assert sorted(processes.count(pid) for pid in set(processes)) == [20, 60, 60, 60]


def test_a_process_that_has_grown_too_big_is_replaced_between_mini_batches(tmp_path):
    script = """
        import os, time
        hoard = []
        def run(mini_batch):
            hoard.append(bytearray(20_000_000))
            time.sleep(0.3)
            return [os.getpid()] * len(mini_batch)
    """
    folder = make_plan(
        tmp_path, textwrap.dedent(script), mini_batches=20, process_count_per_node=1, max_memory_per_process="120MB"
    )

    assert Tries(folder).run()["failed"] == 0

    assert len(set(read_rows(folder))) > 1
    assert read_tries(folder) == []


def test_a_node_without_progress_gives_up_when_it_is_told_to(tmp_path):
    script = "import time\ndef run(mini_batch): time.sleep(60)\n"
    folder = make_plan(tmp_path, script, run_invocation_timeout=100)
    folder.write_settings(replace(folder.read_settings(), progress_update_timeout_s=1.0))

    with pytest.raises(NodeError, match=r"no mini-batch was done within 1 seconds \(progress_update_timeout\)"):
        Tries(folder).run()


def test_a_running_shard_can_be_watched_from_outside(tmp_path):
    folder = make_plan(
        tmp_path, "import time\ndef run(mini_batch): time.sleep(0.1); return mini_batch\n", mini_batches=60
    )
    seen = []

    def watch():
        deadline = time.monotonic() + 30
        while not seen and time.monotonic() < deadline:
            found = folder.store.get(shard_status(0))
            status = json.loads(found) if found is not None else None
            if status is not None and status["progress"]["succeeded"]:
                seen.append(status)
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    Tries(folder).run()
    thread.join()

    last = json.loads(folder.store.get(shard_status(0)))
    assert 0 < seen[0]["progress"]["succeeded"] < last["progress"]["succeeded"] == 60
    assert sum(seen[0]["bins"]["done"]) == seen[0]["progress"]["succeeded"]
    shard = folder.read_manifest().shards[0]
    assert last["record"] == folder.read_shard(shard).number > seen[0]["record"]


def test_a_running_run_is_shown_in_one_small_file(tmp_path):
    script = f"""
        import pathlib, time
        def run(mini_batch):
            number = int(mini_batch[0].rpartition("-")[2])
            if number % 10 == 7: raise ValueError("seven")
            while number in (149, 299) and not pathlib.Path({str(tmp_path / "seen")!r}).exists(): time.sleep(0.1)
            return mini_batch
    """
    rules = {"error_threshold": -1, "run_max_try": 1}
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=300, items=1, shards=2, **rules)
    nodes = [threading.Thread(target=Tries(folder).run, args=(shard,)) for shard in (0, 1)]
    for node in nodes:
        node.start()
    during = {}
    while any(node.is_alive() for node in nodes):
        if folder.names.status.exists() and not during:
            status = json.loads(folder.names.status.read_text())
            if sum(status["bins"]["done"]) == status["progress"]["succeeded"] + 30 == 298:
                during = status
                (tmp_path / "seen").touch()
        time.sleep(0.1)
    for node in nodes:
        node.join()

    assert (during["shards"], during["mini_batches_per_s"] > 0) == ({"running": 2}, True)
    assert [node["done"] for node in during["nodes"]] == [149, 149]
    working = [process["mini_batch"] for node in during["nodes"] for process in node["processes"].values()]
    assert {149, 299} <= set(working)
    assert during["history"][-1]["memory_bytes"] > 0
    last = json.loads(folder.names.status.read_text())
    assert (last["shards"], last["progress"]["succeeded"], last["progress"]["failed"]) == ({"done": 2}, 270, 30)
    assert (last["bins"]["count"], set(last["bins"]["done"]), sum(last["bins"]["failed"])) == (300, {1}, 30)
    assert {node["total"] for node in last["nodes"]} == {150}
    assert "ValueError: seven" in last["last_failures"][-1]["error"]
    assert [point["done"] for point in last["history"]][-1] == 300
    assert folder.names.status.stat().st_size < 16384


def test_what_a_node_reads_of_other_shards_does_not_grow_with_their_number(tmp_path, monkeypatch):
    read, reads = RunFolder.read_shard, []

    def count(folder, shard, known=None):
        reads.append(shard)
        return read(folder, shard, known)

    folder = make_plan(tmp_path, "def run(mini_batch): return mini_batch", mini_batches=200, shards=200)
    monkeypatch.setattr(RunFolder, "read_shard", count)
    for shard in (0, 1, 2):
        Tries(folder).run(shard)

    assert len(reads) < 3 * 80


def test_a_node_that_stood_still_blames_no_process_that_waited_for_it(tmp_path):
    script = """
        def run(mini_batch):
            for _ in range(100): print("x" * 10_000)
            return mini_batch
    """
    folder = make_plan(tmp_path, textwrap.dedent(script), mini_batches=1, run_invocation_timeout=1, run_max_try=1)
    stalls = iter([2.0])

    def redact(text: str) -> str:
        if "xxx" in text:
            time.sleep(next(stalls, 0))
        return text

    assert Tries(folder, redact=redact).run()["succeeded"] == 1


def test_log_files_that_cannot_be_written_now_hold_up_no_mini_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_prs.node.processes.output.CLOSE_S", 0.2)
    folder = make_plan(tmp_path, "def run(mini_batch): print(mini_batch); return mini_batch", process_count_per_node=1)
    log = folder.names.log("stdout", f"{encode(socket.gethostname())}-0-1", "process000")
    log.parent.mkdir(parents=True)
    # Nobody reads it, so that opening it hangs, as on a file server that is away.
    os.mkfifo(log)

    assert Tries(folder).run()["succeeded"] == 6

    os.close(os.open(log, os.O_RDWR))


def test_the_task_log_tells_how_far_a_shard_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("airflow_prs.node.reporting._PROGRESS_S", 0.5)
    caplog.set_level("INFO", "tests.node")
    folder = make_plan(
        tmp_path, "import time\ndef run(mini_batch): time.sleep(0.1); return mini_batch\n", mini_batches=40
    )

    Tries(folder).run()

    first, *told, last = [message for message in caplog.messages if "mini-batches are done" in message]
    place = "shard 0 · mini-batches 0\N{EN DASH}39"
    assert re.fullmatch(rf"{place}: try 1 on \S+-0-1; 0 of 40 mini-batches are done; \d+ worker process(es)?", first)
    assert told
    done = r"\d+ of 40 mini-batches are done(, 0 of them failed)?; "
    rest = r"(\S+ mini-batches and \S+ rows a second, about .+ to go|none was done in the last .+ seconds)"
    assert [message for message in told if not re.fullmatch(done + rest, message)] == []
    end = r"0 of 80 items failed; 40 mini-batches in \S+ seconds, \S+ a second"
    assert re.fullmatch(rf"{place}: 40 of 40 mini-batches are done, 0 of them failed; {end}", last)


def test_a_failing_init_shows_its_traceback_once_with_the_files_of_the_user(tmp_path, caplog):
    caplog.set_level("INFO", "tests.node")
    script = "def init(): raise OSError('no model')\ndef run(mini_batch): return mini_batch\n"
    folder = make_plan(tmp_path, script, process_count_per_node=1)

    with pytest.raises(NodeError) as caught:
        Tries(folder).run()

    started = [message for message in caplog.messages if "did not start" in message]
    assert ["Traceback" in message for message in started] == [True, False]
    for message in (started[0], str(caught.value)):
        [line] = [line for line in message.splitlines() if "in init" in line]
        assert "airflow_prs-node-" not in line
        assert line.endswith('"script.py", line 1, in init')
