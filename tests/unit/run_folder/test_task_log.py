"""The task log: of all plans and merges of a run, the newest result stands."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.run_folder.task_log import Execution, History, Merge, Published, TaskLog
from tests.interleaving import Actor

RESULT = "result.txt"


class Store:
    """
    The weakest store that is allowed: to revoke an upload has no effect before it has begun.

    :ivar appeared: all contents of the result, in the order in which they appeared.
    """

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.appeared: list[bytes] = []
        self.uploads = 0
        self.open: set[str] = set()

    def create(self, key: str, data: bytes) -> bool:
        return self.keys.setdefault(key, data) == data

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        return self.keys.get(key)

    def new_upload(self, key: str) -> str:
        self.uploads += 1
        return f"{key}.{self.uploads}"

    @contextmanager
    def writer(self, key: str, upload: str) -> Iterator[io.BytesIO]:
        self.open.add(upload)
        out = io.BytesIO()
        yield out
        if upload not in self.open:
            raise SupersededError("revoked")
        self.open.discard(upload)
        self.keys[key] = out.getvalue()
        self.appeared.append(out.getvalue())

    def revoke(self, key: str, upload: str) -> None:
        self.open.discard(upload)


class Run:
    """
    A run whose shards commit.

    :ivar positions: how far the only shard of each folder is.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.positions: dict[str, int] = {}

    def log(self, store: Any = None) -> TaskLog:
        return TaskLog(store or self.store, "log/")

    def plan(self, folder: str, store: Any = None) -> int:
        log = self.log(store)
        claim = log.claim_plan()
        number = log.append_execution(claim, folder=folder, terms={})
        self.positions.setdefault(folder, 1)
        return number

    def merge(self, folder: str, execution: int | None, try_number: int | None, store: Any = None) -> bytes:
        """Publish what the shard has committed, as merge does, and return it."""
        store = store or self.store
        merge = Merge(self.log(store), store, folder=folder, execution=execution, try_number=try_number, key=RESULT)

        def probe() -> dict[int, int]:
            store.get("shards/0/log/0")  # a step
            return {0: self.positions[folder]}

        def attempt() -> bytes:
            positions = probe()
            rows = json.dumps([folder, positions[0]]).encode()
            merge.publish(lambda out: out.write(rows), positions=positions, probe=probe)
            merge.note_published(positions=positions, result=RESULT, status="completed", reports="reports")
            return rows

        return merge.run(attempt)

    def start_merge(self, folder: str, execution: int | None, try_number: int | None) -> Actor:
        return Actor(lambda stepping: self.merge(folder, execution, try_number, stepping(self.store)))

    @property
    def result(self) -> list[Any] | None:
        data = self.store.keys.get(RESULT)
        return None if data is None else json.loads(data)


@pytest.fixture
def run() -> Run:
    return Run()


def kinds(run: Run) -> list[str]:
    return [record.kind for record in run.log().read()]


# Plan


def test_an_execution_is_known_by_the_number_of_its_record(run):
    first, second = run.plan("z"), run.plan("a")
    history = run.log().read()
    assert (first, second) == (1, 3)
    assert history.newest_execution() == second
    assert history.newest_execution("z") == first
    assert history.execution(second).folder == "a"


def test_the_terms_of_an_execution_are_kept(run):
    log = run.log()
    number = log.append_execution(log.claim_plan(), folder="a", terms={"error_threshold": 5, "lend": False})
    assert run.log().read().execution(number).terms == {"error_threshold": 5, "lend": False}


def test_a_plan_that_was_overtaken_appends_no_execution(run):
    zombie = run.log()
    claim = zombie.claim_plan()
    run.plan("newer")
    with pytest.raises(SupersededError, match="older"):
        zombie.append_execution(claim, folder="older", terms={})
    assert run.log().read().newest_execution("older") is None


def test_a_newer_plan_that_has_only_begun_overtakes_an_older_one(run):
    zombie = run.log()
    claim = zombie.claim_plan()
    run.log().claim_plan()
    with pytest.raises(SupersededError):
        zombie.append_execution(claim, folder="older", terms={})


