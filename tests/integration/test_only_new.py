"""only_new=True: which files a chain of runs processes."""

import logging
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import EmptyInputError
from airflow_prs.object_storage import ambient, connecting
from airflow_prs.object_storage.addresses import parse_address
from airflow_prs.plan import only_new
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.records import RunIdentity
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.pruning import DAY_S, Candidate, choose, remove
from airflow_prs.run_folder.stored_runs import stored_runs
from tests.buckets import buckets_in_memory
from tests.makers import do_shard, make_config
from tests.object_servers import serve

SCANS = FileDataset("data", only_new=True).as_named_input("scans")


class Chain:
    """Runs of one task over a folder, one after the other."""

    def __init__(self, folder):
        self.folder = folder
        self.runs = 0
        for name in ("scripts", "data"):
            (folder / name).mkdir()
        self.write_script("def run(mini_batch):\n    return mini_batch\n")

    def write_script(self, text):
        (self.folder / "scripts/score.py").write_text(text)

    def add(self, *names):
        for name in names:
            (self.folder / "data" / name).write_text(f"{name}\n")

    def request(self, dataset=SCANS, *, config=None, **changes):
        self.runs += 1
        values = {
            "config": make_config(source_directory="scripts", mini_batch_size=1, **(config or {})),
            "datasets": (dataset,),
            "output": str(self.folder / "out"),
            "run_root": str(self.folder / "root"),
            "dag_folder": str(self.folder),
            "identity": RunIdentity(dag_id="dag", run_id=f"run{self.runs}", task_id="step", plan=f"plan{self.runs:03}"),
            "on_empty": "skip",
        }
        return PlanRequest(**(values | changes))

    def run(self, dataset=SCANS, *, failed=(), **changes):
        """Run over the folder, let some files fail, and return the names of the files that were processed."""
        return self.finish(make_plan(self.request(dataset, **changes)), failed=failed)

    def finish(self, result, *, failed=()):
        planned = files_of(result)
        indices = [index for index, name in enumerate(planned) if name in failed]
        for number in range(len(result.manifest.shards)):
            do_shard(result.folder, number, failed=indices, local=self.folder / "node")
        if planned:
            merge_run(result.folder)
        return planned


def files_of(result):
    """Return the name of the file of each mini-batch."""
    if result.is_empty:
        return []
    found = result.folder.read_mini_batches(0, result.manifest.mini_batches)
    return [piece.path.rpartition("/")[2] for mini_batch in found for piece in mini_batch.pieces]


def again(chain, request):
    """Return the request of the next plan of the same run."""
    chain.runs += 1
    return replace(request, identity=replace(request.identity, plan=f"plan{chain.runs:03}"))


@pytest.fixture
def chain(tmp_path, monkeypatch):
    monkeypatch.setattr(only_new, "_CHUNK", 2)  # several chunks for a few files
    return Chain(tmp_path)


def test_each_run_processes_what_no_run_before_it_has(chain):
    chain.add("a", "b")
    assert chain.run() == ["a", "b"]
    chain.add("c")
    assert chain.run() == ["c"]
    chain.add("d")
    assert chain.run() == ["d"]
    assert chain.run() == []


def test_a_changed_file_is_new(chain):
    chain.add("a", "b")
    chain.run()
    (chain.folder / "data/b").write_text("longer than before")
    assert chain.run() == ["b"]


def test_files_of_failed_mini_batches_are_tried_again(chain, caplog):
    chain.add("a", "b", "c")
    assert chain.run(failed={"b", "c"}) == ["a", "b", "c"]
    chain.add("d")
    with caplog.at_level(logging.INFO):
        assert chain.run(failed={"c"}) == ["b", "c", "d"]
    assert "input 'scans': 1 of 4 files were processed by run run1 or before it; 3 are new, 2 of them failed then." in (
        caplog.text
    )
    assert chain.run(failed={"c"}) == ["c"]
    assert chain.run() == ["c"]
    assert chain.run() == []


