"""The commands that steer a run: what they write, what they ask Airflow for, and what they refuse."""

from __future__ import annotations

import getpass
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from airflow_prs.cli.main import main
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.steering import orders
from tests.makers import commit, do_shard, make_folder, make_identity, make_outcome, open_attempt

TOKEN = "a token"


@dataclass
class Airflow:
    """An API server that knows one run of `digits`, whose step is `score`."""

    url: str = ""
    states: dict[str, dict[int, str]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, token: str | None, body: Any) -> tuple[int, Any]:
        """Return status and body of an answer."""
        if token != f"Bearer {TOKEN}":
            return 401, {"detail": "no"}
        if body is not None:
            self.asked.append({"path": path, **body})
            ids = [[task, -1] if isinstance(task, str) else task for task in [*body["task_ids"], "after"]]
            return 200, {"task_instances": [{"task_id": task_id, "map_index": index} for task_id, index in ids]}
        if not path.startswith("/air/api/v2/dags/digits/dagRuns/run 1"):
            return 404, {"detail": "no such run"}
        task = path.partition("/taskInstances/")[2]
        task_id, _, rest = task.partition("/")
        states = self.states.get(task_id, {})
        if rest == "listMapped":
            found = [{"map_index": index, "state": state} for index, state in states.items()]
            return 200, {"task_instances": found, "total_entries": len(found)}
        return (200, {"state": states.get(-1)}) if -1 in states or not task else (404, {"detail": "mapped"})


