"""What can be done with a run now, and why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import PrsError
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.steering.clearing import ClearAction, States, tasks_to_clear, what_it_does
from airflow_prs.steering.orders import check_abort, check_limits
from airflow_prs.steering.steerable import read_steerable
from airflow_prs.wording import command

if TYPE_CHECKING:
    from airflow_prs.run_folder.folder import RunFolder

NEEDS_EDIT = "You may not edit runs of this DAG."
_LIMITS = "limits"
_WHAT = {
    _LIMITS: "Changes how many failures the run allows, from now on.",
    AbortKind.DRAIN.value: "Aborts the run; calls of run() in flight finish, and what they return is kept.",
    AbortKind.CANCEL.value: "Aborts the run immediately; calls of run() in flight are stopped.",
}
_NAMES = (*(action.value for action in ClearAction), *_WHAT)


def describe_actions(
    folder: RunFolder, step: str, states: States, *, clear_number: int | None
) -> dict[str, dict[str, Any]]:
    """
    Return for each action whether it can be done, what it does or why it cannot be done, and the command for it.

    :param step: id of the step.
    :param states: what Airflow says of its tasks.
    :param clear_number: how often the DAG run was cleared; None: not known.
    """
    path = str(folder.path)
    try:
        run = read_steerable(folder)
    except PrsError as error:
        return refuse_actions(path, str(error))

    def check(name: str) -> str:
        if name == _LIMITS:
            check_limits(run)
        elif name in _WHAT:
            check_abort(run, AbortKind(name), clear_number=clear_number)
        else:
            action = ClearAction(name)
            return what_it_does(action, tasks_to_clear(run, step, action, states))
        return _WHAT[name]

    return {name: _describe(name, path, check) for name in _NAMES}


def _describe(name: str, path: str, check: Callable[[str], str]) -> dict[str, Any]:
    try:
        return _action(name, path, check(name), can=True)
    except PrsError as error:
        return _action(name, path, str(error), can=False)


def refuse_actions(path: str, why: str) -> dict[str, dict[str, Any]]:
    """
    Return the actions where none can be done, with the commands, which somebody else may use, or another machine.

    :param path: of the run folder.
    """
    return {name: _action(name, path, why, can=False) for name in _NAMES}


def _action(name: str, path: str, why: str, *, can: bool) -> dict[str, Any]:
    return {"can": can, "why": why, "command": command("runs", name, path)}
