"""The same job from a shell: real scripts, real worker processes, what is printed and what the exit code says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from airflow_prs.cli.main import main
from airflow_prs.records import Ruling, Verdict
from airflow_prs.run_folder.folder import RunFolder, all_plans
from airflow_prs.run_folder.run_log import Abort, AbortKind, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Epoch
from tests.makers import make_config
from tests.shards import read_outcomes

SCRIPTS = Path(__file__).parent.parent / "scripts"
WITHOUT_AIRFLOW = "import sys; sys.modules['airflow'] = None; from airflow_prs.cli.main import main; sys.exit(main())"
SAYS_WHETHER_PANDAS_CAME = "import sys; from airflow_prs.cli.main import main; main(); print('pandas' in sys.modules)"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with twelve files of data, from which commands are given."""
    (tmp_path / "data").mkdir()
    for number in range(12):
        (tmp_path / "data" / f"{number:02d}.txt").write_text("item")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(script: str | Path, **values) -> str:
    """Write a configuration; a script is one of tests/scripts by its name, or any by its path."""
    path = Path(script)
    place = {"entry_script": path.name, "source_directory": str(SCRIPTS if path.parent == Path() else path.parent)}
    defaults = {"error_threshold": 0, "node_count": 2, "process_count_per_node": 1, "mini_batch_size": 3}
    make_config(**(place | defaults | values)).save_to_yaml("job.yaml")
    return "job.yaml"


def write_script(here: Path, code: str) -> Path:
    folder = here / "code"
    folder.mkdir()
    (folder / "mine.py").write_text(code)
    return folder / "mine.py"


def run(config: str, *options: str, data: str = "data/*.txt", output: str = "out") -> int:
    return main(["run", config, "--input", data, "--output", output, *options])


