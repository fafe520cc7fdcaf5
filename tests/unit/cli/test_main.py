"""A command line is understood, or refused with what would be right."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_prs.cli.main import main
from airflow_prs.errors import StorageError
from airflow_prs.object_storage import connecting
from airflow_prs.object_storage.addresses import parse_address
from tests.makers import make_config


@pytest.fixture
def connections(monkeypatch):
    """What says where credentials come from, as it was before."""
    monkeypatch.setattr(connecting, "_connect", connecting._connect)


RUN = ["run", "config.yaml", "--input", "data"]


def refusal(capsys, *argv):
    """What is said of a command line that is wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "command"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "--input", "data", "--output", "out"], "the job file is missing"),
        ([*RUN, "--output", "out", "--nodes", "0"], "0 is less than 1"),
        ([*RUN, "--output", "gs://b/x"], "'gs://b/x': gs:// is not supported yet; allowed: a local path, s3://"),
        ([*RUN, "--output=S3://b//x", "--in-process"], "'S3://b//x': the key has an empty part"),
        ([*RUN, "--output", "out", "--table", "csv", "--files"], "not allowed with argument"),
        ([*RUN, "--output", "out", "--table", "excel"], "invalid choice: 'excel'"),
        ([*RUN, "--output", "out", "--keep-going"], "--keep-going requires --in-process"),
        ([*RUN, "--resume", "out"], "leave out all but the job file"),
        (["run", "--resume", "out", "--only-new"], "leave out all but the job file"),
        (["run", "--resume", "out", "--nodes", "3"], "leave out all but the job file"),
        (["run", "--resume", "out", "--in-process"], "leave out all but the job file"),
        (["run", "--resume", "out", "--", "--model", "m"], "leave out all but the job file"),
        (["show", "out", "--", "--model", "m"], "show takes no arguments"),
        (["show"], "folder"),
    ],
)
def test_wrong_usage_is_refused_with_what_is_wrong(capsys, argv, expected):
    assert expected in refusal(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (RUN, "--output is missing: the folder of the result, here or as output in the job file"),
        (["run", "config.yaml", "--output", "out"], "--input is missing"),
        (["check", "config.yaml"], "--input is missing"),
    ],
)
def test_what_neither_the_command_line_nor_the_job_file_says_is_missing(tmp_path, monkeypatch, capsys, argv, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    make_config().save_to_yaml("config.yaml")
    assert expected in refusal(capsys, *argv)


def test_a_configuration_that_is_missing_is_one_line_and_code_1(tmp_path, capsys):
    code = main(["run", str(tmp_path / "no.yaml"), "--input", "data", "--output", str(tmp_path)])
    assert (code, capsys.readouterr().err.count("\n")) == (1, 1)


def test_a_path_with_a_connection_of_airflow_is_refused_with_what_to_leave_out(connections):
    main(["show", "nothing"])
    with pytest.raises(StorageError, match="leave out 'my_aws@' to use the credentials of the environment"):
        connecting.connect_to(parse_address("s3://my_aws@bucket/runs").bucket)


def test_the_commands_load_without_airflow_and_without_its_weight():
    code = (
        "import sys; sys.modules['airflow'] = None; import airflow_prs.__main__; "
        "from airflow_prs.cli import check, in_process, run, show; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'pandas', 'pyarrow', 'numpy', 'rich'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert found == "[]"
