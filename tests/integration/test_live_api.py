"""The server of the live page, as Airflow's API server mounts it: who sees what, who changes what, and of which run."""

from __future__ import annotations

import json
import os
import threading
from importlib.metadata import version
from urllib.parse import quote

import pytest
from packaging.version import Version

from airflow_prs.airflow_side import run_link
from airflow_prs.airflow_side.object_storage import use_airflow_connections
from airflow_prs.object_storage import connecting
from airflow_prs.run_folder.shard_records import Closing
from tests.airflow_services import wait_until
from tests.dag_runs import DagFile
from tests.makers import commit, make_failed_try, make_failure, make_folder, make_identity, open_attempt
from tests.object_servers import serve
from tests.picky_auth import PickyAuthManager

SCRIPT = """
import pathlib

def run(mini_batch):
    texts = [pathlib.Path(path).read_text() for path in mini_batch]
    print("works on", texts, flush=True)
    if "two" in texts:
        raise ValueError("no two")
    return texts
"""
CHANGE = {"X-Parallel-Run": "1"}
ENDPOINTS = ["", "/failures", "/logs/node/process000", "/clearing?action=retry"]


@pytest.fixture(scope="module")
def run(airflow_home, tmp_path_factory):
    """A run of three mini-batches, one of which has failed."""
    place = tmp_path_factory.mktemp("live")
    (place / "in").mkdir()
    for text in ("one", "three", "two"):
        (place / "in" / text).write_text(text)
    file = DagFile(airflow_home / "dags" / "live_page")
    file.script(SCRIPT)
    file.write(f"""
        limit = PipelineParameter(name="most_failures", default_value=-1)
        with DAG("live_page", schedule=None) as dag:
            ParallelRunOperator(
                task_id="score", inputs=[FileDataset({str(place / "in")!r})], output={str(place / "out")!r},
                parallel_run_config=config(node_count=1, mini_batch_size=1, run_max_try=2, error_threshold=limit),
            )
    """)
    yield file.run()
    file.remove()


@pytest.fixture(scope="module")
def server(airflow_home):
    """Airflow's API server without a network, where the users of picky_auth log in."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from fastapi.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.picky_auth.PickyAuthManager")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of these tests alone, " * 4)
        purge_cached_app()
        yield TestClient(create_app(apps="core"))
        purge_cached_app()


@pytest.fixture
def log_in(server):
    """Return the headers of a user."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def headers(name, **options):
        user = SimpleAuthManagerUser(username=name, role="viewer")
        return {"Authorization": f"Bearer {get_auth_manager().generate_jwt(user, **options)}"}

    return headers


@pytest.fixture
def step(run):
    """The address of the step."""
    return f"/parallel-run/api/dags/{run.dag_id}/runs/{quote(run.run_id)}/steps/score"


