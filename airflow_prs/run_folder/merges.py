"""A merge: the newest claimant in the task log publishes what the shards have committed, and nothing less."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Final, TypeVar

from airflow_prs.errors import RunFolderError, SupersededError
from airflow_prs.run_folder.task_log import History, MergeClaim, Published, Publishing, RowsDeleted, TaskLog
from airflow_prs.store.port import Store

_LATER_MERGE: Final = "a later try of merge has begun, so this one publishes nothing."

_T = TypeVar("_T")


class StartOverError(Exception):
    """What a merge has read is no longer all: it has to read again."""


class _PlanBegunError(Exception):
    """A plan has begun, which may continue the folder."""


class Merge:
    """
    An attempt to publish the result of a run.

    Of all merges of a run the newest claimant publishes. Merges are ordered by execution and try number; of two with
    the same numbers the later claim is newer.

    :param output: store of the result.
    :param folder: name of the run folder.
    :param execution: number of the execution that it was started for; None: the newest one.
    :param try_number: number of this try; None: nobody counts, so it is one more than that of the last claim.
    :param key: what it is going to write; None: nothing, but it is to be known what was published.
    :ivar number: number of its claim.
    """

    def __init__(
        self,
        log: TaskLog,
        output: Store,
        *,
        folder: str,
        execution: int | None = None,
        try_number: int | None = None,
        key: str | None,
    ) -> None:
        self._log = log
        self._output = output
        self._folder = folder
        self._execution = execution
        self._try_number = try_number
        self._key = key
        self._uploads: dict[str, str] = {}
        self._known_execution = -1
        self.number = -1

    def run(self, attempt: Callable[[], _T]) -> _T:
        """
        Claim, revoke the uploads of earlier merges, and call a function, again if more was committed meanwhile.

        :param attempt: reads what was committed, and calls ``publish`` and ``note_published``.
        :raises SupersededError: if a later merge has claimed, or plan has begun another folder.
        :raises RunFolderError: if plan has left no execution.
        """
        while True:
            self._uploads = {} if self._key is None else {self._key: self._output.new_upload(self._key)}
            try:
                self._claim()
                return attempt()
            except StartOverError:
                continue
            finally:
                self._revoke(self._uploads)

    def check(self) -> None:
        """
        Check that this merge may still publish what it has read.

        :raises SupersededError: if a later merge has claimed, or plan has begun another folder.
        :raises StartOverError: if plan has continued this folder, under other terms.
        """
        self._check(self._log.read())

    def publish(
        self,
        write: Callable[[IO[bytes]], object],
        *,
        positions: Mapping[int, int],
        probe: Callable[[], Mapping[int, int]],
    ) -> None:
        """
        Write the output, and let it appear.

        :param write: writes the output; it is not called without a key.
        :param positions: by number of each shard, the position up to which the output goes.
        :param probe: returns the positions of now.
        :raises SupersededError: see ``check``; nothing has appeared, except if a later merge claims at this moment.
        :raises StartOverError: if the shards have got further; the output may have appeared. Or if the upload is gone,
            though no later merge has claimed: for example, another run has replaced the output meanwhile.
        """
        try:
            with self._writer() as out:
                if out is not None:
                    write(out)
                _require_same(positions, probe())
                self._log.append(self._make_publishing)
        except SupersededError:
            self.check()
            raise StartOverError from None
        _require_same(positions, probe())

    def note_published(self, *, positions: Mapping[int, int], result: str, status: str, reports: str) -> None:
        """
        Append that the output has appeared.

        :raises SupersededError: if a later merge has claimed.
        """

        def make(history: History) -> Published:
            self._check_claims(history)
            return Published(
                process=self._log.process,
                claim=self.number,
                positions=positions,
                result=result,
                status=status,
                reports=reports,
            )

        self._log.append(make)

    def note_rows_deleted(self) -> bool:
        """
        Append that the rows of the published output are deleted from now on.

        :return: False: nothing was appended, since a plan has begun, which may continue this folder.
        :raises SupersededError: see ``check``.
        :raises StartOverError: if plan has continued this folder.
        """
        version = self._output_version()

        def make(history: History) -> RowsDeleted:
            self._check(history)
            if history.is_being_planned:
                raise _PlanBegunError
            return RowsDeleted(process=self._log.process, folder=self._folder, version=version)

        try:
            self._log.append(make)
        except _PlanBegunError:
            return False
        return True

    def is_in_place(self, deleted: RowsDeleted) -> bool:
        """Return whether what was published before rows were deleted is still in its place."""
        return deleted.version == self._output_version()

    def _output_version(self) -> str:
        found = None if self._key is None else self._output.stat(self._key)
        return "" if found is None else found.version

    def _claim(self) -> None:
        self.number = self._log.append(self._make_claim)
        for record in self._log.history[: self.number]:
            if isinstance(record, MergeClaim):
                self._revoke(record.uploads)

    def _revoke(self, uploads: Mapping[str, str]) -> None:
        for key, upload in uploads.items():
            self._output.revoke(key, upload)

    def _make_claim(self, history: History) -> MergeClaim:
        self._check_claims(history)
        self._known_execution = self._check_folder(history)
        if self._execution is None:
            self._execution = self._known_execution
        newest = history.newest_claim()
        earlier = None if newest is None else history.claim(newest)
        tried = earlier.try_number if earlier is not None and earlier.execution == self._execution else 0
        if self._try_number is None:
            self._try_number = tried + 1
        if earlier is not None and (earlier.execution, earlier.try_number) > (self._execution, self._try_number):
            raise SupersededError(_LATER_MERGE)
        return MergeClaim(
            process=self._log.process,
            execution=self._execution,
            try_number=self._try_number,
            folder=self._folder,
            uploads=self._uploads,
        )

    def _make_publishing(self, history: History) -> Publishing:
        self._check(history)
        return Publishing(process=self._log.process, claim=self.number)

    def _check(self, history: History) -> None:
        self._check_claims(history)
        if self._check_folder(history) != self._known_execution:
            raise StartOverError

    def _check_claims(self, history: History) -> None:
        """Check that nobody has claimed since this merge has."""
        if self.number >= 0 and history.newest_claim() != self.number:
            raise SupersededError(_LATER_MERGE)

    def _check_folder(self, history: History) -> int:
        """Check that the newest execution has this folder, and return its number."""
        newest = history.newest_execution()
        if newest is None:
            raise RunFolderError("the task log holds no execution of plan. Clear the plan task.")
        if (execution := history.execution(newest)).folder != self._folder:
            raise SupersededError(
                f"plan has run again since: {execution.folder} is newer than {self._folder}, so nothing is published "
                "from the older one. The tasks after the newer plan publish their own result."
            )
        return newest

    def _writer(self) -> AbstractContextManager[IO[bytes] | None]:
        for key, upload in self._uploads.items():
            return self._output.writer(key, upload)
        return nullcontext()


def _require_same(positions: Mapping[int, int], now: Mapping[int, int]) -> None:
    if positions != now:
        raise StartOverError
