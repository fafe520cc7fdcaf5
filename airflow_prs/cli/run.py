"""``run``: run all shards of a job one after the other, each with all its worker processes, then merge the result."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from airflow_prs.cli.console import progress_bar, shown_log
from airflow_prs.cli.find import find_run_folder
from airflow_prs.cli.job import Job, plan_job
from airflow_prs.cli.job_file import read_variables
from airflow_prs.errors import (
    ConfigError,
    IncompleteRunError,
    PrsError,
    PublicationError,
    RunAbortedError,
    RunFolderError,
)
from airflow_prs.node.masking import Masker
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.running import run_node
from airflow_prs.records import Manifest, Shard
from airflow_prs.result.concluding import conclude_failed
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.wording import HOW_TO_GO_ON


def run(job: Job, output: str, *, nodes: int) -> int:
    """
    Run a job, and print the path of its result.

    :param output: folder of the result.
    :param nodes: number of shards.
    :return: the exit code.
    """
    with shown_log():
        folder = plan_job(job, output, nodes=nodes).folder
    return _run(folder, job.variables)


def resume(path: str, config: str | None) -> int:
    """
    Continue a run that was interrupted, and print the path of its result.

    :param path: its run folder, or the output folder, which means its newest run.
    :param config: the job file, which is needed if it has environment variables; None: not given.
    :return: the exit code.
    :raises ConfigError: if the job file is needed, but not given.
    """
    folder = find_run_folder(path)
    names = folder.read_settings().variable_names
    if names and config is None:
        problem = f"the job file is missing: the run sets {', '.join(names)}, and only that file has the values"
        raise ConfigError([problem])
    return _run(folder, {} if config is None else read_variables(Path(config).absolute()))


def conclude(folder: RunFolder) -> int:
    """
    Publish the result of a run, print its path, and return the exit code.

    :raises PrsError: if a threshold is exceeded, mini-batches have no outcome, or the result cannot be written.
    """
    try:
        location = merge_run(folder).location
    except (RunAbortedError, IncompleteRunError, PublicationError, RunFolderError) as error:
        raise _for_shell(error, folder) from None
    print(location)  # noqa: T201 - the command's output
    return 0


def _run(folder: RunFolder, variables: Mapping[str, str]) -> int:
    manifest = folder.read_manifest()
    run_log = folder.run_log()
    run_log.follow()
    # Who continues a run that was aborted wants what a clear does in Airflow.
    clear_number = 0 if run_log.aborted is None else run_log.aborted.clear + 1
    with shown_log() as console:
        logging.getLogger(__name__).info("The run folder is %s", folder.path)
        with progress_bar(console, folder, manifest.shards):
            _run_shards(folder, manifest, variables, clear_number)
        return conclude(folder)


def _run_shards(folder: RunFolder, manifest: Manifest, variables: Mapping[str, str], clear_number: int) -> None:
    try:
        for shard in manifest.shards:
            run_node(_request(folder, shard, variables, clear_number))
    except PrsError as error:
        conclude_failed(folder, error)
        raise _for_shell(error, folder) from None
    except KeyboardInterrupt:
        logging.getLogger(__name__).warning("%s", _how_to_continue(folder))
        raise


def _request(folder: RunFolder, shard: Shard, variables: Mapping[str, str], clear_number: int) -> NodeRequest:
    claim, task_try = folder.read_shard(shard).claim, TaskTry(try_number=1, clear_number=clear_number)
    if claim is not None:
        # The same max_tries: it shows no later try in Airflow that something was cleared.
        task_try = TaskTry(
            execution=claim.epoch.execution,
            clear_number=clear_number,
            try_number=claim.try_number + 1,
            max_tries=claim.max_tries,
        )
    return NodeRequest(
        folder=folder,
        shard_number=shard.number,
        task_try=task_try,
        environ=os.environ,
        variables=variables,
        redact=Masker(variables.values()),
        logger=logging.getLogger("airflow_prs.node"),
    )


def _for_shell(error: PrsError, folder: RunFolder) -> PrsError:
    """Return an error with the next steps in a shell instead of those in Airflow."""
    text = str(error).partition(f"\n\n{HOW_TO_GO_ON}")[0]
    return PrsError(f"{text}\n\n{_how_to_continue(folder)}")


def _how_to_continue(folder: RunFolder) -> str:
    return (
        f"{HOW_TO_GO_ON} if you change the script, the input or the configuration, run again, which starts over. "
        "Otherwise this command continues where the run stopped; after an abort, failed mini-batches get fresh tries:\n"
        f"airflow-prs run --resume {quote(str(folder.path))}"
    )
