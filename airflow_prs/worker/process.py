"""
A worker process, its whole life: check the environment, load the entry script, init(), run() and run(), shutdown().

Started by path as ``python -u process.py <channel_fd>``, under the interpreter of the chosen environment. It talks to
the supervisor over the channel alone; stdin, stdout and stderr are the user's.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

HERE = os.path.dirname(os.path.realpath(__file__))
PRIVATE_NAME = "_prs_worker"

if TYPE_CHECKING:
    from airflow_prs.worker import azureml_core, channel, entry_script, environment, failures, readers, rows, script
else:

    def _neighbour(name: str) -> ModuleType:
        """Load a module of this folder under a private name, so that every other name is the user's."""
        if PRIVATE_NAME not in sys.modules:
            package = sys.modules[PRIVATE_NAME] = ModuleType(PRIVATE_NAME)
            package.__path__ = [HERE]
        return importlib.import_module(f"{PRIVATE_NAME}.{name}")

    azureml_core = _neighbour("azureml_core")
    channel = _neighbour("channel")
    entry_script = _neighbour("entry_script")
    environment = _neighbour("environment")
    failures = _neighbour("failures")
    readers = _neighbour("readers")
    rows = _neighbour("rows")
    script = _neighbour("script")

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> int:
    """Live; the result is the exit code."""
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != HERE]
    supervisor = channel.Channel(int(sys.argv[1]))
    try:
        message = supervisor.receive()
        worker = None if message is None else _start(message["setup"], supervisor)
        if worker is None:
            return 1
        worker.serve()
    except channel.SupervisorGoneError:
        return 1
    return 0


def _start(setup: dict[str, Any], supervisor: channel.Channel) -> Worker | None:
    """Get as far as init() has returned, and say so; None if it failed, which is said, too."""
    process = os.getpid()
    stage = "environment"
    try:
        environment.check_environment(spec["kind"] for spec in setup["inputs"])
        rows_file = _open_rows(setup["rows_path"]) if setup["append_rows"] else None
        _set_the_scene(setup)
        stage = "import"
        user_script = script.load_script(setup["source"], setup["entry_script"], setup["argv"])
        stage = "init"
        user_script.init()
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, SystemExit among it
        _end_if_forked(process)
        supervisor.send({"failed": {"stage": stage, **failures.describe(error)}})
        return None
    _end_if_forked(process)
    supervisor.send({"ready": {**environment.versions(), "pid": process}})
    inputs = {spec["name"]: readers.make_reader(spec) for spec in setup["inputs"]}
    return Worker(inputs, user_script, rows_file, supervisor)


def _set_the_scene(setup: dict[str, Any]) -> None:
    """Provide what the entry script finds when it is imported: loggers and the names of the original."""
    logging.basicConfig(level=setup["logging_level"], format=LOG_FORMAT, stream=sys.stderr)
    logging.captureWarnings(True)  # noqa: FBT003 - the parameter is the function's name
    folder = os.path.dirname(os.path.join(setup["source"], setup["entry_script"]))
    entry_script.fill_in(
        folder=folder,
        output_dir=setup["output_dir"],
        agent_name=setup["process"],
        script_log=setup["script_log"],
        level=setup["logging_level"],
    )
    entry_script.offer_names([folder, setup["source"]])
    azureml_core.offer_names(setup["side_inputs"])


class Order(NamedTuple):
    """A mini-batch as the supervisor hands it out."""

    minibatch_index: int
    try_number: int
    input: str
    items: int
    partition: dict[str, Any] | None
    pieces: list[Any]

    def context(self, mini_batch: Any) -> script.MiniBatchContext:
        """Tell run() what it is working on."""
        values = {key: _value(value) for key, value in (self.partition or {}).items()}
        dataset = script.MiniBatchDataset(self.input, mini_batch, self.pieces)
        return script.MiniBatchContext(values, dataset, self.minibatch_index, self.try_number)


class Worker:
    """
    Answers one mini-batch after the other.

    :param inputs: name to reader.
    :param user_script: the entry script, whose init() has returned.
    :param rows_file: takes what run() returns; None: it is only counted.
    :param supervisor: the channel to the supervisor.
    """

    def __init__(
        self,
        inputs: dict[str, readers.FilesReader | readers.TableReader],
        user_script: script.Script,
        rows_file: rows.RowsFile | None,
        supervisor: channel.Channel,
    ) -> None:
        self._inputs = inputs
        self._script = user_script
        self._rows = rows_file
        self._supervisor = supervisor
        self._has_noted_surplus = False
        self._process = os.getpid()

    def serve(self) -> None:
        """Work until the supervisor says that there is nothing more, or is gone."""
        while True:
            message = self._supervisor.receive()
            if message is None:
                return
            if "close" in message:
                self._script.shutdown()
                _end_if_forked(self._process)
                return
            self._supervisor.send(self._try(Order(*message["run"])))

    def _try(self, order: Order) -> dict[str, Any]:
        """Run one mini-batch; whatever the user's code does, the answer is a message."""
        started, cpu = time.time(), time.process_time()
        began = ended = 0.0
        status = "LOAD_EXCEPTION"
        try:
            mini_batch = self._load(order)
            status = "RUN_EXCEPTION"
            context = order.context(mini_batch) if self._script.takes_context else None
            began = time.perf_counter()
            elements = rows.elements_of(self._script.run(mini_batch, context))
            ended = time.perf_counter()
            _end_if_forked(self._process)
            returned = len(elements)
            place = (0, 0, 0) if self._rows is None else self._rows.append(rows.as_text(elements))
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, SystemExit among it
            _end_if_forked(self._process)
            run_s = (ended or time.perf_counter()) - began if began else 0.0
            status = "RUN_BAD_RESULT" if isinstance(error, rows.BadResultError) else status
            timing = {"started": started, "run_s": run_s, "cpu_s": time.process_time() - cpu}
            return {
                "try_failed": {"index": order.minibatch_index, "status": status, **failures.describe(error), **timing}
            }
        if returned > order.items:
            self._note_surplus(returned, order.items)
        return {"done": [order.minibatch_index, returned, *place, started, ended - began, time.process_time() - cpu]}

    def _load(self, order: Order) -> Any:
        reader = self._inputs[order.input]
        mini_batch = reader.load(order.pieces, order.items)
        if reader.is_table:
            self._supervisor.send({"running": order.minibatch_index})
        return mini_batch

    def _note_surplus(self, returned: int, items: int) -> None:
        if not self._has_noted_surplus:
            self._has_noted_surplus = True
            self._supervisor.send({"note": f"run() returned {returned} elements for {items} items"})


def _open_rows(path: str) -> rows.RowsFile:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    return rows.RowsFile(channel.out_of_the_way(fd))


def _value(partition_value: Any) -> Any:
    """Read the value of a partition key; a moment comes as ``{"moment": "2026-03-01T00:00:00"}``."""
    if isinstance(partition_value, dict):
        return datetime.fromisoformat(partition_value["moment"])
    return partition_value


def _end_if_forked(process: int) -> None:
    """End a copy that the user's code made of this process: it has no business with the supervisor."""
    if os.getpid() != process:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
if __name__ == "__mp_main__":
    # A process that the user's multiprocessing has spawned: it imports the entry script, which asks for these names.
    entry_script.offer_names(sys.path)
