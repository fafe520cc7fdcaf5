"""``runs limits``, ``drain``, ``cancel``, ``resume``, ``retry`` and ``publish``: steer a run."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
from collections.abc import Callable
from shlex import quote

from airflow_prs.cli.airflow_api import TOKEN_VARIABLE, find_api
from airflow_prs.cli.find import find_run_folder
from airflow_prs.errors import SteeringError
from airflow_prs.records import RunIdentity
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.steering.clearing import ClearAction, clear_request, tasks_to_clear, what_it_does
from airflow_prs.steering.orders import LIMITS, abort, change_limits, newest_abort

_ORDERS = {
    "limits": "change thresholds of a run; everybody judges by them from then on",
    "drain": "abort a run: nothing more is handed out, calls of run() that have begun finish and are kept",
    "cancel": "abort a run without waiting for run()",
}
_CLEARS = {
    ClearAction.RESUME: "clear shards that have work left, and what follows them: the run goes on where it stopped",
    ClearAction.RETRY: "clear shards that have failed mini-batches, too, which get fresh tries",
    ClearAction.PUBLISH: "clear gatekeeper and what follows it: an aborted run whose limits now hold is published",
}


def add_actions(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """
    Add the commands to a parser.

    :param add: adds a command with its name and what it does, and returns its parser.
    """
    for name, what in _ORDERS.items():
        command = add_run(add(name, what))
        command.add_argument("--author", help="who orders it (default: user@host)")
        if name == "limits":
            for limit in LIMITS:
                command.add_argument(f"--{limit.replace('_', '-')}", type=_limit, default=..., metavar="N")
    for action, what in _CLEARS.items():
        command = add_run(add(action.value, what))
        command.add_argument("--api-url", metavar="URL", help="base URL of Airflow's API (default: [api] base_url)")
        command.add_argument("--token", help=f"token of Airflow's API (default: {TOKEN_VARIABLE} of the environment)")
        command.add_argument("--dry-run", dest="is_dry", action="store_true", help="print what would be cleared")


def is_steering(action: str) -> bool:
    """Whether an action of ``runs`` is one of this module."""
    return action in _ORDERS or action in {clear.value for clear in _CLEARS}


def steer(options: argparse.Namespace) -> int:
    """
    Do what a command line orders, print what has changed, and return the exit code.

    :raises SteeringError: if the state of the run does not allow it.
    """
    folder = find_run_folder(options.folder, dag_id=options.dag_id, run_id=options.run_id)
    identity = folder.read_planned_settings().identity
    if options.action in _ORDERS:
        said = _order(folder, options)
    else:
        said = _clear(folder, identity, ClearAction(options.action), options)
    print(f"{identity.dag_id} · {identity.task_id} · {identity.run_id}: {said}")  # noqa: T201 - the output
    return 0


def add_run(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the arguments that say which run a command means, and return the command."""
    command.add_argument("folder", help="a run folder, or the output folder of a job: its newest run")
    command.add_argument("--dag-id", help="of an output folder: the newest run of this DAG")
    command.add_argument("--run-id", help="of an output folder: this run")
    return command


def _order(folder: RunFolder, options: argparse.Namespace) -> str:
    author = options.author or _user()
    if options.action != "limits":
        record = abort(folder, AbortKind(options.action), author)
        return f"{record.abort.verdict.reason if record.abort else ''}."
    given = {name: getattr(options, name) for name in LIMITS if getattr(options, name) is not ...}
    if not given:
        options.parser.error(f"a limit is missing: {', '.join('--' + name.replace('_', '-') for name in LIMITS)}")
    said = f"{change_limits(folder, given, author)}."
    if newest_abort(folder) is None:
        return said
    how = f"airflow-prs runs {ClearAction.RESUME.value} {quote(str(folder.path))}"
    return f"{said} The run stays aborted until it is cleared. To continue under the new limits: {how}"


def _clear(folder: RunFolder, identity: RunIdentity, action: ClearAction, options: argparse.Namespace) -> str:
    # The identity of a run of a shell, see job.plan_job; Airflow's plans are named by the id of their task instance.
    if identity.plan == identity.run_id:
        raise SteeringError(
            "this is a run of a shell, and no task of Airflow. To continue it: airflow-prs run --resume "
            f"{quote(str(folder.path))}"
        )
    api = find_api(options.api_url, options.token)
    tasks = tasks_to_clear(folder, identity.task_id, action, api.states(identity))
    cleared = api.clear(clear_request(identity.dag_id, identity.run_id, tasks, is_dry=options.is_dry))
    names = ", ".join(sorted(_name(each["task_id"], each["map_index"]) for each in cleared))
    return f"would clear {names}." if options.is_dry else f"cleared {names}. {what_it_does(action, tasks)}"


def _name(task_id: str, index: int) -> str:
    return task_id if index < 0 else f"{task_id}[{index}]"


def _limit(text: str) -> float | None:
    if text == "none":
        return None
    return float(text) if "." in text else int(text)


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = str(os.getuid())  # a container may have no name for its user
    return f"{name}@{socket.gethostname()}"