def test_a_run_that_is_not_completed_has_processed_nothing(chain):
    chain.add("a")
    chain.run()
    chain.add("b")
    assert files_of(make_plan(chain.request())) == ["b"]
    chain.add("c")
    assert chain.run() == ["b", "c"]


def test_other_work_processes_everything_and_the_log_names_what_differs(chain, caplog):
    chain.add("a")
    chain.run()
    chain.write_script("def run(mini_batch):\n    return list(mini_batch)\n")
    with caplog.at_level(logging.INFO):
        assert chain.run(arguments=("--x",)) == ["a"]
    assert "no file is left out: of the newest completed run (run1) these parts differ: arguments, code." in caplog.text


def test_terms_are_no_other_work(chain):
    chain.add("a")
    chain.run()
    assert chain.run(config={"node_count": 3, "run_max_try": 7}) == []


def test_runs_without_only_new_tell_nothing(chain, caplog):
    chain.add("a")
    chain.run(replace(SCANS, only_new=False))
    with caplog.at_level(logging.INFO):
        assert chain.run() == ["a"]
    assert "it is not known which files it had: only_new was not set" in caplog.text


def test_nothing_new_is_an_empty_input(chain):
    chain.add("a", "b")
    chain.run()
    with pytest.raises(EmptyInputError, match=r"'scans': all 2 files were processed by run run1 or before it\. on_em"):
        chain.run(on_empty="fail")


def test_a_plan_that_is_cleared_continues_with_the_same_files(chain):
    chain.add("a")
    chain.run()
    chain.add("b")
    request = chain.request()
    planned = make_plan(request)
    assert make_plan(again(chain, request)).folder.path == planned.folder.path


def test_a_cleared_run_keeps_its_files_although_a_newer_run_has_completed(chain):
    chain.add("a")
    chain.run()
    chain.add("b")
    request = chain.request()
    assert chain.finish(make_plan(request)) == ["b"]
    chain.add("c")
    assert chain.run() == ["c"]
    assert chain.finish(make_plan(again(chain, request))) == ["b"]
    assert chain.run() == []


def test_the_run_known_by_its_xcom_counts_under_another_output(chain):
    chain.add("a")
    first = make_plan(chain.request(output=str(chain.folder / "monday")))
    chain.finish(first)
    chain.add("b")
    tuesday = str(chain.folder / "tuesday")
    assert chain.run(output=tuesday, earlier=str(first.folder.path)) == ["b"]


@pytest.mark.parametrize("damage", ["seen/scans.parquet", "manifest.parquet"])
def test_an_earlier_run_that_cannot_be_read_is_named_and_the_one_before_it_counts(chain, caplog, damage):
    chain.add("a")
    chain.run()
    chain.add("b")
    second = make_plan(chain.request())
    chain.finish(second)
    (second.folder.path / damage).write_bytes(b"torn")
    assert chain.run() == ["b"]
    assert f"{second.folder.path} is completed, but cannot be read" in caplog.text


def test_without_known_work_nothing_is_left_out_and_a_warning_says_so(chain, caplog):
    chain.add("a")
    chain.run()
    assert chain.run(variables_hash=None) == ["a"]
    assert "environment variables or packages cannot be compared" in caplog.text


def test_a_table_with_failed_rows_is_left_out_and_the_log_says_where_they_are(chain, caplog):
    rows = TabularDataset.from_delimited_files("data", header=False, only_new=True).as_named_input("rows")
    chain.add("a", "b")
    chain.run(rows, failed={"a"})
    chain.add("c")
    assert chain.run(rows) == ["c"]
    assert "input 'rows': 1 mini-batch of run run1 failed. Their rows are not processed again" in caplog.text
    assert "failed_items.jsonl" in caplog.text