@pytest.fixture
def airflow(monkeypatch):
    """Airflow's API below a path, as the configuration names it."""
    answers = Airflow(
        states={
            "score.mini_batches": {0: "success", 1: "failed"},
            "score.gatekeeper": {-1: "failed"},
            "score.merge": {-1: "upstream_failed"},
        }
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self, body: Any = None) -> None:
            path = unquote(urlsplit(self.path).path)
            status, answer = answers.answer(path, self.headers.get("Authorization"), body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self) -> None:
            self.do_GET(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    answers.url = f"http://127.0.0.1:{server.server_port}/air/"
    monkeypatch.setenv("AIRFLOW_PRS_API_TOKEN", TOKEN)
    monkeypatch.delenv("AIRFLOW_CONFIG", raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", answers.url)
    yield answers
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    """Shard 0 is done, shard 1 has work left."""
    folder = make_folder(tmp_path / "out", 2, 2, error_threshold=0)
    do_shard(folder, 0)
    commit(open_attempt(folder, 1), [make_outcome(2)], closing=Closing.STOPPED)
    return folder


def said(capsys, *argv, code=0):
    assert main(["runs", *map(str, argv)]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def test_limits_are_changed_and_named_with_their_author(folder, tmp_path, capsys):
    options = ("--error-threshold", "7", "--allowed-failed-percent", "2.5", "--author", "ann")
    assert said(capsys, "limits", tmp_path / "out", *options) == (
        "digits · score · run 1: error_threshold 0 -> 7, allowed_failed_percent none -> 2.5.\n"
    )
    assert [record.author for record in folder.read_run_log().records] == ["ann"]
    assert said(capsys, "limits", folder.path, "--allowed-failed-percent", "none").endswith("2.5 -> none.\n")


def test_the_author_is_the_user_of_the_system(folder, capsys):
    said(capsys, "limits", folder.path, "--error-threshold", 1)
    assert [record.author for record in folder.read_run_log().records] == [
        f"{getpass.getuser()}@{socket.gethostname()}"
    ]


@pytest.mark.parametrize(("action", "word"), [("cancel", "cancelled"), ("drain", "drained")])
def test_an_abort_is_written_and_then_refused(folder, capsys, action, word):
    assert said(capsys, action, folder.path, "--author", "ann") == f"digits · score · run 1: {word} by ann.\n"
    assert folder.read_run_log().records[-1].abort.kind is AbortKind(action)
    assert f"the run is aborted already: {word} by ann" in said(capsys, action, folder.path, code=1)


def test_new_limits_of_an_aborted_run_say_how_to_go_on(folder, capsys):
    orders.abort(folder, AbortKind.CANCEL, "ann")
    text = said(capsys, "limits", folder.path, "--error-threshold", 1)
    assert f"airflow-prs runs resume {folder.path}" in text


def test_limits_without_a_limit_are_wrong_usage(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["runs", "limits", str(folder.path)])
    assert ended.value.code == 2
    assert (
        "a limit is missing: --error-threshold, --allowed-failed-count, --allowed-failed-p" in capsys.readouterr().err
    )


def test_a_resume_lets_airflow_clear_what_has_work_left(folder, airflow, capsys):
    assert said(capsys, "resume", folder.path).startswith(
        "digits · score · run 1: cleared after, score.gatekeeper, score.merge, score.mini_batches[1]. Clears 1 shard"
    )
    assert airflow.asked == [
        {
            "path": "/air/api/v2/dags/digits/clearTaskInstances",
            "dry_run": False,
            "dag_run_id": "run 1",
            "task_ids": [["score.mini_batches", 1], "score.gatekeeper", "score.merge"],
            "only_failed": False,
            "include_downstream": True,
        }
    ]


def test_a_dry_run_clears_nothing(folder, airflow, capsys):
    text = said(capsys, "resume", folder.path, "--dry-run")
    assert text == "digits · score · run 1: would clear after, score.gatekeeper, score.merge, score.mini_batches[1].\n"
    assert [asked["dry_run"] for asked in airflow.asked] == [True]


def test_what_does_not_help_is_refused(folder, airflow, capsys):
    assert "no mini-batch has failed" in said(capsys, "retry", folder.path, code=1)
    assert "resume the run instead" in said(capsys, "publish", folder.path, code=1)
    assert airflow.asked == []


def test_the_url_comes_from_the_configuration_of_airflow(folder, airflow, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert "pass --api-url" in said(capsys, "resume", folder.path, code=1)
    (tmp_path / "airflow.cfg").write_text(f"[core]\nfernet_key = 100%\n[api]\nbase_url = {airflow.url}\n")
    assert "cleared" in said(capsys, "resume", folder.path)


def test_a_wrong_token_and_a_wrong_url_are_told_apart(folder, airflow, capsys):
    assert "the token is missing, wrong or expired" in said(capsys, "resume", folder.path, "--token", "x", code=1)
    assert "cannot be used" in said(capsys, "resume", folder.path, "--api-url", "http://127.0.0.1:1", code=1)
    assert "begins with http://" in said(capsys, "resume", folder.path, "--api-url", "file:///etc", code=1)


def test_a_run_that_airflow_does_not_know_is_an_error(tmp_path, airflow, capsys):
    folder = make_folder(tmp_path / "out", 1, run_id="gone")
    assert "answers 404" in said(capsys, "resume", folder.path, code=1)


def test_a_run_of_a_shell_is_resumed_by_a_shell(tmp_path, airflow, capsys):
    identity = make_identity("now", run_id="now")
    folder = make_folder(tmp_path / "out", 1, plan="now", run_id="now", settings={"identity": identity})
    text = said(capsys, "resume", folder.path, code=1)
    assert f"airflow-prs run --resume {folder.path}" in text


def test_an_output_has_many_runs_of_which_one_is_chosen(folder, tmp_path, capsys):
    open_attempt(make_folder(tmp_path / "out", 2, run_id="run 2"), 0)
    output = tmp_path / "out"
    assert "run 2: drained" in said(capsys, "drain", output)
    assert "run 1: drained" in said(capsys, "drain", output, "--run-id", "run 1", "--dag-id", "digits")
    assert "holds no run of DAG 'letters'" in said(capsys, "drain", output, "--dag-id", "letters", code=1)


def test_an_output_of_several_steps_of_a_run_needs_a_run_folder(folder, tmp_path, capsys):
    other = make_identity("plan-9", task_id="again")
    make_folder(tmp_path / "out", 2, plan="plan-9", settings={"identity": other})
    assert "several steps of run 'run 1'" in said(capsys, "drain", tmp_path / "out", "--run-id", "run 1", code=1)
