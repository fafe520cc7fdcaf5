"""What a person orders for a run: new limits, a drain, a cancel. Each order is a record in the run's log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from airflow_prs.errors import ConfigError, SteeringError
from airflow_prs.records import LIMITS, Limits, Ruling, Verdict
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import Abort, AbortKind, RunLog, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.steering.steerable import SteerableRun, epochs_of, read_steerable

_PAST = {AbortKind.CANCEL: "cancelled", AbortKind.DRAIN: "drained"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    Something that was changed in a run.

    :param at: when, in seconds since the epoch (UTC).
    :param author: who: a person, or ``plan``.
    :param what: what, in words.
    """

    at: float
    author: str
    what: str


def change_limits(folder: RunFolder, changes: Mapping[str, float | None], author: str) -> str:
    """
    Change limits of a run. All who judge the run use them from now on.

    An abort stays an abort: what it binds goes on only if it is cleared.

    :param changes: new values by name, see records.LIMITS; the other limits stay.
    :param author: who changes them.
    :return: what has changed, in words.
    :raises SteeringError: if a value is wrong, nothing changes, or the run cannot be changed any more.
    """
    if unknown := sorted(set(changes) - set(LIMITS)):
        raise SteeringError(f"{', '.join(unknown)}: no limit that can be changed; allowed: {', '.join(LIMITS)}.")
    log, said = folder.run_log(), ""

    def make() -> RunRecord:
        nonlocal said
        run = read_steerable(folder, log)
        check_limits(run)
        try:
            limits = run.settings.with_terms(changes).config.limits
        except ConfigError as error:
            raise SteeringError(str(error)) from None
        said = _describe_limits(run.limits, limits)
        if not said:
            raise SteeringError(f"nothing changes: {_list(run.limits, changes or LIMITS)} already.")
        return RunRecord(kind=RunRecordKind.LIMITS, author=author, limits=limits)

    log.append(make)
    return said


def check_limits(run: SteerableRun) -> None:
    """
    Check that the limits of a run can be changed.

    :raises SteeringError: if not; says why.
    """
    if run.is_published:
        raise SteeringError(
            "the run has published its result, and no shard has gone on since, so limits have no effect. To try failed "
            "mini-batches again, retry them."
        )


def abort(folder: RunFolder, kind: AbortKind, author: str, *, clear_number: int | None = None) -> RunRecord:
    """
    Abort a run: all that works on it now, and all that Airflow tries again without a clear.

    :param kind: cancel or drain.
    :param author: who aborts it.
    :param clear_number: the run's ``clear_number`` in Airflow; None: not known. Then tasks that were cleared and have
        not begun again are not bound.
    :return: the record in the run's log.
    :raises SteeringError: if there is nothing to abort.
    """
    log = folder.run_log()

    def make() -> RunRecord:
        verdict = Verdict(ruling=Ruling.ABORT, reason=f"{_PAST[kind]} by {author}")
        epoch = check_abort(read_steerable(folder, log), kind, clear_number=clear_number)
        return RunRecord(kind=RunRecordKind.ABORT, author=author, abort=Abort(verdict=verdict, epoch=epoch, kind=kind))

    record = log.append(make)
    if record is None:
        raise AssertionError("make() returns a record, or raises")
    return record


def check_abort(run: SteerableRun, kind: AbortKind, *, clear_number: int | None = None) -> Epoch:
    """
    Return the epoch that an abort of a run would bind, the newest one; see abort.

    :raises SteeringError: if there is nothing to abort; says why.
    """
    epochs = run.epochs
    if clear_number is not None:
        epochs.append(Epoch(run.executions[-1], clear_number))
    is_continued = len(run.executions) > 1
    if not epochs or (is_continued and max(epochs).execution < run.executions[-1]):
        raise SteeringError(
            "no task has begun to work on the run since it was planned, so there is nothing to abort yet. Try again "
            "when the gatekeeper or a shard has begun, or mark the DAG run as failed in Airflow."
        )
    newest = max(epochs)
    found = run.log.binding(newest)
    if found is not None and not (found.is_drain and kind is AbortKind.CANCEL):
        raise SteeringError(f"the run is aborted already: {found.verdict.reason}.")
    if run.is_done:
        raise SteeringError("every mini-batch has an outcome, so there is nothing to abort.")
    if run.history.is_being_planned and not any(shard.is_running for shard in run.shards):
        raise SteeringError(
            "plan has begun again, and no shard is running, so there is nothing to abort. Try again when plan has "
            "ended, or mark the DAG run as failed in Airflow."
        )
    return newest


def newest_abort(folder: RunFolder, log: RunLog, node_count: int) -> RunRecord | None:
    """
    Return the record of the abort that binds the newest attempts of a planned run; None: there is none.

    :param log: its run log, as far as it has been read.
    :param node_count: that of its newest execution.
    """
    if log.aborted is None:
        return None
    manifest = folder.read_manifest()
    states = folder.read_shards((shard, None) for shard in manifest.shards)
    epochs = list(epochs_of(log, [*states, *folder.read_borrowing_shards(manifest, node_count)]))
    binding = log.binding(max(epochs)) if epochs else None
    return next((record for record in log.records if record.abort is not None and record.abort is binding), None)


def changes(records: Iterable[RunRecord], limits: Limits) -> Iterator[Change]:
    """
    Yield the limits that were changed, and the aborts by persons, oldest first.

    :param records: of the run log.
    :param limits: the limits that plan has resolved first.
    """
    for record in records:
        what = ""
        if record.limits is not None:
            what, limits = _describe_limits(limits, record.limits), record.limits
        elif record.abort is not None and record.abort.kind is not AbortKind.THRESHOLD:
            what = _PAST[record.abort.kind]
        if what:
            yield Change(at=record.at, author=record.author, what=what)


def _describe_limits(before: Limits, after: Limits) -> str:
    old, new = asdict(before), asdict(after)
    return ", ".join(f"{name} {_shown(old[name])} -> {_shown(new[name])}" for name in LIMITS if old[name] != new[name])


def _list(limits: Limits, names: Iterable[str]) -> str:
    values = asdict(limits)
    return ", ".join(f"{name} is {_shown(values[name])}" for name in names)


def _shown(limit: float | None) -> str:
    if limit is None:
        return "none"
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
