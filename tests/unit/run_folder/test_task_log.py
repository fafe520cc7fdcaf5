"""The task log: of all plans and merges of a run, the newest result stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.run_folder.log import Log
from airflow_prs.run_folder.merges import Merge
from airflow_prs.run_folder.task_log import Execution, History, MergeClaim, Published, TaskLog
from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.posix import PosixStore
from tests.interleaving import Actor, pause

RESULT = "result.txt"


class Store(MemoryStore):
    """
    A store in memory.

    :ivar appeared: all contents of the result, in the order in which they appeared.
    """

    def __init__(self) -> None:
        super().__init__(pause)
        self.appeared: list[bytes] = []

    def _set(self, key: str, data: bytes) -> None:
        super()._set(key, data)
        if key == RESULT:
            self.appeared.append(data)


class Run:
    """
    A run whose shards commit.

    :ivar positions: how far the only shard of each folder is.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.positions: dict[str, int] = {}

    def log(self) -> TaskLog:
        return TaskLog(self.store, "log/")

    def plan(self, folder: str) -> int:
        log = self.log()
        claim = log.claim_plan()
        number = log.append_execution(claim, folder=folder, terms={})
        self.positions.setdefault(folder, 1)
        return number

    def merge(self, folder: str, execution: int | None, try_number: int | None) -> bytes:
        """Publish what the shard has committed, as merge does, and return it."""
        merge = Merge(self.log(), self.store, folder=folder, execution=execution, try_number=try_number, key=RESULT)

        def probe() -> dict[int, int]:
            pause("probe", folder)
            return {0: self.positions[folder]}

        def attempt() -> bytes:
            positions = probe()
            rows = json.dumps([folder, positions[0]]).encode()
            merge.publish(lambda out: out.write(rows), positions=positions, probe=probe)
            merge.note_published(positions=positions, result=RESULT, status="completed", reports="reports")
            return rows

        return merge.run(attempt)

    def start_merge(self, folder: str, execution: int | None, try_number: int | None) -> Actor:
        return Actor(lambda: self.merge(folder, execution, try_number))

    @property
    def result(self) -> list[Any] | None:
        data = self.store.get(RESULT)
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
    Log(run.store, "log/").append(0, b'{"kind": "vote", "process": "a"}')
    with pytest.raises(RunFolderError, match="Install the same version"):
        run.log().read()


# Merge


def test_a_damaged_log_is_an_error_that_says_what_to_remove(tmp_path):
    store = PosixStore(tmp_path)
    TaskLog(store, "log/").claim_plan()
    store.put("log/0000000000", b"damaged")
    with pytest.raises(RunFolderError, match=f"^log/0000000000 is damaged. Clear .* Remove {tmp_path}/log/ before"):
        TaskLog(store, "log/").read()


def test_a_merge_leaves_what_it_published(run):
    execution = run.plan("a")
    run.merge("a", execution, 1)
    assert run.result == ["a", 1]
    assert kinds(run) == ["plan", "execution", "merge", "publishing", "published"]
    published = run.log().read()[-1]
    assert isinstance(published, Published)
    assert (published.claim, published.positions, published.result) == (2, {0: 1}, RESULT)
    assert run.log().read().newest_published("a") == published


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
    zombie.step_to("publish")
    run.positions["a"] = 2
    run.merge("a", execution, 1)
    assert isinstance(zombie.finish(), SupersededError)
    assert run.result == ["a", 2]


def test_where_nobody_counts_tries_each_merge_is_newer_than_those_before(run):
    execution = run.plan("a")
    run.merge("a", execution, 3)
    run.merge("a", None, None)
    claims = [record for record in run.log().read() if isinstance(record, MergeClaim)]
    assert [(claim.execution, claim.try_number) for claim in claims] == [(execution, 3), (execution, 4)]


def test_a_merge_of_an_older_folder_is_refused(run):
    older = run.plan("a")
    run.plan("b")
    with pytest.raises(SupersededError, match="b is newer than a"):
        run.merge("a", older, 9)


