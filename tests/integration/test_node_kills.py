"""Whatever dies: no row is lost or doubled, what was committed does not run again, no process is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from airflow_prs.object_storage import ambient, connecting
from airflow_prs.records import InputKind, Piece, TryStatus
from airflow_prs.run_folder.folder import RunFolder
from tests.node_process import start_node
from tests.object_servers import SERVERS, serve
from tests.shards import make_plan, read_outcomes, read_rows, read_tries

MINI_BATCHES = 2000
SEEDS = int(os.environ.get("KILL_SEEDS", "0"))
COUNTING = """
import os, time
def run(mini_batch):
    with open({path!r}, "a") as file: file.write(mini_batch[0] + "\\n")
    time.sleep({seconds})
    return mini_batch
"""
TABLE_MINI_BATCHES = 250
COUNTING_TABLE = """
import builtins, threading, time
opened = builtins.open
def open_slowly(path, *arguments, **options):
    if str(path).endswith(".csv"):
        time.sleep(0.008)
    return opened(path, *arguments, **options)
builtins.open = open_slowly
def run(mini_batch):
    with open({path!r}, "a") as file: file.write(mini_batch["name"][0] + "\\n")
    time.sleep(0.01)
    if any("airflow_prs-ahead" in thread.name for thread in threading.enumerate()):
        open({ahead!r}, "a").close()
    return list(mini_batch["name"])
"""


@pytest.fixture
def place_on(tmp_path, monkeypatch):
    """Return where to plan a run, by the kind of storage: the test's folder, or an address on a server."""

    def place(storage: str) -> Path | str:
        if storage == "disk":
            return tmp_path
        found = serve(storage).place()
        for name, value in found.server.credentials().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(connecting, "_connect", ambient.connect)
        monkeypatch.setattr(connecting, "_connections", {})
        return found.without_connection

    return place


def counting(path: Path, seconds: float = 0.0005) -> str:
    return COUNTING.format(path=str(path), seconds=seconds)


def worker_processes(node: subprocess.Popen[str]) -> list[psutil.Process]:
    """The user's worker processes of a node: the children of its guards."""
    try:
        guards = psutil.Process(node.pid).children()
        return [worker for guard in guards for worker in guard.children()]
    except psutil.NoSuchProcess:
        return []


def wait_until_gone(processes: list[psutil.Process], seconds: float = 5) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert alive == []


def wait_for_commit(folder: RunFolder, node: subprocess.Popen[str], done: int = 1) -> None:
    """Wait until a node has committed some outcomes."""
    shard = folder.read_manifest().shards[0]
    for _ in range(3000):
        if folder.read_shard(shard).progress.done >= done:
            return
        assert node.poll() is None, node.stderr and node.stderr.read()
        time.sleep(0.01)
    raise AssertionError("the node committed nothing within 30 seconds")


def finish(folder: RunFolder, try_number: int) -> None:
    node = start_node(folder.path, try_number)
    try:
        _, errors = node.communicate(timeout=300)
    finally:
        node.kill()
    assert node.returncode == 0, errors


def check_exactly_once(folder: RunFolder, mini_batches: int, items: int = 2) -> None:
    assert read_rows(folder) == [f"item-{n}" for n in range(mini_batches * items)]
    progress = folder.read_shard(folder.read_manifest().shards[0]).progress
    assert (progress.total, progress.succeeded, progress.handed_out) == (mini_batches,) * 3


def plan_table(place: Path, counter: Path, **config) -> RunFolder:
    """Plan mini-batches of a table on slow storage, so that worker processes read ahead."""
    pieces = []
    for number in range(TABLE_MINI_BATCHES):
        file, first = place / f"{number}.csv", f"item-{2 * number}\n"
        file.write_text(f"{first}item-{2 * number + 1}\n")
        pieces.append((Piece(str(file), 0, len(first)), Piece(str(file), len(first), file.stat().st_size)))
    options = {"separator": ",", "header": False, "encoding": "utf-8", "columns": ["name"]}
    script = COUNTING_TABLE.format(path=str(counter), ahead=str(place / "ahead"))
    return make_plan(place, script, kind=InputKind.DELIMITED, options=options, pieces=pieces, **config)


def kill_rounds(place: Path | str, counter: Path, rounds: int, seed: int, *, is_table: bool = False) -> None:
    """Kill the node, or one of its processes, at random moments until it is through."""
    chance = random.Random(seed)
    # A mini-batch that is tried alone when its node is killed is charged, as if it were to blame.
    # The next node tries alone, with a commit each, what the killed one may have had in hand: fewer where commits take
    # longer, and so does the entire run, in which a node needs longer until its first commit.
    seconds, longest_s = (0.0005, 1.2) if isinstance(place, Path) and not is_table else (0.003, 3.0)
    if is_table:
        folder = plan_table(place, counter, run_max_try=rounds + 1)
    else:
        folder = make_plan(place, counting(counter, seconds), mini_batches=MINI_BATCHES, run_max_try=rounds + 1)
    committed: set[int] = set()
    for try_number in range(1, rounds + 1):
        ran_before = Counter(counter.read_text().splitlines()) if counter.exists() else Counter()
        node = start_node(folder.path, try_number)
        time.sleep(chance.uniform(0.3, longest_s))
        processes = worker_processes(node)
        if processes and chance.random() < 0.3:
            chance.choice(processes).kill()
            time.sleep(chance.uniform(0, 0.2))
        node.kill()
        node.communicate()
        wait_until_gone(processes)
        ran = Counter(counter.read_text().splitlines()) if counter.exists() else Counter()
        again = {name for name in ran if ran[name] > ran_before[name]}
        assert not again & {f"item-{2 * index}" for index in committed}, "what was committed ran again"
        committed = set(read_outcomes(folder)["index"].tolist())
    finish(folder, rounds + 1)
    check_exactly_once(folder, TABLE_MINI_BATCHES if is_table else MINI_BATCHES)


