"""What can be done with a run now, and why not."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import PrsError
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.steering.clearing import ClearAction, States, tasks_to_clear, what_it_does
from airflow_prs.steering.orders import check_abort, check_limits

if TYPE_CHECKING:
    from airflow_prs.run_folder.folder import RunFolder

_NEEDS_EDIT = "You may not edit runs of this DAG."
_WHAT = {
    "limits": "Changes how many failures the run allows, from now on.",
    "drain": "Aborts the run; calls of run() in flight finish, and what they return is kept.",
    "cancel": "Aborts the run immediately; calls of run() in flight are stopped.",
}


def describe_actions(
    folder: RunFolder, step: str, states: States, *, clear_number: int | None
) -> dict[str, dict[str, Any]]:
    """
    Return for each action whether it can be done, what it does or why it cannot be done, and the command for it.

    :param step: id of the step.
    :param states: what Airflow says of its tasks.
    :param clear_number: how often the DAG run was cleared; None: not known.
    """

    def clears(action: ClearAction) -> Callable[[], str]:
        return lambda: what_it_does(action, tasks_to_clear(folder, step, action, states))

    def aborts(kind: AbortKind) -> Callable[[], str]:
        def check() -> str:
            check_abort(folder, kind, clear_number=clear_number)
            return _WHAT[kind.value]

        return check

    def limits() -> str:
        check_limits(folder)
        return _WHAT["limits"]

    checks = {
        **{action.value: clears(action) for action in ClearAction},
        **{kind.value: aborts(kind) for kind in (AbortKind.DRAIN, AbortKind.CANCEL)},
        "limits": limits,
    }
    return {name: _describe(name, check, folder) for name, check in checks.items()}


def _describe(name: str, check: Callable[[], str], folder: RunFolder) -> dict[str, Any]:
    command = f"airflow-prs runs {name} {shlex.quote(str(folder.path))}"
    try:
        return {"can": True, "why": check(), "command": command}
    except PrsError as error:
        return {"can": False, "why": str(error), "command": command}


def without_rights(actions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the actions as somebody sees them who may not edit the run."""
    return {name: {**action, "can": False, "why": _NEEDS_EDIT} for name, action in actions.items()}


def without_storage(path: str, problem: str) -> dict[str, dict[str, Any]]:
    """
    Return the actions where the API server cannot read the run folder: the commands work where the storage is mounted.

    :param path: of the run folder.
    :param problem: why it cannot be read.
    """
    names = [*(action.value for action in ClearAction), *_WHAT]
    return {
        name: {"can": False, "why": problem, "command": f"airflow-prs runs {name} {shlex.quote(path)}"}
        for name in names
    }
