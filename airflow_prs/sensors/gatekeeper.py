"""GatekeeperSensor: waits for a run, completes it or aborts it, by its cumulative counts."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator

from airflow_prs.airflow_side.clears import this_try
from airflow_prs.airflow_side.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    TaskDeferralError,
)
from airflow_prs.airflow_side.handover import Handover, left_errors, left_positions, planned
from airflow_prs.airflow_side.run_link import RUN_LINKS, leave_link
from airflow_prs.airflow_side.shard_states import ShardTaskStates, read_shard_states
from airflow_prs.airflow_side.supervision import EXECUTION_LINGERS, is_supervised
from airflow_prs.airflow_side.tasks import as_task
from airflow_prs.sensors.short_runs import ShortRun

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from airflow_prs.errors import RunAbortedError
    from airflow_prs.run_folder.committed import Committed
    from airflow_prs.run_folder.run_log import Abort
    from airflow_prs.thresholds.watch import Watch

TRIGGERER_ANSWERS_WITHIN = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(seconds=30)
_REASONS_SHOWN = 3


class GatekeeperSensor(BaseSensorOperator):
    """
    Watches the counts of a run while its shards are running.

    The sensor holds no worker slot while it waits, but for the first ten seconds of a run that may end within them,
    while no shard waits for a slot. While a shard is running, it defers to a trigger. While all of them wait to run, it
    reschedules itself: a pool may count a deferred task, and keep its slot from the shards. So it does where no
    triggerer answers, and under `airflow dags test`, where the trigger would run before the shards and never end. It
    has no time limit of its own: a run may take days, and the sensor ends with the shards.

    :param plan_task_id: the id of the task that returns the run folder.
    :param shards_task_id: the id of the mapped task whose instances are the shards.
    :param deferrable: defer; False: reschedule from the start. Airflow's option ``[operators] default_deferrable`` has
        no effect: it is False unless somebody sets it.
    """

    operator_extra_links = RUN_LINKS

    def __init__(self, *, plan_task_id: str, shards_task_id: str, deferrable: bool = True, **kwargs: Any) -> None:
        # Explicit, so that default_args do not change them.
        super().__init__(mode="reschedule", soft_fail=False, never_fail=False, silent_fail=False, **kwargs)
        self.plan_task_id = plan_task_id
        self.shards_task_id = shards_task_id
        self.deferrable = deferrable

    @as_task
    def execute(self, context: Context) -> dict[str, Any]:
        """Return a summary if the run is complete, raise if it is aborted, else wait."""
        is_first = is_supervised() and not context.get("task_reschedule_count")
        return self._execute(context, short_run=ShortRun() if is_first else None)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Look again after the trigger has fired."""
        from airflow_prs.triggers.gatekeeper import Seen

        if event["seen"] == Seen.NOTHING.value:
            return self._look_without_trigger(context, f"the triggerer reports: {event['message']}")
        return self._look_again(context)

    @as_task
    def _look_again(self, context: Context) -> dict[str, Any]:
        return self._execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral; without a trigger from now on if no triggerer answered, or the trigger failed."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSensorTimeout, TaskDeferralError) as error:
            return self._look_without_trigger(context, f"no triggerer has answered: {error}")

    @as_task
    def _look_without_trigger(self, context: Context, reason: str) -> dict[str, Any]:
        self.log.warning("The gatekeeper continues by rescheduling: %s", reason)
        return self._execute(context, has_trigger=False)

    def _execute(
        self, context: Context, *, short_run: ShortRun | None = None, has_trigger: bool = True
    ) -> dict[str, Any]:
        from airflow_prs.run_folder.committed import read_committed
        from airflow_prs.run_folder.folder import RunFolder
        from airflow_prs.thresholds.pace import describe_progress
        from airflow_prs.thresholds.watch import CERTAIN_AFTER_S, open_watch

        ti = context["ti"]
        leave_link(ti)
        handover = self._planned(context)
        folder = RunFolder(handover.folder)
        attempt = folder.run_log().open_gatekeeper(this_try(context, handover.execution), has_trigger=has_trigger)
        watch = open_watch(folder, attempt.epoch)
        while True:
            # First the states, then the counts: these include what a shard committed before it ended.
            states = read_shard_states(ti.dag_id, ti.run_id, self.shards_task_id)
            if not (watch.manifest.shards and states.can_any_run):
                return self._conclude(context, watch, states)
            look = watch.look(states)
            # What run() returns during a drain belongs into the reports.
            if look.abort is not None and not (look.abort.is_drain and states.is_any_running):
                raise _aborted(watch, look.abort, read_committed(watch.folder, watch.manifest))
            if short_run is not None and short_run.may_end_soon(states, look.progress):
                time.sleep(folder.intervals.run_look_s)
                continue
            if states.is_any_running and self.deferrable and is_supervised() and attempt.has_trigger:
                self._defer(ti, watch)
            if not watch.suspects_abort:
                self.log.info("%s", describe_progress(look.progress))
                raise AirflowRescheduleException(_next_look(context))  # type: ignore[no-untyped-call]
            time.sleep(CERTAIN_AFTER_S)

    def _planned(self, context: Context) -> Handover:
        """Return the XCom of plan, or look again later if plan was cleared, and is going to leave another one."""
        ti = context["ti"]
        try:
            return planned(ti, self.plan_task_id)
        except AirflowFailException:
            # `airflow tasks test` runs this task alone: no plan is going to run.
            if not (is_supervised() and read_shard_states(ti.dag_id, ti.run_id, self.plan_task_id).can_any_run):
                raise
            self.log.info("The gatekeeper waits until %s, which was cleared, has ended", self.plan_task_id)
            raise AirflowRescheduleException(_next_look(context)) from None  # type: ignore[no-untyped-call]

    def _conclude(self, context: Context, watch: Watch, states: ShardTaskStates) -> dict[str, Any]:
        """Return the counts of a complete run, or raise what ended another one."""
        from airflow_prs.report.reports import fresh_tries_advice
        from airflow_prs.report.summary import headline_of
        from airflow_prs.result.concluding import conclude_incomplete
        from airflow_prs.run_folder.committed import read_committed

        if (abort := watch.binding()) is not None:
            raise _aborted(watch, abort, read_committed(watch.folder, watch.manifest))
        ti = context["ti"]
        positions = left_positions(ti, self.shards_task_id, watch.folder)
        committed = read_committed(watch.folder, watch.manifest, positions)
        # Storage may have lagged for a while. What was cleared meanwhile shows its old failures until it claims.
        if watch.manifest.shards and read_shard_states(ti.dag_id, ti.run_id, self.shards_task_id).can_any_run:
            raise AirflowRescheduleException(_next_look(context))  # type: ignore[no-untyped-call]
        look = watch.conclude(committed.states)
        if look.abort is not None:
            raise _aborted(watch, look.abort, committed)
        progress = look.progress
        if progress.done == progress.total and not states.failed:
            summary = asdict(progress)
            if advice := fresh_tries_advice(committed.states):
                self.log.warning("%s", advice)
                summary["advice"] = advice
            if (reused_from := watch.folder.read_settings().reused_from) is not None:
                self.log.info("completed: no mini-batch runs, the result of %s is reused", reused_from)
            else:
                self.log.info("%s", headline_of(progress))
            return summary
        errors = left_errors(ti, self.shards_task_id, states.failed[:_REASONS_SHOWN])
        raise conclude_incomplete(watch.folder.read_settings(), committed, errors)

    def _defer(self, ti: RuntimeTaskInstanceProtocol, watch: Watch) -> NoReturn:
        from airflow_prs.triggers.gatekeeper import LONGEST_WATCH, GatekeeperTrigger

        trigger = GatekeeperTrigger(
            folder=str(watch.folder.path),
            execution=watch.epoch.execution,
            clear=watch.epoch.clear,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            shards_task_id=self.shards_task_id,
            until=(datetime.now(timezone.utc) + LONGEST_WATCH).timestamp(),
        )
        self.defer(trigger=trigger, method_name=self.resume.__name__, timeout=TRIGGERER_ANSWERS_WITHIN)


def _aborted(watch: Watch, abort: Abort, committed: Committed) -> RunAbortedError:
    from airflow_prs.result.concluding import conclude_aborted

    return conclude_aborted(watch.folder.read_settings(), committed, abort.verdict)


def _next_look(context: Context) -> datetime:
    """Return when to look next: soon for a short run, less often for a long queue, to spare the scheduler."""
    # `airflow dags test` runs one task at a time: nothing changes until the shards run, so it must not wait.
    wait = EXECUTION_LINGERS if is_supervised() else timedelta()
    wait += timedelta(seconds=context.get("task_reschedule_count", 0))
    return datetime.now(timezone.utc) + min(wait, _LONGEST_WAIT)
