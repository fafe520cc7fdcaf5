"""``show --log``: print the logs of a run, a line for each record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from airflow_prs.records import LIMITS, Limits, Shard
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.loans import REQUEST
from airflow_prs.run_folder.outcomes import Content
from airflow_prs.run_folder.run_log import GatekeeperAttempt, RunRecord
from airflow_prs.run_folder.shard_log import (
    LOAN_RECORD,
    OWN_LOG,
    SHARD_RECORD,
    loan_log,
    request_log,
    shard_log,
    unpack_record,
)
from airflow_prs.run_folder.shard_records import Epoch, LoanRecord, ShardRecord
from airflow_prs.run_folder.task_log import (
    Abandoned,
    Execution,
    MergeClaim,
    PlanClaim,
    Published,
    Publishing,
    Removing,
    RowsDeleted,
    TaskRecord,
)
from airflow_prs.wording import counted


def show_log(folder: RunFolder) -> int:
    """
    Print the logs of a run, and return the exit code.

    :raises RunFolderError: if a record is damaged.
    """
    for line in _lines(folder):
        print(line)  # noqa: T201 - the command's output
    return 0


def _lines(folder: RunFolder) -> Iterator[str]:
    yield f"task log of {folder.path.parent}"
    for number, step in enumerate(folder.open_task_log().read()):
        yield _line(number, step.at, _describe_task_record(step))
    yield f"\nrun log of {folder.path}"
    for number, said in enumerate(folder.read_run_log().records):
        yield _line(number, said.at, _describe_run_record(said))
    manifest = folder.read_manifest()
    borrowing = folder.read_borrowing_shards(manifest, folder.read_settings().config.node_count)
    for shard in (*manifest.shards, *(state.shard for state in borrowing)):
        yield f"\n{shard.label}"
        for record in shard_log(folder.store, shard).read_all():
            header = SHARD_RECORD.validate_json(record.header)
            content = unpack_record(record, header.outcomes, OWN_LOG)
            yield _line(record.number, header.at, _describe_shard_record(record.number, header, content))
        yield from _loan_lines(folder, shard)


def _loan_lines(folder: RunFolder, shard: Shard) -> Iterator[str]:
    for request in request_log(folder.store, shard).read_all():
        asked = REQUEST.validate_json(request.header)
        yield f"request {request.number} of {asked.borrower.node} to {shard.label}"
        for record in loan_log(folder.store, shard, request.number).read_all():
            header = LOAN_RECORD.validate_json(record.header)
            content = unpack_record(record, header.outcomes, request.number)
            yield _line(record.number, header.at, _describe_loan_record(header, content))


def _line(number: int, at: float, text: str) -> str:
    moment = f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S.%f}"[:-3] if at else "-"
    return f"{number:>6}  {moment:<12}  {text}"


def _describe_task_record(record: TaskRecord) -> str:
    match record:
        case PlanClaim():
            text = "plan begins"
        case Execution():
            text = f"execution of plan: folder {record.folder}"
        case Abandoned():
            text = f"folder {record.folder} is not continued: {record.reason}"
        case MergeClaim():
            text = f"merge begins: execution {record.execution}, try {record.try_number}, folder {record.folder}"
        case Publishing():
            text = f"merge of record {record.claim} publishes"
        case Published():
            text = f"merge of record {record.claim} has published ({record.status}): {record.result}"
        case Removing():
            text = "the run is being removed"
        case RowsDeleted():
            text = f"the rows of folder {record.folder} are deleted"
    return text


def _describe_run_record(record: RunRecord) -> str:
    if (abort := record.abort) is not None:
        bound = f"{_epoch(abort.epoch)} and older ones"
        return f"abort of {bound} by {record.author}, {abort.kind.value}: {abort.verdict.reason}"
    if record.limits is not None:
        return f"limits by {record.author}: {_limits(record.limits)}"
    return "gatekeeper" if record.gatekeeper is None else _describe_gatekeeper(record.gatekeeper)


def _describe_gatekeeper(attempt: GatekeeperAttempt) -> str:
    waits = "" if attempt.has_trigger else ", waits without a trigger"
    return f"gatekeeper, try {attempt.try_number}, {_epoch(attempt.epoch)}{waits}"


def _limits(limits: Limits) -> str:
    return ", ".join(f"{name} {getattr(limits, name)}" for name in LIMITS)


def _describe_shard_record(number: int, record: ShardRecord, content: Content) -> str:
    claim, progress = record.claim, record.progress
    kind = "commit"
    if record.is_claim:
        kind = f"claim by {claim.writer.node}, try {claim.try_number}, {_epoch(claim.epoch)}"
    parts = [
        kind,
        *_describe_content(content),
        f"{progress.done:,} of {progress.total:,} done" + (f", {progress.failed:,} failed" if progress.failed else ""),
        f"granted below {record.granted}",
    ]
    if record.trying is not None:
        parts.append("next alone: mini-batch {}, try {}".format(*record.trying))
    parts += [f"lends {loan.first} to {loan.end - 1} (request {loan.number})" for loan in record.loans]
    if record.reopened == number:
        parts.append("what had failed is tried again")
    if record.checkpoint is not None and record.checkpoint.number == number:
        parts.append("checkpoint")
    if record.closing is not None:
        parts.append(f"ends: {record.closing.value}")
    return "; ".join(parts)


def _describe_loan_record(record: LoanRecord, content: Content) -> str:
    stretch = f"{record.first} to {record.end - 1}" if record.end > record.first else "nothing"
    parts = [f"{record.status.value}: {stretch}", *_describe_content(content)]
    if record.granted > record.first:
        parts.append(f"{record.progress.done:,} done, granted below {record.granted}")
    return "; ".join(parts)


def _describe_content(content: Content) -> Iterator[str]:
    if len(content.outcomes):
        yield counted(len(content.outcomes), "outcome")
    if len(content.tries):
        yield counted(len(content.tries), "failed try", "failed tries")


def _epoch(epoch: Epoch) -> str:
    return f"epoch {epoch.execution}.{epoch.clear}"
