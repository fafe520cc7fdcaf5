"""GatekeeperSensor: goes on, completes or aborts a run by its cumulative counts."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator

from airflow_prs.airflow_side.exceptions import AirflowRescheduleException, AirflowSensorTimeout, TaskDeferralError
from airflow_prs.airflow_side.failures import no_retry_where_hopeless
from airflow_prs.airflow_side.handover import planned_folder
from airflow_prs.airflow_side.shard_states import ShardStates, read_shard_states
from airflow_prs.airflow_side.supervision import EXECUTION_LINGERS, is_supervised
from airflow_prs.errors import IncompleteRunError, RunAbortedError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from airflow_prs.records import Progress, StoredVerdict
    from airflow_prs.thresholds.watch import Watch

TRIGGERER_ANSWERS_WITHIN = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(seconds=30)
_REASONS_SHOWN = 3
_NOTHING_MISSING = (
    "Every mini-batch has an outcome, but a shard has failed as a task. Clear it, gatekeeper and merge together: with "
    "nothing left to do, it ends at once."
)


class GatekeeperSensor(BaseSensorOperator):
    """
    Watches the counts of a run beside its shards.

    Never holds a worker slot while it waits: it defers to a trigger, or gives its slot back by rescheduling where no
    triggerer answers, and under `airflow dags test`, where a trigger would run in line and keep the shards from their
    turn. It has no time limit of its own: a run may take days, and it ends with the shards.

    :param plan_task_id: the task that names the run folder.
    :param shards_task_id: the mapped task whose instances are the shards.
    """

    def __init__(self, *, plan_task_id: str, shards_task_id: str, **kwargs: Any) -> None:
        # Named here, so that nobody's default_args reach them.
        super().__init__(mode="reschedule", soft_fail=False, never_fail=False, silent_fail=False, **kwargs)
        self.plan_task_id = plan_task_id
        self.shards_task_id = shards_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at the run: return a summary of a complete one, fail on a verdict, else wait."""
        with no_retry_where_hopeless():
            return self._look(context)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Look again after the trigger has seen something."""
        from airflow_prs.triggers.gatekeeper import Seen

        if event["seen"] == Seen.NOTHING.value:
            return self._look_without_trigger(context, f"the triggerer says: {event['message']}")
        return self.execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; without a trigger from now on where none answered or it broke."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSensorTimeout, TaskDeferralError) as error:
            return self._look_without_trigger(context, f"no triggerer has answered: {error}")

    def _look_without_trigger(self, context: Context, reason: str) -> dict[str, Any]:
        self.log.warning("The gatekeeper goes on by rescheduling, since %s", reason)
        ti = context["ti"]
        folder = planned_folder(ti, self.plan_task_id)
        claim = folder.open_gatekeeper(try_number=ti.try_number, task_instance_id=str(ti.id), max_tries=ti.max_tries)
        folder.note_without_trigger(claim.attempt)
        return self.execute(context)

    def _look(self, context: Context) -> dict[str, Any]:
        from airflow_prs.thresholds.watch import open_watch

        ti = context["ti"]
        folder = planned_folder(ti, self.plan_task_id)
        claim = folder.open_gatekeeper(try_number=ti.try_number, task_instance_id=str(ti.id), max_tries=ti.max_tries)
        watch = open_watch(folder, attempt=claim.attempt, set_aside=frozenset(claim.set_aside))
        # First the states, then the counts: what a shard committed before it ended is in them.
        states = read_shard_states(ti.dag_id, ti.run_id, self.shards_task_id)
        is_final = not (watch.manifest.shards and states.can_any_run)
        sight = watch.look(is_final=is_final)
        if sight.verdict is not None:
            abort(watch, sight.verdict)
        if is_final:
            return self._conclude(ti, watch, states, sight.progress)
        if is_supervised() and not folder.is_without_trigger(claim.attempt):
            self._defer(ti, watch)
        raise AirflowRescheduleException(_next_look(context))  # type: ignore[no-untyped-call]

    def _conclude(
        self, ti: RuntimeTaskInstanceProtocol, watch: Watch, states: ShardStates, progress: Progress
    ) -> dict[str, Any]:
        if progress.done < progress.total or states.failed:
            fail_incomplete(watch, progress, self._reasons(ti, states))
        self.log.info("All %s mini-batches have an outcome, and the thresholds hold", progress.total)
        return asdict(progress)

    def _reasons(self, ti: RuntimeTaskInstanceProtocol, states: ShardStates) -> list[str]:
        shown = states.failed[:_REASONS_SHOWN]
        if not shown:
            return []
        texts = ti.xcom_pull(self.shards_task_id, key="error", map_indexes=shown)
        return [f"shard {number}: {text}" for number, text in zip(shown, texts, strict=False) if text]

    def _defer(self, ti: RuntimeTaskInstanceProtocol, watch: Watch) -> NoReturn:
        from airflow_prs.triggers.gatekeeper import LONGEST_WATCH, GatekeeperTrigger

        trigger = GatekeeperTrigger(
            folder=str(watch.folder.path),
            attempt=watch.attempt,
            set_aside=sorted(watch.set_aside),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            shards_task_id=self.shards_task_id,
            until=(datetime.now(timezone.utc) + LONGEST_WATCH).timestamp(),
        )
        self.defer(trigger=trigger, method_name=self.resume.__name__, timeout=TRIGGERER_ANSWERS_WITHIN)


def abort(watch: Watch, verdict: StoredVerdict) -> NoReturn:
    """Report an aborted run, and fail."""
    from airflow_prs.report.reports import abort_message, first_failures_of, write_reports
    from airflow_prs.run_folder.committed import read_committed

    committed = read_committed(watch.folder, watch.manifest)
    write_reports(watch.folder, watch.settings, watch.manifest, status="aborted", result=None, committed=committed)
    raise RunAbortedError(abort_message(verdict, first_failures_of(committed), watch.folder))


def fail_incomplete(watch: Watch, progress: Progress, reasons: list[str]) -> NoReturn:
    """Report a run whose shards failed for good, and fail."""
    from airflow_prs.report.reports import first_failures_of, incomplete_message, write_reports
    from airflow_prs.run_folder.committed import read_committed

    committed = read_committed(watch.folder, watch.manifest)
    write_reports(watch.folder, watch.settings, watch.manifest, status="failed", result=None, committed=committed)
    news = _NOTHING_MISSING
    if progress.done < progress.total:
        news = incomplete_message(committed, first_failures_of(committed))
    raise IncompleteRunError("\n\n".join([*reasons, news]))


def _next_look(context: Context) -> datetime:
    """Rarely enough not to burden the scheduler with a long queue, soon enough for a short run."""
    # Under `airflow dags test`, where a task runs after the other, nothing changes but by the shards that are next.
    wait = EXECUTION_LINGERS if is_supervised() else timedelta()
    wait += timedelta(seconds=context.get("task_reschedule_count", 0))
    return datetime.now(timezone.utc) + min(wait, _LONGEST_WAIT)