def run_apart(
    config: str, *options: str, code: str = WITHOUT_AIRFLOW, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a job in a Python of its own, which has no Airflow."""
    command = [sys.executable, "-c", code, "run", config, "--input", "data/*.txt", "--output", "out", *options]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def the_run(output: str = "out") -> RunFolder:
    [folder] = all_plans(output)
    return folder


def result() -> list[str]:
    return Path("out/parallel_run_step.txt").read_text(encoding="utf-8").splitlines()


ALL = [f"{number:02d}.txt" for number in range(12)]

# run


def test_a_job_runs_and_prints_where_its_result_is(here, capsys):
    assert run(configure("echo.py")) == 0
    assert capsys.readouterr().out == f"{here}/out/parallel_run_step.txt\n"


def test_a_job_leaves_its_result_in_input_order(here):
    run(configure("echo.py"))
    assert result() == ALL


def test_an_output_may_be_the_uri_of_a_local_folder(here):
    assert run(configure("echo.py"), output=f"FILE://{here}/out") == 0
    assert (result(), Path("FILE:").exists()) == (ALL, False)


def test_only_new_runs_process_each_file_once(here, capsys):
    config = configure("echo.py", mini_batch_size=1)
    assert run(config, "--only-new") == 0
    assert result() == ALL
    Path("data/new.txt").write_text("item")
    Path("data/03.txt").write_text("it has changed")
    assert run(config, "--only-new") == 0
    assert result() == ["03.txt", "new.txt"]
    capsys.readouterr()
    assert run(config, "--only-new") == 1
    assert "all 13 files were processed by run" in capsys.readouterr().err
    assert run(config) == 0
    assert result() == [*ALL, "new.txt"]


def test_a_job_needs_no_airflow(here):
    ended = run_apart(configure("echo.py"))
    assert (ended.returncode, result()) == (0, ALL)


def test_no_step_of_a_run_over_files_waits_for_the_import_of_pandas(here):
    Path("data/bad.txt").touch()
    ended = run_apart(configure("fails_in_run.py", error_threshold=-1), code=SAYS_WHETHER_PANDAS_CAME)
    assert len(result()) == 12
    assert ended.stdout.endswith("\nFalse\n")


def test_airflow_prs_is_installed_as_a_command():
    [script] = entry_points(group="console_scripts", name="airflow-prs")
    assert script.load() is main


def test_python_m_airflow_prs_is_the_command(here):
    ended = subprocess.run([sys.executable, "-m", "airflow_prs", "run", "--help"], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout.split(b"\n")[0][:25]) == (0, b"usage: airflow-prs run [-")


def test_the_progress_ends_with_all_mini_batches(here, capsys):
    run(configure("echo.py"))
    assert re.search(r"mini-batches .* 4/4 0 failed", capsys.readouterr().err)


def test_what_follows_two_dashes_are_arguments_of_the_script(here):
    assert run(configure("wrong_shape.py"), "--", "--returns", "more") == 0
    assert len(result()) == 16


OWN_OPTIONS = """
import argparse, sys
def init():
    global options, rest
    parser = argparse.ArgumentParser()
    for name in ("--output_dir", "--output-file", "--logging_level", "--mini_batch_size_mb"):
        parser.add_argument(name)
    options, rest = parser.parse_known_args()
def run(mini_batch):
    return [f"{options.output_dir} {options.mini_batch_size_mb} {options.logging_level} {'--run_max_try' in rest}"]
"""


@pytest.mark.parametrize("options", [(), ("--in-process",)])
def test_no_reserved_argument_gets_into_the_scripts_own_options(here, options):
    ended = run_apart(configure(write_script(here, OWN_OPTIONS), mini_batch_size=12, error_threshold=-1), *options)
    assert (ended.returncode, result()) == (0, ["None None INFO True"])
    assert "does not get --output: argparse would take it for the option --output_dir of mine.py." in ended.stderr
    assert "does not get --logging_level" not in ended.stderr


def test_rows_of_a_table_are_the_items_of_a_csv_file(here):
    Path("rows.csv").write_text("number,name\n1,one\n2,two\n")
    assert run(configure("echo.py", mini_batch_size="1 rows"), data="rows.csv") == 0
    assert result() == ["1 one", "2 two"]


PARALLEL_JOB = """
type: parallel
inputs:
  images: {type: uri_folder, path: data}
  labels: {type: uri_file, path: labels.txt}
outputs:
  scores: {type: uri_file, path: out/scores.txt}
input_data: ${{inputs.images}}
mini_batch_size: "3"
task:
  type: run_function
  code: code
  entry_script: mine.py
  environment: {python: {userManagedDependencies: true, interpreterPath: python}}
  program_arguments: --labels ${{inputs.labels}} --error_threshold 0
  append_row_to: ${{outputs.scores}}
"""
READS_LABELS = """
import argparse
from pathlib import Path

def init():
    global label
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels")
    label = Path(parser.parse_known_args()[0].labels).read_text()

def run(mini_batch):
    return [f"{Path(path).name} {label}" for path in mini_batch]
"""


def test_a_parallel_job_of_azure_v2_runs_as_it_is(here, capsys):
    write_script(here, READS_LABELS)
    Path("labels.txt").write_text("cat")
    Path("job.yaml").write_text(PARALLEL_JOB)
    assert main(["run", "job.yaml"]) == 0
    assert capsys.readouterr().out == f"{here}/out/scores.txt\n"
    assert Path("out/scores.txt").read_text().splitlines() == [f"{name} cat" for name in ALL]


def test_several_inputs_follow_one_option(here):
    inputs = ["--input", "data/03.txt", "data/01.txt", "--input", "data/02.txt"]
    assert main(["run", configure("echo.py"), *inputs, "--output", "out"]) == 0
    assert result() == ["03.txt", "01.txt", "02.txt"]


def test_mini_batches_without_any_input_need_none(here):
    script = write_script(here, "def run(mini_batch, context):\n    return [context.minibatch_index]\n")
    assert main(["run", configure(script), "--output", "out", "--", "--rank_mini_batch_count", "3"]) == 0
    assert result() == ["0", "1", "2"]


def test_environment_variables_of_the_configuration_are_set(here):
    script = write_script(
        here, "import os\n\ndef run(mini_batch):\n    return [os.environ['COLOUR']] * len(mini_batch)\n"
    )
    assert run(configure(script, environment_variables={"COLOUR": "red"})) == 0
    assert set(result()) == {"red"}


def test_nodes_are_shards_that_run_one_after_the_other(here):
    assert run(configure("echo.py"), "--nodes", "3") == 0
    assert len(the_run().read_manifest().shards) == 3
    assert result() == ALL


def test_a_second_run_into_the_same_output_is_another_run(here):
    config = configure("echo.py")
    assert [run(config), run(config)] == [0, 0]
    assert len(all_plans("out")) == 2


def test_an_aborted_run_prints_the_failure_and_how_a_shell_goes_on(here, capsys):
    Path("data/bad.txt").touch()
    assert run(configure("fails_in_run.py", run_max_try=1)) == 1
    said = capsys.readouterr()
    assert "1 of 13 items failed, error_threshold allows 0" in said.err
    assert "ValueError: bad pixel in bad.txt" in said.err
    assert "run again" in said.err
    assert "clear" not in said.err
    assert said.out == ""


def test_a_result_that_cannot_be_written_is_told_with_how_a_shell_goes_on(here, capsys):
    Path("out/parallel_run_step.txt/taken").mkdir(parents=True)
    assert run(configure("echo.py")) == 1
    said = capsys.readouterr().err
    assert "the result cannot be put at" in said
    assert f"airflow-prs run --resume {the_run().path.absolute()}\n" in said
    assert "clear" not in said


def test_a_damaged_run_folder_is_told_with_what_a_shell_can_do(here, capsys):
    assert run(configure("echo.py")) == 0
    the_run().names.settings.write_text("{")
    capsys.readouterr()
    assert main(["run", "--resume", "out"]) == 1
    said = capsys.readouterr().err
    assert "config.json is damaged" in said
    assert "Run again to start over." in said
    assert "lear the plan" not in said


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_run_that_was_aborted_or_cancelled_continues_with_fresh_tries(here, capsys, is_cancelled):
    code = """
import pathlib

def run(mini_batch):
    if not pathlib.Path("mended").exists() and mini_batch[0].endswith("00.txt"):
        raise ValueError("bad pixel")
    return mini_batch
"""
    path = write_script(here, code.replace('"mended"', repr(str(here / "mended"))))
    tolerated = 3 if is_cancelled else 0
    config = configure(path, run_max_try=1, error_threshold=tolerated)
    assert run(config) == (0 if is_cancelled else 1)
    if is_cancelled:
        log = the_run().run_log()
        verdict = Verdict(ruling=Ruling.ABORT, reason="cancelled by ann")
        cancel = Abort(verdict=verdict, epoch=Epoch(0, 0), kind=AbortKind.CANCEL)
        log.append(lambda: RunRecord(kind=RunRecordKind.ABORT, author="ann", abort=cancel))
    (here / "mended").touch()
    assert main(["run", "--resume", "out"]) == 0
    assert len(Path("out/parallel_run_step.txt").read_text().splitlines()) == 12


def test_an_aborted_run_has_its_reports(here):
    Path("data/bad.txt").touch()
    run(configure("fails_in_run.py", run_max_try=1))
    assert json.loads(the_run().names.report.read_bytes())["status"] == "aborted"


def test_a_script_that_never_gets_ready_ends_the_run(here, capsys):
    assert run(configure("fails_in_init.py")) == 1
    said = capsys.readouterr().err
    assert "there is no model" in said
    assert "Airflow" not in said
    assert json.loads(the_run().names.report.read_bytes())["status"] == "failed"


def test_without_an_interpreter_a_run_says_which_is_missing(here, capsys):
    assert run(configure("echo.py", environment="/no/such/python")) == 1
    said = capsys.readouterr().err
    assert "/no/such/python cannot be started: No such file or directory" in said
    assert "Airflow" not in said


def test_no_traceback_of_ours_is_printed(here, capsys):
    run(configure("fails_in_init.py"))
    assert "airflow_prs/" not in capsys.readouterr().err.replace(str(SCRIPTS), "")


# run --resume


def interrupt(config: str) -> RunFolder:
    """Run a job, and send it Ctrl-C once a mini-batch is done."""
    command = [sys.executable, "-m", "airflow_prs", "run", config, "--input", "data/*.txt", "--output", "out"]
    process = subprocess.Popen([*command, "--", "--seconds", "2"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _done():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"airflow-prs run --resume {the_run().path.absolute()}\n" in said
    return the_run()


def _done() -> int:
    folders = all_plans("out")
    if not folders or not folders[0].names.manifest.exists():
        return 0
    return sum(folders[0].read_shard(shard).progress.done for shard in folders[0].read_manifest().shards)


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(here):
    folder = interrupt(configure("slow.py"))
    before = _done()
    assert main(["run", "--resume", str(folder.path)]) == 0
    [shard] = folder.read_manifest().shards
    state = folder.read_shard(shard)
    assert (state.claim.try_number, len(state.writers)) == (2, 2)
    assert int((read_outcomes(folder)["writer"] == 0).sum()) == before
    assert [Path(line).name for line in result()] == ALL


def test_going_on_with_an_output_folder_means_its_newest_run(here):
    run(configure("echo.py"))
    assert main(["run", "--resume", "out"]) == 0


def test_going_on_needs_the_configuration_for_the_values_of_variables(here, capsys):
    config = configure("echo.py", environment_variables={"COLOUR": "red"})
    run(config)
    assert main(["run", "--resume", "out"]) == 1
    assert "the run sets COLOUR" in capsys.readouterr().err
    assert main(["run", config, "--resume", "out"]) == 0


# run --in-process


def test_breakpoint_works_in_the_script(here):
    script = write_script(here, "def run(mini_batch):\n    breakpoint()\n    return mini_batch\n")
    ended = run_apart(configure(script), "--in-process", stdin="p len(mini_batch)\nc\n" + "c\n" * 3)
    assert ended.returncode == 0, ended.stderr
    assert "(Pdb) 3\n" in ended.stdout
    assert len(result()) == 12


def test_in_process_the_result_is_the_same(here):
    config = configure("echo.py")
    assert run_apart(config, "--in-process").returncode == 0
    assert result() == ALL


def test_in_process_shards_agree_on_the_columns_of_the_result(here):
    code = """
        import pandas as pd
        def run(mini_batch, context):
            names = ["a", "b"] if context.minibatch_index == 0 else ["b", "a"]
            return pd.DataFrame({"a": [1], "b": [2]})[names]
    """
    script = write_script(here, textwrap.dedent(code))
    config = configure(script, append_row_file_name="rows.csv", append_row_format="csv", error_threshold=-1)
    assert run_apart(config, "--in-process").returncode == 0
    header, *rows = Path("out/rows.csv").read_text().splitlines()
    assert set(rows) == {{"a,b": "1,2", "b,a": "2,1"}[header]}


def test_in_process_a_failure_is_raised_with_the_scripts_traceback_alone(here):
    script = write_script(here, "def run(mini_batch):\n    return 1 / 0\n")
    ended = run_apart(configure(script), "--in-process")
    assert ended.returncode == 1
    traceback = ended.stderr[ended.stderr.index("Traceback") :]
    assert re.findall(r'File "(.*)", line (\d+)', traceback) == [(str(script), "2")]
    assert traceback.endswith("ZeroDivisionError: division by zero\n")


def test_in_process_failures_can_be_counted_instead(here):
    Path("data/05-bad.txt").touch()
    config = configure("fails_in_run.py", error_threshold=3)
    assert run_apart(config, "--in-process", "--keep-going").returncode == 0
    [failed] = the_run().names.failed_items.read_text().splitlines()
    assert json.loads(failed)["tries"][0]["error"] == "ValueError: bad pixel in 05-bad.txt"
    assert len(result()) == 10


@pytest.mark.parametrize("options", [(), ("--in-process", "--keep-going")])
def test_secrets_are_in_no_file_of_a_run(here, options):
    script = write_script(
        here,
        """
import os
from entry_script import EntryScript

def run(mini_batch):
    EntryScript().logger.info("%s", os.environ["TOKEN"])
    raise ValueError(os.environ["TOKEN"])
""",
    )
    values = {"error_threshold": -1, "environment_variables": {"TOKEN": "sword'fish-42"}}
    assert run_apart(configure(script, **values), *options).returncode == 0
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    assert any(b"***" in path.read_bytes() for path in files)
    assert not any(b"fish-42" in path.read_bytes() for path in files)


def test_in_process_thresholds_hold_at_the_end(here):
    Path("data/05-bad.txt").touch()
    ended = run_apart(configure("fails_in_run.py"), "--in-process", "--keep-going")
    assert ended.returncode == 1
    assert "error_threshold allows 0" in ended.stderr


def test_in_process_sys_exit_is_a_failure(here):
    script = write_script(here, "import sys\n\ndef run(mini_batch):\n    sys.exit(0)\n")
    ended = run_apart(configure(script), "--in-process")
    assert ended.returncode == 1
    assert "SystemExit: 0" in ended.stderr


def test_in_process_what_the_script_raises_when_it_is_imported_is_raised(here):
    ended = run_apart(configure(write_script(here, "import nowhere\n\ndef run(mini_batch): ...\n")), "--in-process")
    assert ended.returncode == 1
    assert ended.stderr.endswith("ModuleNotFoundError: No module named 'nowhere'\n")


def test_in_process_scripts_find_what_they_find_in_a_worker_process(here):
    code = """
import os, sys
from importlib.metadata import entry_points
from pathlib import Path
from azureml_user.parallel_run import EntryScript
from azureml.core import Model
from neighbour import WORD

def run(mini_batch, mini_batch_context):
    script = EntryScript()
    script.logger.info("logged")
    found = [WORD, sys.argv[1:3], "--output" in sys.argv, script.agent_name,
             script.output_dir == os.environ["AZUREML_BI_OUTPUT_PATH"],
             Path("neighbour.py").exists(), Model.get_model_path("iris-prs.v2"), mini_batch_context.minibatch_index]
    return [found] * len(mini_batch)
"""
    script = write_script(here, code)
    (script.parent / "neighbour.py").write_text("WORD = 'beside'\n")
    options = ("--in-process", "--side-input", "iris-prs.v2=data/00.txt", "--", "--x", "1")
    ended = run_apart(configure(script, mini_batch_size=12), *options)
    assert ended.returncode == 0, ended.stderr
    model = str(here / "data" / "00.txt")
    assert result()[0] == str(["beside", ["--x", "1"], True, "process000", True, True, model, 0])


def test_in_process_an_asynchronous_script_works_too(here):
    script = write_script(here, "async def run(mini_batch):\n    return mini_batch\n")
    assert run_apart(configure(script), "--in-process").returncode == 0
    assert len(result()) == 12


def test_in_process_mini_batches_without_any_input_need_none(here):
    script = write_script(here, "def run(mini_batch, context):\n    return [context.minibatch_index]\n")
    command = [sys.executable, "-m", "airflow_prs", "run", configure(script), "--output", "out", "--in-process"]
    assert subprocess.run([*command, "--", "--rank_mini_batch_count=3"], check=False).returncode == 0
    assert result() == ["0", "1", "2"]


def test_in_process_tables_are_read_as_a_worker_process_reads_them(here):
    Path("rows.csv").write_text("number,name\n1,one\n2,two\n")
    config = configure("echo.py", mini_batch_size="1 rows")
    command = [sys.executable, "-m", "airflow_prs", "run", config, "--input", "rows.csv", "--output", "out"]
    assert subprocess.run([*command, "--in-process"], check=False, capture_output=True).returncode == 0
    assert result() == ["1 one", "2 two"]


# check


def check(config: str, *options: str, data: str = "data/*.txt") -> int:
    return main(["check", config, "--input", data, *options])


def test_a_check_says_what_run_returned(here, capsys):
    assert check(configure("echo.py")) == 0
    said = capsys.readouterr().out
    assert "4 mini-batches with 12 items in 2 shards." in said
    assert "run() returned a list\n" in said
    assert "returned 3 elements for 3 items" in said
    assert "The first rows:\n  00.txt\n  01.txt\n  02.txt\n" in said


def test_a_check_names_the_columns_of_a_table(here, capsys):
    Path("rows.csv").write_text("number,name\n1,one\n2,two\n")
    assert check(configure("echo.py", mini_batch_size="1 rows"), data="rows.csv") == 0
    assert "run() returned a DataFrame with the columns number, name\n" in capsys.readouterr().out


def test_a_check_leaves_nothing_behind(here, tmp_path_factory, monkeypatch):
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    config = configure("echo.py")
    before = sorted(here.rglob("*"))
    check(config)
    assert (sorted(here.rglob("*")), list(scratch.iterdir())) == (before, [])


@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        ("fails_in_run.py", (), ["RUN_EXCEPTION", "bad pixel in bad.txt", "in read", "Correct run()"]),
        ("wrong_shape.py", ("--", "--returns", "number"), ["RUN_BAD_RESULT", "42", "Let run() return a DataFrame"]),
        ("slow.py", ("--", "--seconds", "60"), ["RUN_TIMEOUT", "run_invocation_timeout longer"]),
    ],
)
def test_a_check_says_what_failed_and_what_to_do(here, capsys, script, options, expected):
    Path("data/bad.txt").touch()
    assert check(configure(script, run_invocation_timeout=1), *options, data="data/bad.txt") == 1
    said = capsys.readouterr().out
    assert [part for part in expected if part not in said] == []


def test_a_check_warns_of_items_without_an_element(here, capsys):
    assert check(configure("wrong_shape.py", error_threshold=5), "--", "--returns", "fewer") == 0
    assert "1 items without an element count as failed against error_threshold" in capsys.readouterr().out


def test_a_check_fails_if_a_single_mini_batch_exceeds_error_threshold(here, capsys):
    assert check(configure("wrong_shape.py"), "--", "--returns", "fewer") == 1
    assert "error_threshold allows 0: a run would be aborted" in capsys.readouterr().out


def test_a_check_of_a_script_that_never_gets_ready_shows_why(here, capsys):
    assert check(configure("fails_in_init.py")) == 1
    said = capsys.readouterr().err
    assert "there is no model" in said
    assert "Airflow" not in said


# show


def test_a_run_from_a_shell_can_be_shown(here, capsys):
    run(configure("echo.py"))
    capsys.readouterr()
    assert main(["show", "out"]) == 0
    assert "completed: 4 of 4 mini-batches succeeded" in capsys.readouterr().out


def test_a_command_leaves_the_environment_of_its_caller_as_it_was(here):
    before = dict(os.environ)
    run(configure("echo.py"))
    assert dict(os.environ) == before
