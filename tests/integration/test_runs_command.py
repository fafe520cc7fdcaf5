"""``runs list`` and ``runs prune``, on a local folder and on object storage."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from airflow_prs.cli import runs
from airflow_prs.cli.main import main
from airflow_prs.object_storage.addresses import parse_address
from airflow_prs.object_storage.connecting import connect_to
from airflow_prs.run_folder.folder import all_plans
from airflow_prs.run_folder.pruning import DAY_S
from airflow_prs.store.opening import location_of, open_store
from tests.makers import make_config
from tests.object_servers import ACCESS_KEY, REGION, SECRET_KEY, serve

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(params=["local", "seaweed"])
def output(request, tmp_path, monkeypatch):
    """An output; the files of a job are in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for number in range(4):
        Path(f"data/{number}.txt").write_text("item")
    if request.param == "local":
        return str(tmp_path / "out")
    server = serve(request.param)
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.bucket.name}/{uuid4().hex}"


@pytest.fixture(autouse=True)
def temporary_files(tmp_path, monkeypatch):
    """Commands look for local folders of killed processes in no other place."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()


def run(output: str, **config) -> None:
    values = {"process_count_per_node": 1, "mini_batch_size": 2, "source_directory": str(SCRIPTS)}
    make_config(**values, entry_script="echo.py", **config).save_to_yaml("job.yaml")
    assert main(["run", "job.yaml", "--input", "data", "--output", output]) == 0


def files(output: str) -> dict[str, int]:
    return {found.key: found.size for found in open_store(location_of(output)).scan("")}


def later(monkeypatch, days: float) -> None:
    """Let a command believe that some days have passed."""
    monkeypatch.setattr(runs, "time", SimpleNamespace(time=lambda: time.time() + days * DAY_S))


def prune(output: str, *options: str, older_than: str = "30d", keep: int = 0) -> int:
    return main(["runs", "prune", output, "--older-than", older_than, "--keep", str(keep), *options])


def test_a_run_is_listed_and_removed_when_it_is_old(output, capsys, monkeypatch):
    run(output)
    run(output)
    store = open_store(location_of(output))
    store.new_upload("parallel_run_step.txt")
    capsys.readouterr()

    assert main(["runs", "list", output]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["PLANNED", "STATE", "DONE", "PUBLISHED", "DAG", "TASK", "RUN"]
    assert ["completed  2 of 2  yes        shell  job" in line for line in lines] == [True, True]
    assert main(["runs", "list", output, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(each["state"], each["done"], each["is_published"]) for each in listed] == [("completed", 2, True)] * 2
    first, second = (each["run_id"] for each in listed)

    before = files(output)
    assert prune(output) == 0
    assert "Removed 0 runs (0 B) and 0 leftovers (0 B); 2 runs stayed." in capsys.readouterr().out
    later(monkeypatch, 31)
    assert prune(output, "--dry-run", keep=1) == 0
    said = capsys.readouterr().out
    assert f"would remove shell · job · {first} (completed" in said
    assert "Would remove 1 run (" in said
    assert "and 1 leftover (0 B); 1 run would stay." in said
    assert files(output) == before

    assert prune(output, keep=1) == 0
    said = capsys.readouterr().out
    size = sum(size for key, size in before.items() if first in key)
    assert f"removed shell · job · {first} (completed" in said
    assert f"Removed 1 run ({size / 1000:.3g} KB) and 1 leftover (0 B); 1 run stayed." in said
    assert files(output) == {key: size for key, size in before.items() if first not in key}
    assert [folder.read_settings().identity.run_id for folder in all_plans(output)] == [second]

    assert prune(output) == 0
    note = "_parallel_run/parallel_run_step.txt!published.json"
    assert sorted(files(output)) == [note, "parallel_run_step.txt"]
    assert prune(output) == 1
    assert "holds no runs; allowed: the output folder of a job" in capsys.readouterr().err


def test_what_is_left_by_killed_uploads_is_removed(output, capsys, monkeypatch):
    run(output)
    capsys.readouterr()
    store = open_store(location_of(output))
    inside = next(iter(files(output)))
    for key in ("parallel_run_step.txt", inside):
        store.new_upload(key)
    assert prune(output) == 0
    assert "and 0 leftovers" in capsys.readouterr().out
    later(monkeypatch, 1.1)
    assert prune(output) == 0
    assert "Removed 0 runs (0 B) and 2 leftovers" in capsys.readouterr().out
    if not output.startswith("s3://"):
        assert not list(Path(output).rglob(".*.tmp"))
        return
    address = parse_address(output)
    found = connect_to(address.bucket).native().list_multipart_uploads(Bucket=address.bucket.name, Prefix=address.key)
    assert found.get("Uploads", []) == []


def test_rows_are_deleted_after_publication(output, capsys):
    run(output, keep_rows=False)
    assert not [key for key in files(output) if "/rows/" in key]
    assert len(open_store(location_of(output)).get("parallel_run_step.txt").splitlines()) == 4
    folder = all_plans(output)[-1]
    assert main(["run", "--resume", str(folder.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{output}/parallel_run_step.txt"


@pytest.mark.parametrize("age", ["30", "d", "0d", "-1d", "1.5h", "30 d", "3m", ""])
def test_a_wrong_age_is_refused(age, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["runs", "prune", "out", f"--older-than={age}"])
    assert ended.value.code == 2
    assert "is no age; allowed: hours, days or weeks, such as 12h, 30d or 2w" in capsys.readouterr().err


@pytest.mark.parametrize("keep", ["-1", "1.5", "all", ""])
def test_a_wrong_number_of_runs_is_refused(keep, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["runs", "prune", "out", "--older-than=1d", f"--keep={keep}"])
    assert ended.value.code == 2
    assert "is no number of runs; allowed: a whole number from 0 on" in capsys.readouterr().err


def test_arguments_of_an_entry_script_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["runs", "list", "out", "--", "--x"])
    assert "runs takes no arguments of an entry script" in capsys.readouterr().err


def test_an_unreadable_run_stays_and_is_told(tmp_path, capsys):
    log = tmp_path / "_parallel_run/dag/run/task/log"
    log.mkdir(parents=True)
    (log / "0000000000").write_bytes(b"torn")
    assert main(["runs", "prune", str(tmp_path), "--older-than", "1h"]) == 0
    told = capsys.readouterr()
    assert "cannot be read, so it stays: log/0000000000 is damaged" in told.err
    assert "1 run stayed" in told.out