def test_prune_keeps_the_run_that_the_next_one_needs(chain):
    for name in "ab":
        chain.add(name)
        chain.run()
    chosen = choose(
        [Candidate(run) for run in stored_runs(chain.folder / "out")],
        older_than_s=0,
        keep=0,
        now=time.time() + 2 * DAY_S,
    )
    assert [each.run.run_id for each in chosen] == ["run1"]
    for each in chosen:
        remove(each)
    assert chain.run() == []


def test_objects_are_known_by_their_etags(chain):
    with buckets_in_memory("bkt") as stores:
        bucket = stores["bkt"].store
        objects = FileDataset("s3://conn@bkt/in", only_new=True).as_named_input("scans")
        bucket.put("in/a", b"1")
        bucket.put("in/b", b"2")
        assert chain.run(objects, failed={"b"}) == ["a", "b"]
        bucket.put("in/a", b"3")
        bucket.put("in/c", b"4")
        assert chain.run(objects) == ["a", "b", "c"]
        assert chain.run(objects) == []


def test_objects_and_runs_on_a_server_are_known_by_their_etags(chain, monkeypatch):
    place = serve("seaweed").place()
    for name, value in place.server.credentials().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connecting, "_connect", ambient.connect)
    monkeypatch.setattr(connecting, "_connections", {})
    top = place.without_connection
    objects = connecting.connect_to(parse_address(top).bucket).objects

    def put(name, data):
        objects.put(parse_address(f"{top}/in/{name}").key, data)

    def run(**values):
        return chain.run(scans, output=f"{top}/out", run_root=f"{top}/out", **values)

    scans = FileDataset(f"{top}/in", only_new=True).as_named_input("scans")
    put("a", b"1")
    put("b", b"2")
    assert run(failed={"b"}) == ["a", "b"]
    put("a", b"3")
    put("c", b"4")
    assert run() == ["a", "b", "c"]
    put("c", b"4")
    put("d", b"5")
    assert run() == ["d"]
    assert run() == []


def test_dag_runs_process_each_file_once_although_one_of_them_fails(dag_file, tmp_path):
    folder = tmp_path / "items"
    folder.mkdir()
    dag_file.script(
        """
        import pathlib

        def run(mini_batch):
            if pathlib.Path(mini_batch[0]).with_name("broken").exists():
                raise ValueError("no service")
            return [pathlib.Path(path).read_text() for path in mini_batch]
        """
    )
    dag_file.write(
        f"""
        with DAG("only_new") as dag:
            ParallelRunOperator(
                task_id="step",
                parallel_run_config=config(error_threshold=0, run_max_try=1),
                inputs=[FileDataset({str(folder)!r} + "/*.txt", only_new=True)],
                output={str(tmp_path)!r} + "/out/{{{{ run_id }}}}",
                on_empty="skip",
            )
        """
    )

    def run(name):
        (folder / f"{name}.txt").write_text(name)
        done = dag_file.run()
        result = tmp_path / "out" / done.run_id / "parallel_run_step.txt"
        return done.state, result.read_text().split() if result.exists() else None

    assert run("a") == ("success", ["a"])
    (folder / "broken").touch()
    assert run("b") == ("failed", None)
    (folder / "broken").unlink()
    assert run("c") == ("success", ["b", "c"])
    assert dag_file.run().states["step.plan"] == "skipped"


DAYS = st.lists(
    st.tuples(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.booleans()),
    min_size=2,
    max_size=5,
)


@given(days=DAYS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_version_of_a_file_succeeds_exactly_once(days, tmp_path_factory):
    chain = Chain(tmp_path_factory.mktemp("chain"))
    version, succeeded = {}, set()
    for day, (written, failing, is_completed) in enumerate(days):
        for name in sorted(written):
            version[name] = day
            (chain.folder / "data" / name).write_text("x" * (day + 1))
        expected = sorted(name for name in version if (name, version[name]) not in succeeded)
        if not version:
            continue
        result = make_plan(chain.request())
        assert files_of(result) == expected
        if is_completed:
            chain.finish(result, failed=failing)
            succeeded |= {(name, version[name]) for name in expected if name not in failing}
