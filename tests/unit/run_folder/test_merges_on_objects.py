"""Of all merges that publish to object storage the newest one wins, wherever an older one stalls."""

from __future__ import annotations

from contextlib import contextmanager
from uuid import uuid4

import pytest

from airflow_prs.errors import SupersededError
from airflow_prs.run_folder.merges import Merge
from airflow_prs.run_folder.task_log import TaskLog
from airflow_prs.store.memory import MemoryStore
from airflow_prs.store.objects import ObjectStore
from tests.interleaving import Actor, pause
from tests.object_servers import SOME_SLOW
from tests.stores import object_store

RESULT = "result.txt"


class Stalling:
    """
    The store of a process of its own, which stops before each operation.

    ``writer`` is three: "writer" on entry, "publish" before what is left is sent, and "complete" after that.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        complete = store._uploads._complete

        def stall(*arguments):
            pause("complete", RESULT)
            complete(*arguments)

        store._uploads._complete = stall

    def new_upload(self, key):
        pause("new_upload", key)
        return self._store.new_upload(key)

    @contextmanager
    def writer(self, key, upload=None):
        pause("writer", key)
        with self._store.writer(key, upload) as out:
            yield out
            pause("publish", key)

    def revoke(self, key, upload):
        pause("revoke", key)
        self._store.revoke(key, upload)


class Run:
    """A run whose result is on a server; its log is in memory."""

    def __init__(self, server: str, earlier: bytes | None) -> None:
        self._server, self._prefix = server, uuid4().hex
        self._log = MemoryStore(pause)
        log = TaskLog(self._log, "log/")
        self.execution = log.append_execution(log.claim_plan(), folder="a", terms={})
        self.output = self.open_store()
        if earlier is not None:
            self.output.put(RESULT, earlier)

    def open_store(self) -> ObjectStore:
        return object_store(self._server, self._prefix)

    def start(self, try_number: int) -> Actor:
        return Actor(lambda: self.merge(try_number))

    def merge(self, try_number: int) -> str:
        merge = Merge(
            TaskLog(self._log, "log/"),
            Stalling(self.open_store()),
            folder="a",
            execution=self.execution,
            try_number=try_number,
            key=RESULT,
        )

        def attempt() -> str:
            merge.publish(lambda out: out.write(b"try %d" % try_number), positions={}, probe=dict)
            merge.note_published(positions={}, result=RESULT, status="completed", reports="reports")
            return "published"

        return merge.run(attempt)

    @property
    def result(self) -> bytes | None:
        return self.output.get(RESULT)


@pytest.fixture(params=SOME_SLOW)
def server(request):
    return request.param


@pytest.fixture(params=[None, b"earlier"], ids=["missing", "there"])
def earlier(request):
    return request.param


def test_a_merge_that_stalls_anywhere_replaces_no_newer_result(server, earlier):
    outcomes, has_ended = [], False
    while not has_ended:
        run = Run(server, earlier)
        zombie = run.start(1)
        for _ in outcomes:
            zombie.step()
        has_ended = zombie.has_ended
        assert run.merge(2) == "published"
        outcomes.append(zombie.finish())
        assert run.result == b"try 2"
    # The last steps come after it has noted what it published.
    superseded = [outcome for outcome in outcomes if outcome != "published"]
    assert outcomes[: len(superseded)] == superseded
    assert len(superseded) > 6
    assert all(isinstance(outcome, SupersededError) for outcome in superseded)


def test_a_merge_that_goes_on_while_a_newer_one_publishes_leaves_the_result_of_that_one(server, earlier):
    for operation in "writer", "publish", "complete":
        run = Run(server, earlier)
        zombie, newer = run.start(1), run.start(2)
        zombie.step_to("complete")
        newer.step_to(operation)
        assert isinstance(zombie.finish(), SupersededError)
        assert newer.finish() == "published"
        assert run.result == b"try 2"


def test_a_merge_that_was_revoked_publishes_nothing_though_the_newer_one_fails(server):
    run = Run(server, b"earlier")
    zombie, newer = run.start(1), run.start(2)
    zombie.step_to("complete")
    newer.step_to("writer")
    newer.kill()
    assert isinstance(zombie.finish(), SupersededError)
    assert run.result == b"earlier"


@pytest.mark.parametrize("change", ["put", "write", "delete"])
def test_of_different_runs_the_last_one_to_publish_wins(server, earlier, change):
    run = Run(server, earlier)
    merge = run.start(1)
    merge.step_to("complete")
    other = run.open_store()
    if change == "put":
        other.put(RESULT, b"of another run")
    elif change == "delete":
        other.delete([RESULT])
    else:
        with other.writer(RESULT, other.new_upload(RESULT)) as out:
            out.write(b"of another run")
    assert merge.finish() == "published"
    assert run.result == b"try 1"
