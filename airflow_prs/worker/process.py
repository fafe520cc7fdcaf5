"""
A worker process: it checks the environment, loads the entry script, and calls init(), run() repeatedly, shutdown().

Started by path as ``python -u process.py <channel_fd>``, under the interpreter of the chosen environment. It talks to
the supervisor only over the channel; stdin, stdout and stderr belong to the entry script.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

HERE = os.path.dirname(os.path.realpath(__file__))
PRIVATE_NAME = "_prs_worker"

if TYPE_CHECKING:
    from airflow_prs.worker import channel, environment, failures, leaving, script, working
    from airflow_prs.worker.offered import azureml_core, entry_script
    from airflow_prs.worker.writing import formats, rows
else:

    def _neighbour(name: str) -> ModuleType:
        """Load a module of this folder under a private name, so that all other names are free for the user."""
        if PRIVATE_NAME not in sys.modules:
            package = sys.modules[PRIVATE_NAME] = ModuleType(PRIVATE_NAME)
            package.__path__ = [HERE]
        return importlib.import_module(f"{PRIVATE_NAME}.{name}")

    azureml_core = _neighbour("offered.azureml_core")
    channel = _neighbour("channel")
    entry_script = _neighbour("offered.entry_script")
    environment = _neighbour("environment")
    failures = _neighbour("failures")
    formats = _neighbour("writing.formats")
    leaving = _neighbour("leaving")
    rows = _neighbour("writing.rows")
    script = _neighbour("script")
    working = _neighbour("working")

HOPELESS = (ImportError, SyntaxError, SystemExit, entry_script.NotRetryable)
"""Exceptions of init() that another try would only repeat."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> int:
    """Run the worker process and return its exit code."""
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != HERE]
    supervisor = channel.Channel(int(sys.argv[1]))
    try:
        message = supervisor.receive()
        worker = None if message is None else _start(message["setup"], supervisor)
        if worker is None:
            return 1
        worker.live()
    except channel.SupervisorGoneError:
        return 1
    except channel.ChannelClosedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _start(setup: dict[str, Any], supervisor: channel.Channel) -> working.Worker | None:
    """Start until init() has returned, and report it to the supervisor; return None if a stage failed."""
    process = os.getpid()
    stage = "environment"
    try:
        environment.check_environment([*(spec["kind"] for spec in setup["inputs"]), *_kinds_of_rows(setup)])
        rows_file = _open_rows(setup, supervisor) if setup["append_rows"] else None
        _set_the_scene(setup, supervisor)
        stage = "import"
        user_script = script.load_script(setup["source"], setup["entry_script"], setup["argv"])
        stage = "init"
        user_script.init()
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, also SystemExit
        working.end_if_forked(process)
        is_hopeless = stage == "import" or (stage == "init" and isinstance(error, HOPELESS))
        chances = {"is_hopeless": is_hopeless, "is_final": isinstance(error, entry_script.NotRetryable)}
        # Send before the timeout starts, which may be 0.
        supervisor.send({"failed": {"stage": stage, **chances, **failures.describe(error)}})
        seconds = setup.get("exit_timeout_s", leaving.DEFAULT_S)
        leaving.end_within(seconds, f"{stage} failed", lambda text: supervisor.send({"note": text}))
        return None
    working.end_if_forked(process)
    concurrency = setup.get("concurrency", 1) if user_script.is_async else 1
    about = {"pid": process, "concurrency": concurrency, "has_shutdown": user_script.has_shutdown}
    supervisor.send({"ready": {**environment.versions(), **about}})
    return working.Worker(setup, user_script, rows_file, supervisor, concurrency)


def _set_the_scene(setup: dict[str, Any], supervisor: channel.Channel) -> None:
    """Set up what the entry script finds when it is imported: loggers, and the modules that Azure ML offers."""
    logging.basicConfig(level=setup["logging_level"], format=LOG_FORMAT, stream=sys.stderr)
    logging.captureWarnings(True)  # noqa: FBT003 - the parameter is the function's name
    folder = os.path.dirname(os.path.join(setup["source"], setup["entry_script"]))

    def send_log(lines: str) -> None:
        with contextlib.suppress(channel.SupervisorGoneError):  # the process will end soon
            supervisor.send({"log": lines})

    entry_script.fill_in(
        folder=folder,
        output_dir=setup["output_dir"],
        agent_name=setup["process"],
        log_dir=os.path.dirname(setup["script_log"]),
        level=setup["logging_level"],
        send_log=send_log,
    )
    entry_script.offer_names()
    azureml_core.offer_names(setup["side_inputs"])


def _kinds_of_rows(setup: dict[str, Any]) -> list[str]:
    wanted = setup.get("rows_format") if setup["append_rows"] else None
    return ["parquet rows"] if wanted is not None and wanted["format"] == "parquet" else []


def _open_rows(setup: dict[str, Any], supervisor: channel.Channel) -> rows.RowsFile:
    path = setup["rows_path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    writer = formats.make_writer(setup.get("rows_format"), supervisor.ask_layout)
    return rows.RowsFile(channel.out_of_the_way(fd), writer)


if __name__ == "__main__":
    sys.exit(main())
if __name__ == "__mp_main__":
    # A process that multiprocessing spawned in the entry script: it imports the script, which imports these names.
    entry_script.offer_names()
    azureml_core.offer_names({})