@pytest.fixture
def hand_over(run):
    """Let plan's XCom name another folder, as if plan had planned that one."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    def set_folder(folder, execution=1):
        with create_session() as session:
            found = session.query(XComModel).filter_by(run_id=run.run_id, key="plan", task_id="score.plan").one()
            before = found.value
            found.value = {**before, "folder": str(folder), "execution": execution}
            return before["folder"], before["execution"]

    before = []
    yield lambda folder: before.append(set_folder(folder))
    for folder in before[:1]:
        set_folder(*folder)


@pytest.fixture
def unfinished(run, hand_over, tmp_path):
    """The run folder of the step is one in which a shard works, and a mini-batch has failed."""
    folder = plan_unfinished(tmp_path / "own", run, tmp_path)
    hand_over(folder.path)
    return folder


def plan_unfinished(output, run, local):
    """Return a run folder in which a shard works, and a mini-batch has failed."""
    identity = make_identity(dag_id=run.dag_id, run_id=run.run_id, task_id="score")
    folder = make_folder(output, 4, settings={"identity": identity}, error_threshold=3)
    commit(open_attempt(folder, local=local), [make_failure(0)], [make_failed_try(0)])
    return folder


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_nobody_sees_anything_without_a_valid_token(server, log_in, step, endpoint):
    assert server.get(step + endpoint).status_code == 401
    assert server.get(step + endpoint, headers=log_in("reader", expiration_time_in_seconds=-60)).status_code == 401
    assert server.get(step + endpoint, headers={"Authorization": "Bearer nonsense"}).status_code == 403
    assert server.get("/parallel-run/api/runs").status_code == 401


@pytest.mark.parametrize("name", ["stranger", "guest"])
def test_who_may_not_read_the_dag_sees_none_of_its_runs(server, log_in, run, step, name):
    headers = log_in(name)
    assert [server.get(step + endpoint, headers=headers).status_code for endpoint in ENDPOINTS] == [403] * 4
    assert server.get(step.rpartition("/")[0], headers=headers).status_code == 403
    assert server.get("/parallel-run/api/runs", headers=headers).json() == {"runs": []}
    changes = {"error_threshold": 5}
    assert server.post(f"{step}/limits", headers={**headers, **CHANGE}, json=changes).status_code == 403


def test_a_reader_sees_the_run_but_nothing_that_only_logs_show(server, log_in, run, step):
    headers = log_in("reader")
    shown = server.get(step, headers=headers).json()
    assert (shown["state"], shown["is_live"], shown["may_edit"], shown["may_read_logs"]) == (
        "completed",
        False,
        False,
        False,
    )
    assert shown["progress"] | {"items_succeeded": 2} == shown["progress"]
    assert (shown["progress"]["done"], shown["progress"]["failed"], shown["bins"]["failed"]) == (3, 1, [0, 0, 1])
    assert (shown["result"]["rows"], shown["result"]["head"]) == (2, None)
    assert {action["can"] for action in shown["actions"].values()} == {False}
    assert [each["name"] for each in shown["configuration"] if each["is_promoted"]] == ["error_threshold"]
    assert "arguments" not in {each["name"] for each in shown["configuration"]}
    failures = server.get(f"{step}/failures", headers=headers).json()
    assert (failures["total"], [each["mini_batch"] for each in failures["failures"]]) == (1, [2])
    tries = failures["failures"][0]["tries"]
    assert [(each["try"], each["traceback"], each["log"]) for each in tries] == [(1, None, None), (2, None, None)]
    assert server.get(f"{step}/logs/{tries[0]['node']}/process000", headers=headers).status_code == 403


def test_who_may_read_logs_sees_tracebacks_rows_and_what_the_script_has_printed(server, log_in, run, step):
    headers = log_in("investigator")
    shown = server.get(step, headers=headers).json()
    assert shown["result"]["head"] == ["one", "three"]
    assert "arguments" in {each["name"] for each in shown["configuration"]}
    failed = server.get(f"{step}/failures", headers=headers).json()["failures"][0]
    last = failed["tries"][-1]
    assert "ValueError: no two" in last["traceback"]
    assert (last["task"]["task_id"], last["task"]["map_index"], last["task"]["try_number"]) == (
        "score.mini_batches",
        0,
        1,
    )
    log = server.get(f"/{last['log']}", headers=headers)
    assert ("works on ['two']" in log.text, log.headers["content-type"]) == (True, "text/plain; charset=utf-8")
    for node in ("%2E%2E", "other", "*"):
        assert server.get(f"{step}/logs/{node}/process000", headers=headers).status_code == 404
    assert server.get(f"{step}/failures?offset=1", headers=headers).json() == {"total": 1, "failures": []}


def test_the_lists_show_the_run_in_a_line(server, log_in, run, step):
    headers = log_in("reader")
    listed = server.get("/parallel-run/api/runs", headers=headers).json()["runs"]
    # The database has runs of other tests, too.
    newest = [row for row in listed if row["dag_id"] == "live_page"]
    assert server.get(step.rpartition("/")[0], headers=headers).json()["steps"] == newest
    assert [(row["dag_id"], row["step"], row["state"], row["total"], row["failed"]) for row in newest] == [
        ("live_page", "score", "completed", 3, 1)
    ]
    assert newest[0]["page"] == f"dags/live_page/runs/{quote(run.run_id, safe='')}/plugin/parallel-run"
    assert newest[0]["began"] > 0


@pytest.mark.parametrize(("refused", "most"), [(set(), 1), ({"dag 17"}, 13), ({f"dag {n}" for n in range(64)}, 127)])
def test_the_auth_manager_is_asked_for_all_dags_together(airflow_home, monkeypatch, refused, most):
    from airflow_prs.airflow_side import page_access

    class Manager(PickyAuthManager):
        asked = 0

        def get_authorized_dag_ids(self, *, user, method="GET"):
            return {f"dag {number}" for number in range(64)}

        def batch_is_authorized_dag(self, requests, *, user):
            self.asked += 1
            return super().batch_is_authorized_dag(requests, user=user)

        def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
            return details.id not in refused

    manager = Manager()
    monkeypatch.setattr(page_access, "get_auth_manager", lambda: manager)
    assert page_access.readable_dags("somebody") == manager.get_authorized_dag_ids(user="somebody") - refused
    assert manager.asked <= most


def test_names_that_mean_several_runs_or_other_places_are_not_found(server, log_in, step):
    headers = log_in("editor")
    for path in ("/dags/~/runs/r/steps/score", "/dags/live_page/runs/a..b/steps/score", "/dags/~/runs/r/steps"):
        assert server.get(f"/parallel-run/api{path}", headers=headers).status_code == 404
    assert server.get(step.replace("/score", "/other"), headers=headers).status_code == 404
    assert server.get(f"/parallel-run/api/dags/{'live_page'}/runs/none/steps/score", headers=headers).status_code == 404


def test_the_folder_of_another_run_is_not_shown(server, log_in, step, hand_over, tmp_path):
    hand_over(make_folder(tmp_path, 3).path)
    headers = log_in("editor")
    for endpoint in ["", "/failures", "/clearing?action=retry"]:
        answer = server.get(step + endpoint, headers=headers)
        assert (answer.status_code, "belongs to another run" in answer.json()["detail"]) == (404, True)
    changes = {"error_threshold": 5}
    assert server.post(f"{step}/limits", headers={**headers, **CHANGE}, json=changes).status_code == 404


def test_where_the_server_sees_no_storage_the_page_says_what_to_do(server, log_in, step, hand_over, tmp_path):
    hand_over(tmp_path / "not" / "mounted")
    shown = server.get(step, headers=log_in("editor")).json()
    assert "Mount the storage of the run where the API server runs" in shown["problem"]
    assert (shown["progress"]["total"], shown["xcom"]["summary"]["status"], shown["state"]) == (
        3,
        "completed",
        "completed",
    )
    assert not any(action["can"] for action in shown["actions"].values())
    assert shown["actions"]["limits"]["command"].startswith("airflow-prs runs limits ")
    assert server.get(f"{step}/failures", headers=log_in("editor")).status_code == 409


def test_a_connection_that_the_server_does_not_know_is_named(server, log_in, step, hand_over):
    hand_over("s3://no_such_connection@bucket/out/_parallel_run/d/r/score/plan")
    problem = server.get(step, headers=log_in("editor")).json()["problem"]
    assert "Airflow returns no connection 'no_such_connection'" in problem
    assert "airflow-prs[s3]" in problem


@pytest.fixture
def unfinished_object_run(run, hand_over, tmp_path, monkeypatch):
    """The run folder of the step is such a one on object storage."""
    storage = serve("seaweed")
    monkeypatch.setattr(connecting, "_connections", {})
    for variable, value in storage.airflow_connection().items():
        monkeypatch.setenv(variable, value)
    use_airflow_connections()
    folder = plan_unfinished(str(storage.place()), run, tmp_path)
    hand_over(folder.path)
    return folder


def test_a_run_on_object_storage_is_shown_and_changed(server, log_in, step, unfinished_object_run):
    assert server.get(step, headers=log_in("editor")).json()["problem"] is None
    assert server.get(f"{step}/failures", headers=log_in("editor")).json()["total"] == 1
    changes = {"error_threshold": 5}
    assert server.post(f"{step}/limits", headers={**log_in("editor"), **CHANGE}, json=changes).status_code == 200
    assert unfinished_object_run.read_settings().config.error_threshold == 5


@pytest.fixture
def hanging(unfinished, monkeypatch):
    """The storage of that run does not answer: to open its status.json hangs. Call it to let the storage answer."""
    for module in ("api", "keeping"):
        monkeypatch.setattr(f"airflow_prs.live.{module}.PATIENCE_S", 0.2)
    status = unfinished.path / "status.json"
    status.unlink(missing_ok=True)
    os.mkfifo(status)

    def let_go():
        if status.exists():
            # Renamed first, so that nobody else opens it and hangs.
            pipe = status.rename(status.with_name("pipe"))
            waiting = os.open(pipe, os.O_RDWR)
            os.write(waiting, b"null")
            os.close(waiting)

    yield let_go
    let_go()


def storage_threads():
    return sum(thread.name == "airflow_prs-storage" for thread in threading.enumerate())


def test_storage_that_hangs_blocks_nobody(server, log_in, run, step, hanging):
    headers = log_in("editor")
    for _ in range(3):
        shown = server.get(step, headers=headers).json()
        assert "the storage does not answer" in shown["problem"]
        assert (shown["state"], shown["tasks"]["merge"], shown["xcom"]["summary"]["status"]) == (
            "completed",
            {"success": 1},
            "completed",
        )
        assert not any(action["can"] for action in shown["actions"].values())
    for endpoint in ENDPOINTS[1:]:
        assert server.get(step + endpoint, headers=headers).status_code == 409
    refused = server.post(f"{step}/abort", headers={**headers, **CHANGE}, json={"kind": "drain"})
    assert (refused.status_code, refused.json()) == (409, {"detail": "the storage does not answer"})
    assert server.get(step.rpartition("/")[0], headers=headers).json()["steps"][0]["state"] == "completed"
    assert storage_threads() == 1
    hanging()
    wait_until(lambda: storage_threads() == 0, "the answer of the storage", 10, 0.02)
    assert "not seekable" in server.get(step, headers=headers).json()["problem"]


def test_who_may_change_nothing_costs_no_look_at_the_shards(server, log_in, step, unfinished, monkeypatch):
    monkeypatch.setattr("airflow_prs.live.actions.read_steerable", lambda _: pytest.fail("the shards are read"))
    shown = server.get(step, headers=log_in("reader")).json()
    assert {action["why"] for action in shown["actions"].values()} == {"You may not edit runs of this DAG."}
    assert shown["actions"]["drain"]["command"] == f"airflow-prs runs drain {unfinished.path}"


def test_an_answer_that_has_not_changed_is_not_sent_again(server, log_in, step):
    headers = log_in("reader")
    tag = server.get(step, headers=headers).headers["etag"]
    assert server.get(step, headers={**headers, "If-None-Match": tag}).status_code == 304
    # Rights are never kept: the same tag does not help somebody else.
    assert server.get(step, headers={**log_in("stranger"), "If-None-Match": tag}).status_code == 403
    assert server.get(step, headers={**log_in("editor"), "If-None-Match": tag}).status_code == 200


def test_the_cookie_of_airflows_ui_is_enough_to_read_or_the_answer_says_what_to_upgrade(server, log_in, step):
    token = log_in("reader")["Authorization"].removeprefix("Bearer ")
    answer = server.get(step, headers={"Cookie": f"_token={token}"})
    if Version(version("apache-airflow-core")) >= Version("3.1.1"):
        assert answer.status_code == 200
    else:
        assert (answer.status_code, "upgrade to Airflow 3.1.1" in answer.json()["detail"]) == (401, True)


@pytest.mark.parametrize(
    "change",
    [
        ({"Content-Type": "application/json"}, '{"error_threshold": 5}', 400),
        ({**CHANGE, "Content-Type": "text/plain"}, '{"error_threshold": 5}', 415),
        (CHANGE, '{"error_threshold": 5}', 415),
        ({**CHANGE, "Content-Type": "application/json"}, '{"error_threshold": "many"}', 422),
        ({**CHANGE, "Content-Type": "application/json"}, '{"folder": "/etc"}', 422),
        ({**CHANGE, "Content-Type": "application/json"}, "{}", 409),
        ({**CHANGE, "Content-Type": "application/json"}, '{"error_threshold": -2}', 409),
    ],
)
def test_a_change_that_the_page_would_not_send_changes_nothing(server, log_in, step, unfinished, change):
    headers, content, status = change
    answer = server.post(f"{step}/limits", headers={**log_in("editor"), **headers}, content=content)
    assert (answer.status_code, type(answer.json()["detail"])) == (status, str)
    assert read_run_log(unfinished) == []


def test_limits_are_changed_in_the_name_of_the_user(server, log_in, run, step, unfinished):
    before = server.get(step, headers=log_in("editor")).json()
    assert before["actions"]["limits"]["can"]
    refused = server.post(f"{step}/limits", headers={**log_in("reader"), **CHANGE}, json={"error_threshold": 9})
    assert (refused.status_code, read_run_log(unfinished)) == (403, [])
    answer = server.post(f"{step}/limits", headers={**log_in("editor"), **CHANGE}, json={"error_threshold": 9})
    assert (answer.status_code, answer.json()) == (200, {"changed": "error_threshold 3 -> 9"})
    (record,) = read_run_log(unfinished)
    assert (record.author, record.limits.error_threshold) == ("editor", 9)
    shown = server.get(step, headers=log_in("reader")).json()
    assert [(change["author"], change["what"]) for change in shown["changes"]] == [("editor", answer.json()["changed"])]
    assert {each["name"]: each["limit"] for each in shown["thresholds"]}["error_threshold"] == 9
    owner, extra = audit_log(run, "parallel_run_limits")[-1]
    assert (owner, json.loads(extra)["error_threshold"]) == ("editor", 9)


def test_a_run_is_drained_and_then_cancelled(server, log_in, run, step, unfinished):
    headers = {**log_in("editor"), **CHANGE}
    assert (
        server.post(f"{step}/abort", headers={**headers, **log_in("reader")}, json={"kind": "drain"}).status_code == 403
    )
    assert server.post(f"{step}/abort", headers=headers, json={"kind": "threshold"}).status_code == 422
    answer = server.post(f"{step}/abort", headers=headers, json={"kind": "drain"})
    assert (answer.status_code, answer.json()["author"]) == (200, "editor")
    assert server.get(step, headers=headers).json()["abort"]["kind"] == "drain"
    assert server.post(f"{step}/abort", headers=headers, json={"kind": "drain"}).status_code == 409
    assert server.post(f"{step}/abort", headers=headers, json={"kind": "cancel"}).status_code == 200
    assert [record.abort.kind.value for record in read_run_log(unfinished)] == ["drain", "cancel"]
    assert {owner for owner, _ in audit_log(run, "parallel_run_abort")} == {"editor"}


def test_airflows_own_api_clears_exactly_what_the_page_asks_for(server, log_in, run, step):
    headers = log_in("editor")
    plan = server.get(f"{step}/clearing?action=retry", headers=headers).json()
    (call,) = plan["calls"]
    cleared = server.post(f"/{call['path']}", headers=headers, json={**call["body"], "dry_run": True})
    assert cleared.status_code == 200, cleared.text
    found = {(each["task_id"], each["map_index"]) for each in cleared.json()["task_instances"]}
    assert found == {(each["task_id"], each["map_index"]) for each in plan["tasks"]}
    assert found == {("score.mini_batches", 0), ("score.gatekeeper", -1), ("score.merge", -1)}
    assert server.get(f"{step}/clearing?action=resume", headers=headers).status_code == 409


def test_failures_are_shown_while_a_shard_works(server, log_in, step, unfinished):
    commit(open_attempt(unfinished, try_number=2), [make_failure(3)], [make_failed_try(3)], closing=Closing.STOPPED)
    found = server.get(f"{step}/failures?limit=1&offset=1", headers=log_in("reader")).json()
    assert (found["total"], [each["mini_batch"] for each in found["failures"]]) == (2, [3])


def test_every_task_has_the_button(server, log_in, run):
    for task, index in (("plan", -1), ("mini_batches", 0), ("gatekeeper", -1), ("merge", -1)):
        path = f"/api/v2/dags/live_page/dagRuns/{quote(run.run_id)}/taskInstances/score.{task}/links?map_index={index}"
        shown = server.get(path, headers=log_in("editor")).json()
        assert shown["extra_links"] == {"Parallel run": run_link.page_url(run.dag_id, run.run_id, "score")}


def test_every_task_links_to_the_page_under_the_key_that_it_also_uses_while_it_runs(run):
    links = {
        run.xcom(f"score.{task}", "_link_parallel_run") for task in ("plan", "mini_batches", "gatekeeper", "merge")
    }
    assert len(links) == 1
    assert run.run_id in links.pop().replace("%3A", ":").replace("%2B", "+")


def test_the_page_allows_nothing_from_elsewhere(server):
    page = server.get("/parallel-run/page")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert ("default-src 'none'" in policy, "unsafe" in policy, "http" in policy) == (True, False, False)
    for name in ("page.html", "..%2Fplugin.py", "none.js"):
        assert server.get(f"/parallel-run/assets/{name}").status_code == 404


def read_run_log(folder):
    """Return what persons have written into the run log."""
    return folder.read_run_log().records


def audit_log(run, event):
    """Return owner and details of the entries of Airflow's audit log."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        entries = session.query(Log).filter_by(event=event, dag_id=run.dag_id, run_id=run.run_id).order_by(Log.id)
        return [(entry.owner, entry.extra) for entry in entries]