def test_a_merge_of_an_older_execution_reads_a_continued_folder_again(run):
    older = run.plan("a")
    merge = run.start_merge("a", older, 1)
    merge.step_to("writer")
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
    assert history.newest_published("a") is not None
    assert history.newest_published("b") is None


def test_a_shard_that_commits_while_a_merge_writes_makes_it_read_again(run):
    merge = run.start_merge("a", run.plan("a"), 1)
    merge.step_to("writer")
    run.positions["a"] = 2
    merge.finish()
    assert run.store.appeared == [b'["a", 2]']


def test_a_shard_that_commits_while_the_result_appears_makes_merge_read_again(run):
    merge = run.start_merge("a", run.plan("a"), 1)
    merge.step_to("publish")
    run.positions["a"] = 2
    merge.finish()
    assert run.store.appeared == [b'["a", 1]', b'["a", 2]']
    assert run.log().read()[-1].positions == {0: 2}


def test_a_merge_that_is_overtaken_after_its_result_appeared_does_not_say_that_it_stands(run):
    execution = run.plan("a")
    merge = run.start_merge("a", execution, 1)
    merge.step_to("publish")
    merge.step()
    run.merge("a", execution, 2)
    assert isinstance(merge.finish(), SupersededError)
    assert [record.claim for record in run.log().read() if isinstance(record, Published)] == [4]


def test_an_upload_that_is_gone_without_a_later_merge_is_begun_again(run):
    merge = run.start_merge("a", run.plan("a"), 1)
    merge.step_to("publish")
    run.store._uploads.clear()
    merge.finish()
    assert run.store.appeared == [b'["a", 1]']
    assert kinds(run) == ["plan", "execution", "merge", "publishing", "merge", "publishing", "published"]


def test_an_upload_that_is_not_written_is_given_up(run):
    merge = Merge(run.log(), run.store, folder="a", execution=run.plan("a"), try_number=1, key=RESULT)
    with pytest.raises(ZeroDivisionError):
        merge.run(lambda: 1 / 0)
    assert not run.store._uploads


def test_a_damaged_folder_is_known(run):
    run.plan("a")
    run.log().abandon("a", "rows are damaged.")
    history = run.log().read()
    assert (history.why_abandoned("a"), history.why_abandoned("b")) == ("rows are damaged.", None)


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


class AnyOrder:
    """A run on which everything happens in any order."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.run = Run()
        self.folder, self.execution, self.tries = "m", self.run.plan("m"), 0
        self.merges: list[Actor] = []
        self._draw = draw

    def merge(self) -> Actor:
        self.tries += 1
        self.merges.append(self.run.start_merge(self.folder, self.execution, self.tries))
        return self.merges[-1]

    def commit(self) -> None:
        self.run.positions[self.folder] += 1

    def step(self) -> None:
        for _ in range(self._draw(st.integers(1, 8), label="steps")):
            self._any_merge().step()

    def kill(self) -> None:
        self._any_merge().kill()

    def continue_folder(self) -> None:
        self.execution, self.tries = self.run.plan(self.folder), 0

    def start_over(self) -> None:
        # Older folders sort before newer ones, and after them.
        taken = set(self.run.positions)
        self.folder = self._draw(st.sampled_from([name for name in "abcdefghijklmnopqrstuvwxyz" if name not in taken]))
        self.continue_folder()

    def _any_merge(self) -> Actor:
        return self._draw(st.sampled_from(self.merges))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_in_any_order_of_plans_merges_kills_and_commits_the_newest_result_stands(data):
    world = AnyOrder(data.draw)
    world.merge()
    actions = [world.merge, world.commit, world.step, world.step, world.kill, world.continue_folder, world.start_over]
    for _ in range(data.draw(st.integers(1, 20), label="actions")):
        data.draw(st.sampled_from(actions))()
    newest = world.merge()
    for merge in data.draw(st.permutations(world.merges)):
        merge.finish()
    assert world.run.result == [world.folder, world.run.positions[world.folder]] == json.loads(newest.outcome)
    check_results(world.run)


def test_the_newest_of_no_records_is_none():
    assert History().newest_execution() is History().newest_claim() is None