def test_a_number_that_is_no_execution_is_refused(run):
    run.plan("a")
    for number in (0, 2):
        with pytest.raises(RunFolderError, match=f"no execution {number}"):
            run.log().read().execution(number)


def test_a_record_of_another_version_is_refused(run):
    run.store.keys["log/0000000000"] = b'9fb25f1c {"kind": "vote"}\n'
    with pytest.raises(RunFolderError):
        run.log().read()


# Merge


def test_a_merge_leaves_what_it_published(run):
    execution = run.plan("a")
    run.merge("a", execution, 1)
    assert run.result == ["a", 1]
    assert kinds(run) == ["plan", "execution", "merge", "publishing", "published"]
    published = run.log().read()[-1]
    assert isinstance(published, Published)
    assert (published.claim, published.positions, published.result) == (2, {0: 1}, RESULT)
    assert run.log().read().is_published("a")


def test_what_has_no_key_is_published_without_a_file(run):
    merge = Merge(run.log(), run.store, folder="a", execution=run.plan("a"), try_number=1, key=None)
    merge.run(lambda: merge.publish(lambda _: pytest.fail("nothing to write"), positions={}, probe=dict))
    assert kinds(run)[-1] == "publishing"
    assert run.result is None


def test_without_a_plan_there_is_nothing_to_publish(run):
    with pytest.raises(RunFolderError, match="no execution of plan"):
        run.merge("a", None, None)


def test_a_merge_publishes_again_what_it_published_before(run):
    execution = run.plan("a")
    run.merge("a", execution, 1)
    run.positions["a"] = 2
    run.merge("a", execution, 2)
    assert run.result == ["a", 2]


def test_a_merge_that_begins_after_a_later_try_is_refused(run):
    execution = run.plan("a")
    run.merge("a", execution, 2)
    with pytest.raises(SupersededError, match="later try"):
        run.merge("a", execution, 1)


def test_tries_count_from_one_again_in_a_newer_execution(run):
    run.merge("a", run.plan("a"), 7)
    run.merge("a", run.plan("a"), 1)
    assert kinds(run)[-1] == "published"


def test_of_two_merges_with_one_try_number_the_later_claim_is_newer(run):
    execution = run.plan("a")
    zombie = run.start_merge("a", execution, 1)
    while "publishing" not in kinds(run):
        zombie.step()
    run.positions["a"] = 2
    run.merge("a", execution, 1)
    assert isinstance(zombie.finish(), SupersededError)
    assert run.result == ["a", 2]


def test_where_nobody_counts_tries_each_merge_is_newer_than_those_before(run):
    execution = run.plan("a")
    run.merge("a", execution, 3)
    run.merge("a", None, None)
    claims = list(run.log().read().merge_claims())
    assert [(claim.execution, claim.try_number) for claim in claims] == [(execution, 3), (execution, 4)]


def test_a_merge_of_an_older_folder_is_refused(run):
    older = run.plan("a")
    run.plan("b")
    with pytest.raises(SupersededError, match="b is newer than a"):
        run.merge("a", older, 9)


def test_a_merge_of_an_older_execution_reads_a_continued_folder_again(run):
    older = run.plan("a")
    merge = run.start_merge("a", older, 1)
    while "merge" not in kinds(run):
        merge.step()
    run.plan("a")
    merge.finish()
    assert kinds(run) == ["plan", "execution", "merge", "plan", "execution", "merge", "publishing", "published"]


def test_a_plan_that_has_only_begun_does_not_hinder_a_merge(run):
    execution = run.plan("a")
    run.log().claim_plan()
    run.merge("a", execution, 1)
    assert run.result == ["a", 1]


def test_a_folder_counts_as_published_whatever_was_planned_since(run):
    run.merge("a", run.plan("a"), 1)
    run.plan("b")
    history = run.log().read()
    assert (history.is_published("a"), history.is_published("b")) == (True, False)


def test_a_shard_that_commits_while_a_merge_writes_makes_it_read_again(run):
    merge = run.start_merge("a", run.plan("a"), 1)
    while not run.store.open:
        merge.step()
    run.positions["a"] = 2
    merge.finish()
    assert run.store.appeared == [b'["a", 2]']


