"""The command line, and the exit codes of the commands."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_prs.cli.tables import TABLES
from airflow_prs.config.arguments import may_need_no_inputs
from airflow_prs.config.dataset_paths import as_text
from airflow_prs.errors import PrsError
from airflow_prs.object_storage import ambient
from airflow_prs.object_storage.addresses import find_problem, shown_path
from airflow_prs.object_storage.connecting import use_connections

if TYPE_CHECKING:
    from airflow_prs.cli.job import Job

_DESCRIPTION = "Runs the job of a ParallelRunOperator from a shell, without Airflow."
_NO_JOB = {"show", "runs"}
_CLEAR_PLAN = re.compile("[Cc]lear the plan task")
"""The commands that look at runs there are."""

_INTERRUPTED = 130
"""What a shell expects of a command that was ended by Ctrl-C."""
_PIPE_CLOSED = 141
"""What a shell sees of other programs whose reader has gone."""
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_JOB_FILE = "YAML file of the job: the ParallelRunConfig, or a parallel job of Azure ML v2; see the documentation"
_ARGUMENTS = "Everything after -- is passed to the entry script, like `arguments` of ParallelRunOperator."


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command of a command line, and return the exit code.

    :param argv: the arguments after the program's name; None: those of this process.
    :return: 0: success, 1: the job failed. For wrong usage argparse exits with 2. 130: Ctrl-C.
    """
    own, arguments = _split(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(own)
    if options.command in _NO_JOB:
        if arguments:
            options.parser.error(f"{options.command} takes no arguments of an entry script")
    else:
        options.arguments = arguments
        _check_usage(options)
    use_connections(ambient.connect)
    try:
        return _run_and_flush(options)
    except PrsError as error:
        print(_in_shell(error, options), file=sys.stderr)  # noqa: T201 - a command's output
    except BrokenPipeError:
        if getattr(options, "is_in_process", False):
            raise
        # Who reads the output has had enough, as `head` has. Python must not fail when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        if getattr(options, "is_in_process", False):
            raise  # it may come from the entry script, and a debugger needs it
        print(_in_shell(error, options), file=sys.stderr)  # noqa: T201 - as above
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201 - as above
        return _INTERRUPTED
    return 1


def _in_shell(error: Exception, options: argparse.Namespace) -> str:
    """Return the text of an error; of a job, which has no task that somebody could clear, with what a shell can do."""
    text = str(error)
    if options.command in _NO_JOB:
        return text
    return _CLEAR_PLAN.sub(lambda found: "Run again" if found[0][0] == "C" else "run again", text)


def _run_and_flush(options: argparse.Namespace) -> int:
    code = _run_command(options)
    sys.stdout.flush()  # a closed pipe is found here, not when Python ends
    return code


def _run_command(options: argparse.Namespace) -> int:
    # Each command imports many modules, which the others do not need.
    if options.command in _NO_JOB:
        return _look_at_runs(options)
    if options.command == "check":
        from airflow_prs.cli.check import check

        return check(_read_job(options))
    if options.is_in_process:
        from airflow_prs.cli.in_process import run_in_process

        nodes, keeps_going = options.nodes or 1, options.keeps_going
        return run_in_process(_read_job(options), options.output, nodes=nodes, keeps_going=keeps_going)
    from airflow_prs.cli import run

    if options.resume is not None:
        return run.resume(options.resume, options.config)
    return run.run(_read_job(options), options.output, nodes=options.nodes or 1)


def _read_job(options: argparse.Namespace) -> Job:
    """Return the job; ``options.output`` is that of the job from then on."""
    from airflow_prs.cli.job import read_job

    job = read_job(options)
    options.output = job.output
    if options.command == "run" and job.output is None:
        options.parser.error("--output is missing: the folder of the result, here or as output in the job file")
    if not job.inputs and not may_need_no_inputs(job.arguments):
        options.parser.error("--input is missing: a file, a folder, or a pattern, here or as inputs in the job file")
    return job


def _look_at_runs(options: argparse.Namespace) -> int:
    if options.command == "show":
        from airflow_prs.cli.find import find_run_folder
        from airflow_prs.cli.show import show
        from airflow_prs.cli.show_log import show_log

        folder = find_run_folder(options.folder, dag_id=options.dag_id, run_id=options.run_id)
        if options.is_log:
            return show_log(folder)
        return show(folder, is_following=options.is_following)
    from airflow_prs.cli import runs, steer

    if steer.is_steering(options.action):
        return steer.steer(options)
    if options.action == "list":
        return runs.list_runs(options.output, is_json=options.is_json)
    return runs.prune_runs(options.output, older_than_s=options.older_than, keep=options.keep, is_dry=options.is_dry)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before and after the first ``--``; argparse splits differently in each version of Python."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments, []
    position = arguments.index("--")
    return arguments[:position], arguments[position + 1 :]


def _check_usage(options: argparse.Namespace) -> None:
    is_resuming = getattr(options, "resume", None) is not None
    of_a_new_run = ("input", "output", "nodes", "is_in_process", "is_only_new", "arguments")
    if is_resuming and any(getattr(options, name) for name in of_a_new_run):
        options.parser.error("--resume continues a run as it was planned: leave out all but the job file")
    if not is_resuming and options.config is None:
        options.parser.error("the job file is missing: the path of a YAML file, before --input")
    if getattr(options, "keeps_going", False) and not options.is_in_process:
        options.parser.error("--keep-going requires --in-process; other runs always keep going")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airflow-prs", description=_DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_run(commands)
    _add_check(commands)
    _add_show(commands)
    _add_runs(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = _add_command(commands, "run", "run a job, all on this machine", epilog=_ARGUMENTS)
    run.add_argument("config", nargs="?", metavar="job", help=_JOB_FILE)
    _add_inputs(run)
    run.add_argument(
        "--only-new",
        dest="is_only_new",
        action="store_true",
        help="leave out the files that an earlier completed run of this job into the same output has processed",
    )
    run.add_argument("--output", type=_folder, metavar="FOLDER", help="folder of the result, and of the run folder")
    run.add_argument(
        "--nodes",
        type=_count,
        metavar="N",
        help="shards, which run one after the other, each with all worker processes (default: 1)",
    )
    run.add_argument(
        "--resume",
        metavar="RUN_FOLDER",
        help="continue a run that was interrupted, as it was planned; of a job only environment_variables are used",
    )
    run.add_argument(
        "--in-process",
        dest="is_in_process",
        action="store_true",
        help="run the entry script in the process of this command, so that breakpoint() and a debugger work in it; "
        "there are no timeouts and no retries, and a failure ends the run with the script's own exception",
    )
    run.add_argument(
        "--keep-going",
        dest="keeps_going",
        action="store_true",
        help="with --in-process: count failures instead of stopping, and compare them with the thresholds at the end",
    )


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = _add_command(commands, "check", "run one mini-batch, and print the problems", epilog=_ARGUMENTS)
    check.add_argument("config", metavar="job", help=_JOB_FILE)
    _add_inputs(check)


def _add_show(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from airflow_prs.cli.steer import add_run

    show = _add_command(commands, "show", "show the progress of a run, its result, its failures and where the logs are")
    add_run(show)
    show.add_argument(
        "--follow", dest="is_following", action="store_true", help="refresh every second until the run has ended"
    )
    show.add_argument("--log", dest="is_log", action="store_true", help="print the records of the run's logs instead")


def _add_runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from airflow_prs.cli.steer import add_actions

    runs = _add_command(commands, "runs", "list the runs below an output folder, remove old ones, and steer a run")
    actions = runs.add_subparsers(dest="action", required=True, metavar="action")
    listing = _add_command(actions, "list", "list the runs below an output folder, those planned last at the end")
    pruning = _add_command(
        actions, "prune", "remove old run folders, and what was left by processes that were killed; results stay"
    )
    for command in (listing, pruning):
        command.add_argument("output", type=_folder, help="the output folder of a job")
    listing.add_argument("--json", dest="is_json", action="store_true", help="print a list in JSON")
    pruning.add_argument(
        "--older-than",
        type=_age,
        required=True,
        metavar="AGE",
        help="remove runs in which nothing has changed for so long: 12h, 30d or 2w",
    )
    pruning.add_argument(
        "--keep",
        type=_keep,
        default=10,
        metavar="N",
        help="keep the runs of each DAG and task that were planned last (default: 10)",
    )
    pruning.add_argument("--dry-run", dest="is_dry", action="store_true", help="print what would be removed")
    add_actions(lambda name, what: _add_command(actions, name, what))


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH",
        help="files, folders, or patterns such as 'data/**/*.png', in quotes; can be repeated",
    )
    parser.add_argument(
        "--side-input",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="reference data, a file or a folder, with the name that the script uses for it; can be repeated",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--table", choices=tuple(TABLES), help="inputs are tables of this kind (default: by their suffix)"
    )
    kind.add_argument("--files", dest="is_files", action="store_true", help="inputs are files, whatever their names")
    parser.add_argument(
        "--table-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of TabularDataset.from_delimited_files and so on, such as separator=';' or 'columns=[a, b]'; "
        "can be repeated",
    )


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=epilog, allow_abbrev=False
    )
    command.set_defaults(parser=command)
    return command


def _folder(text: str) -> str:
    if problem := find_problem(text):
        raise argparse.ArgumentTypeError(f"{shown_path(text)}: {problem}")
    return str(as_text(text))


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return count


def _age(text: str) -> float:
    found = re.fullmatch("([1-9][0-9]{0,5})([hdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; allowed: hours, days or weeks, such as 12h, 30d or 2w")
    return int(found[1]) * _HOURS[found[2]] * 3600.0


def _keep(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; allowed: a whole number from 0 on")
    return int(text)
