"""
EntryScript: what a script may know of the process that it runs in.

Scripts import it as ``azureml_user.parallel_run``, ``entry_script`` or ``airflow_prs.entry_script``.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from types import ModuleType

NAMES = ("azureml_user.parallel_run", "airflow_prs.entry_script", "entry_script")


class EntryScript:
    """
    What an entry script may know of the process that it runs in; there is one, however often it is asked for.

    Outside a worker process, as in the script's own tests, folders are the current one and the logger is a plain one.
    """

    _only: EntryScript | None = None

    logger: logging.Logger
    """Writes to the file of this process among the user's logs, and to stderr like any logger."""
    log_dir: str
    """Folder of that file; the script may put files of its own there."""
    output_dir: str
    """The output folder."""
    agent_name: str
    """Name of the worker process on its node, such as ``process000``."""
    working_dir: str
    """The process's private folder, gone when it ends."""
    dir: str
    """Folder of the entry script."""

    def __new__(cls) -> EntryScript:  # noqa: PYI034 - Self is newer than the oldest Python that this runs under
        """Give the one that there is."""
        if cls._only is None:
            here = os.getcwd()
            cls._only = super().__new__(cls)
            cls._only.logger = logging.getLogger("EntryScript")
            cls._only.log_dir = cls._only.output_dir = cls._only.working_dir = cls._only.dir = here
            cls._only.agent_name = "process000"
        return cls._only


def fill_in(*, folder: str, output_dir: str, agent_name: str, script_log: str, level: str) -> None:
    """
    Make the EntryScript of this process.

    :param folder: folder of the entry script.
    :param output_dir: the output folder.
    :param agent_name: name of this worker process.
    :param script_log: file that its logger writes to.
    :param level: logging level of this logger.
    """
    entry_script = EntryScript()
    entry_script.dir = folder
    entry_script.output_dir = output_dir
    entry_script.agent_name = agent_name
    entry_script.log_dir = os.path.dirname(script_log)
    os.makedirs(entry_script.log_dir, exist_ok=True)
    # Opened with the first line only: a script that does not log leaves no empty file.
    handler = logging.FileHandler(script_log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    entry_script.logger.setLevel(level)
    entry_script.logger.addHandler(handler)


def offer_names(script_folders: list[str]) -> None:
    """
    Make EntryScript importable under every name that scripts know it by.

    :param script_folders: where a file ``entry_script.py`` is the user's own and comes first.
    """
    for name in NAMES:
        if not any(os.path.isfile(os.path.join(folder, f"{name}.py")) for folder in script_folders):
            _offer(name)


def _offer(name: str) -> None:
    module = ModuleType(name, __doc__)
    module.EntryScript = EntryScript  # type: ignore[attr-defined]
    sys.modules[name] = module
    package, _, child = name.rpartition(".")
    if package and package not in sys.modules and importlib.util.find_spec(package) is None:
        parent = sys.modules[package] = ModuleType(package)
        parent.__path__ = []
        setattr(parent, child, module)