def test_a_shard_that_commits_while_the_result_appears_makes_merge_read_again(run):
    merge = run.start_merge("a", run.plan("a"), 1)
    while "publishing" not in kinds(run):
        merge.step()
    run.positions["a"] = 2
    merge.finish()
    assert run.store.appeared == [b'["a", 1]', b'["a", 2]']
    assert run.log().read()[-1].positions == {0: 2}


# Whatever is interrupted


def age(run: Run, appeared: bytes) -> tuple[int, int]:
    """How new a result is: the first execution of its folder, and how far its shard was."""
    folder, position = json.loads(appeared)
    history = run.log().read()
    first = next(n for n, record in enumerate(history) if isinstance(record, Execution) and record.folder == folder)
    return first, position


def check_results(run: Run) -> None:
    ages = [age(run, appeared) for appeared in run.store.appeared]
    assert ages == sorted(ages)


def steps_of_a_merge() -> int:
    run = Run()
    merge = run.start_merge("a", run.plan("a"), 1)
    count = 0
    while not merge.has_ended:
        merge.step()
        count += 1
    return count


STEPS = range(steps_of_a_merge() + 1)


@pytest.mark.parametrize("stalled_at", STEPS)
def test_a_merge_that_stalls_anywhere_replaces_no_newer_result(stalled_at):
    run = Run()
    execution = run.plan("a")
    zombie = run.start_merge("a", execution, 1)
    for _ in range(stalled_at):
        zombie.step()
    run.positions["a"] = 2
    run.merge("a", execution, 2)
    zombie.finish()
    assert run.result == ["a", 2]
    check_results(run)


@pytest.mark.parametrize("stalled_at", STEPS)
def test_a_merge_of_an_older_folder_that_stalls_anywhere_replaces_no_newer_result(stalled_at):
    run = Run()
    zombie = run.start_merge("b", run.plan("b"), 9)
    for _ in range(stalled_at):
        zombie.step()
    run.merge("a", run.plan("a"), 1)
    zombie.finish()
    assert run.result == ["a", 1]
    check_results(run)


@pytest.mark.parametrize("first_steps", STEPS)
@pytest.mark.parametrize("second_steps", STEPS)
def test_two_merges_that_stall_anywhere_leave_the_newer_result(first_steps, second_steps):
    run = Run()
    execution = run.plan("a")
    older, newer = run.start_merge("a", execution, 1), run.start_merge("a", execution, 2)
    for _ in range(first_steps):
        older.step()
    run.positions["a"] = 2
    for _ in range(second_steps):
        newer.step()
    older.finish()
    newer.finish()
    assert newer.outcome == b'["a", 2]'
    assert run.result == ["a", 2]
    check_results(run)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_in_any_order_of_plans_merges_kills_and_commits_the_newest_result_stands(data):
    run = Run()
    number = run.plan("a")
    actors: list[Actor] = []
    newest_try = 0

    def start(folder: str, execution: int) -> None:
        nonlocal newest_try
        newest_try += 1
        actors.append(run.start_merge(folder, execution, newest_try))

    folder = "a"
    for _ in range(data.draw(st.integers(1, 25), label="actions")):
        action = data.draw(
            st.sampled_from(["merge", "commit", "step", "step", "step", "kill", "continue", "start over"])
        )
        if action == "merge" and len(actors) < 4:
            start(folder, number)
        elif action == "commit":
            run.positions[folder] += 1
        elif action == "continue":
            number, newest_try = run.plan(folder), 0
        elif action == "start over":
            # Not in the order of the names.
            folder = chr(ord(folder) - 1)
            number, newest_try = run.plan(folder), 0
        elif actors:
            actor = data.draw(st.sampled_from(actors))
            for _ in range(data.draw(st.integers(1, 8), label="steps")):
                actor.step()
            if action == "kill":
                actor.kill()
    start(folder, number)
    newest = actors[-1]
    for actor in data.draw(st.permutations(actors)):
        actor.finish()
    assert run.result == [folder, run.positions[folder]] == json.loads(newest.outcome)
    check_results(run)


def test_the_newest_of_no_records_is_none():
    assert History().newest_execution() is History().newest_claim() is None