def test_a_few_kills_at_random_moments_lose_and_double_nothing(tmp_path):
    kill_rounds(tmp_path, tmp_path / "runs", rounds=4, seed=1)


def test_a_few_kills_of_a_node_whose_processes_read_ahead_lose_and_double_nothing(tmp_path):
    kill_rounds(tmp_path, tmp_path / "runs", rounds=2, seed=3, is_table=True)
    assert (tmp_path / "ahead").exists(), "no process has read ahead"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS or 6))
def test_kills_of_a_node_whose_processes_read_ahead_lose_and_double_nothing(tmp_path, seed):
    kill_rounds(tmp_path, tmp_path / "runs", rounds=5, seed=300 + seed, is_table=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS or 10))
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path, seed):
    kill_rounds(tmp_path, tmp_path / "runs", rounds=5, seed=100 + seed)


@pytest.mark.slow
@pytest.mark.parametrize("storage", SERVERS)
@pytest.mark.parametrize("seed", range(SEEDS or 4))
def test_kills_on_object_storage_lose_and_double_nothing(place_on, tmp_path, storage, seed):
    kill_rounds(place_on(storage), tmp_path / "runs", rounds=5, seed=200 + seed)


def test_a_killed_worker_process_is_replaced(tmp_path):
    folder = make_plan(tmp_path, counting(tmp_path / "runs", 0.02), mini_batches=200)
    node = start_node(folder.path, 1)
    wait_for_commit(folder, node)

    worker_processes(node)[0].kill()

    _, errors = node.communicate(timeout=60)
    assert node.returncode == 0, errors
    check_exactly_once(folder, 200)
    (failed,) = read_tries(folder)
    assert failed.status is TryStatus.PROCESS_DIED


@pytest.mark.parametrize("storage", ["disk", "seaweed"])
def test_a_zombie_that_lives_on_beside_the_next_attempt_doubles_nothing(place_on, tmp_path, storage):
    folder = make_plan(place_on(storage), counting(tmp_path / "runs", 0.01), mini_batches=300)
    zombie = start_node(folder.path, 1)
    wait_for_commit(folder, zombie)
    os.kill(zombie.pid, signal.SIGSTOP)
    second = start_node(folder.path, 2)
    wait_for_commit(folder, second, done=150)

    os.kill(zombie.pid, signal.SIGCONT)

    zombie.communicate(timeout=30)
    assert zombie.returncode != 0
    second.communicate(timeout=60)
    assert second.returncode == 0
    check_exactly_once(folder, 300)


def test_a_mini_batch_that_kills_its_node_is_charged_and_its_neighbours_are_not(tmp_path):
    script = f"""
import os, signal, time
def run(mini_batch):
    with open({str(tmp_path / "runs")!r}, "a") as file: file.write(mini_batch[0] + "\\n")
    if "item-60" in mini_batch:
        guard = os.getppid()
        with open(f"/proc/{{guard}}/stat") as stat: node = int(stat.read().rpartition(")")[2].split()[1])
        os.kill(node, signal.SIGKILL)
        time.sleep(60)
    return mini_batch
"""
    folder = make_plan(tmp_path, script, mini_batches=100, run_max_try=3)
    tries = 0
    while True:
        tries += 1
        node = start_node(folder.path, tries)
        _, errors = node.communicate(timeout=60)
        if node.returncode == 0:
            break
        assert tries < 6, errors

    # The first death charges nobody, for many were in hand; the next three are its own.
    assert tries == 5
    shard = folder.read_manifest().shards[0]
    outcomes = read_outcomes(folder)
    assert outcomes["index"][outcomes["status"] != TryStatus.RUN_DONE].tolist() == [30]
    failed = read_tries(folder)
    assert [(t.index, t.try_number, t.status) for t in failed] == [(30, n, TryStatus.NODE_DIED) for n in (1, 2, 3)]
    assert read_rows(folder) == [f"item-{n}" for n in range(200) if n not in {60, 61}]
    progress = folder.read_shard(shard).progress
    assert (progress.handed_out, progress.failed, progress.failing) == (100, 1, 0)


def test_no_more_is_suspected_of_a_death_than_two_mini_batches_a_slot(tmp_path):
    script = """
import os, signal, time
def run(mini_batch):
    if "item-0" in mini_batch:
        time.sleep(0.5)
        with open(f"/proc/{os.getppid()}/stat") as stat: node = int(stat.read().rpartition(")")[2].split()[1])
        os.kill(node, signal.SIGKILL)
    time.sleep(60)
"""
    folder = make_plan(tmp_path, script, mini_batches=1000)
    start_node(folder.path, 1).communicate(timeout=60)
    state = folder.read_shard(folder.read_manifest().shards[0])
    assert (state.is_running, state.granted) == (True, 4)


def test_an_interrupted_node_commits_what_is_done_and_leaves_no_process(tmp_path):
    folder = make_plan(tmp_path, counting(tmp_path / "runs", 0.05), mini_batches=200)
    node = start_node(folder.path, 1)
    wait_for_commit(folder, node)
    processes = worker_processes(node)

    node.send_signal(signal.SIGINT)

    node.communicate(timeout=10)
    wait_until_gone(processes)
    state = folder.read_shard(folder.read_manifest().shards[0])
    assert state.closing == "stopped"
    ran = len((tmp_path / "runs").read_text().splitlines())
    assert ran - 2 <= state.progress.done <= ran
    assert read_tries(folder) == [], "what the node itself ended was charged"
    finish(folder, 2)
    check_exactly_once(folder, 200)
