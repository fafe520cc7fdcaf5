"""Partitioned copies with their target on object storage: in the end they are the files of one plan, whatever dies."""

import io
import os
import signal
import subprocess
import sys
import threading

import pyarrow.parquet as pq
import pytest

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.errors import ConfigError
from airflow_prs.object_storage import ambient, connecting
from tests.fault_proxy import fault_proxy
from tests.node_process import start_node
from tests.object_servers import SOME_SLOW, serve
from tests.shards import read_rows, read_tries
from tests.table_plans import table_plan, write_table

ODD = ["a/b", "Inc.", "%", "ü 中", "\x85", None, "..", "c\\d", "?x=1"]
ROWS = {"k": ["b", "a", "b", "c"], "n": [0, 1, 2, 3]}

PLAN = """
import sys
from pathlib import Path
from airflow_prs.config.datasets import TabularDataset
from airflow_prs.object_storage import ambient
from airflow_prs.object_storage.connecting import use_connections
from tests.table_plans import table_plan

use_connections(ambient.connect)
folder, target, run = sys.argv[1:]
table_plan(Path(folder), TabularDataset.from_parquet_files("data").partition_by(["k"], target=target), run=run)
"""


@pytest.fixture
def place_on(monkeypatch):
    """Return a place on a server, which is used with the credentials of the environment."""

    def place(name="seaweed"):
        found = serve(name).place()
        for variable, value in found.server.credentials().items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(connecting, "_connect", ambient.connect)
        monkeypatch.setattr(connecting, "_connections", {})
        return found

    return place


@pytest.fixture
def place(place_on):
    return place_on()


def copied(place, path="data"):
    return TabularDataset.from_parquet_files(path).partition_by(["k"], target=f"{place.without_connection}/copy")


def files(place):
    """Give the rows of all files of a copy, as other tools find them, and check that they are those of one plan."""
    names = [name for name in (place / "copy").names() if not name.startswith(".")]
    assert len({name.rpartition("/")[2] for name in names}) <= 1, names
    tables = {name: pq.read_table(io.BytesIO((place / "copy" / name).read())) for name in names}
    return {name.rpartition("/")[0]: table["n"].to_pylist() for name, table in tables.items()}


def indexes(place):
    return [name for name in (place / "copy").names() if name.startswith(".")]


@pytest.mark.parametrize("server", SOME_SLOW)
def test_run_gets_from_a_copy_on_objects_what_it_gets_from_one_on_a_disk(place_on, tmp_path, server):
    place = place_on(server)
    write_table(tmp_path / "data/1.parquet", {"k": ODD * 2, "n": range(2 * len(ODD))})
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    found = {}
    for name, target in (("disk", str(tmp_path / "copy")), ("objects", f"{place.without_connection}/copy")):
        dataset = TabularDataset.from_parquet_files("data").partition_by(["k"], target=target)
        settings = {"partition_keys": ["k"], "node_count": 1, "append_row_file_name": "x.csv"}
        planned = table_plan(tmp_path, dataset, run=name, **settings)
        node = start_node(planned.folder.path, 1)
        node.communicate(timeout=120)
        assert node.returncode == 0, [(t.status, t.error) for t in read_tries(planned.folder)]
        batches = list(planned.folder.read_mini_batches(0, planned.manifest.mini_batches))
        assert [t.error for t in read_tries(planned.folder)] == []
        found[name] = [b.partition for b in batches], [b.items for b in batches], read_rows(planned.folder)
    assert found["objects"] == found["disk"]
    assert [one["k"] for one in found["objects"][0]] == ODD
    assert len(files(place)) == len(ODD)


def test_a_copy_of_the_same_rows_is_reused_and_one_of_others_takes_its_place(place, tmp_path):
    write_table(tmp_path / "data/1.parquet", ROWS)
    table_plan(tmp_path, copied(place), run="1")
    before = (place / "copy").names()
    assert files(place) == {"k=b": [0, 2], "k=a": [1], "k=c": [3]}
    table_plan(tmp_path, copied(place), run="2")
    assert (place / "copy").names() == before

    write_table(tmp_path / "data/1.parquet", {"k": ["d"], "n": [4]})
    planned = table_plan(tmp_path, copied(place), run="3", partition_keys=["k"])
    assert files(place) == {"k=d": [4]}
    assert len(indexes(place)) == 1
    (mini_batch,) = planned.folder.read_mini_batches(0, planned.manifest.mini_batches)
    assert (
        mini_batch.pieces[0].version
        == place.server.connect().objects.head(mini_batch.pieces[0].path.partition("/shared/")[2])["e_tag"]
    )


def test_a_copy_that_lost_a_file_is_written_anew(place, tmp_path):
    write_table(tmp_path / "data/1.parquet", ROWS)
    table_plan(tmp_path, copied(place), run="1")
    lost = next(name for name in (place / "copy").names() if name.startswith("k=a"))
    place.server.connect().objects.delete(f"{place.key}/copy/{lost}")
    table_plan(tmp_path, copied(place), run="2")
    assert files(place) == {"k=b": [0, 2], "k=a": [1], "k=c": [3]}


def test_a_copy_of_objects_may_be_on_a_disk_and_one_of_objects_on_objects(place, tmp_path):
    write_table(tmp_path / "table.parquet", ROWS)
    (place / "data/1.parquet").write((tmp_path / "table.parquet").read_bytes())
    source = TabularDataset.from_parquet_files(f"{place.without_connection}/data")
    table_plan(tmp_path, source.partition_by(["k"], target="copy"), run="1")
    assert sorted(pq.read_table(tmp_path / "copy")["n"].to_pylist()) == [0, 1, 2, 3]
    table_plan(tmp_path, copied(place, f"{place.without_connection}/data"), run="2")
    assert files(place) == {"k=b": [0, 2], "k=a": [1], "k=c": [3]}


def test_a_copy_below_its_source_is_no_part_of_it(place, tmp_path):
    write_table(tmp_path / "table.parquet", ROWS)
    (place / "1.parquet").write((tmp_path / "table.parquet").read_bytes())
    for run in "12":
        planned = table_plan(tmp_path, copied(place, place.without_connection), run=run, partition_keys=["k"])
        assert planned.manifest.items == 4
    inside = TabularDataset.from_parquet_files(f"{place.without_connection}/copy")
    with pytest.raises(ConfigError, match=r"target of 'in0' is '.*/copy', which holds the input 'in1'"):
        table_plan(tmp_path, copied(place, place.without_connection), inside, run="3")


def test_a_target_with_other_objects_is_refused_and_left_alone(place, tmp_path):
    write_table(tmp_path / "data/1.parquet", ROWS)
    (place / "copy/k=a/mine.txt").write("mine")
    with pytest.raises(ConfigError, match=r"target of 'in0' is '.*/copy', where 'k=a/mine\.txt' is not part of a part"):
        table_plan(tmp_path, copied(place))
    assert (place / "copy").names() == ["k=a/mine.txt"]


def test_a_target_that_is_an_object_is_refused(place, tmp_path):
    write_table(tmp_path / "data/1.parquet", ROWS)
    (place / "copy").write("mine")
    with pytest.raises(ConfigError, match=r"target of 'in0' is '.*/copy', an object; allowed: a folder"):
        table_plan(tmp_path, copied(place))


def test_folders_that_may_be_the_same_through_two_connections_are_refused(place, tmp_path):
    write_table(tmp_path / "data/1.parquet", ROWS)
    other = f"{place}/copy"
    second = TabularDataset.from_parquet_files("data").partition_by(["k"], target=other)
    with pytest.raises(ConfigError, match=r"target of 'in1' is .*/copy', as is that of 'in0'"):
        table_plan(tmp_path, copied(place), second)
    table_plan(tmp_path, copied(place), run="1")
    connecting.use_connections(lambda bucket: place.server.connect())
    with pytest.raises(ConfigError, match=r"target of 'in0' is .* may be, through another connection; use the same"):
        table_plan(tmp_path, second, TabularDataset.from_parquet_files(f"{place.without_connection}/copy"), run="2")


class StoppedPlan:
    """
    A plan in a process of its own that stops at a request.

    :param at: tells by method and path whether it is the request.
    """

    def __init__(self, proxy, place, folder, at, run="1"):
        self._at = at
        self.has_stopped = threading.Event()
        proxy.fault = self._fault
        environment = {**os.environ, **place.server.credentials(url=proxy.url)}
        command = [sys.executable, "-c", PLAN, str(folder), f"{place.without_connection}/copy", run]
        self._process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def _fault(self, method, path):
        if not self.has_stopped.is_set() and self._at(method, path):
            self._process.send_signal(signal.SIGSTOP)
            self.has_stopped.set()

    def kill(self):
        assert self.has_stopped.wait(60)
        self._process.kill()
        self._process.wait()

    def go_on(self):
        """Let it go on, and return what it says in the end."""
        self._process.send_signal(signal.SIGCONT)
        _, errors = self._process.communicate(timeout=60)
        return self._process.returncode, errors

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stderr.close()


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def is_upload(method, path):
    return method == "PUT" and "/copy/k%3Da/" in path.replace("=", "%3D")


def is_index(method, path):
    return method == "PUT" and "/.partitions/00" in path


def is_removal(method, path):
    return (method == "POST" and "delete" in path) or (method == "DELETE" and "rows-" in path)


@pytest.mark.parametrize("at", [is_upload, slow(is_index), slow(is_removal)])
@pytest.mark.parametrize("is_changed", [slow(False), True])
def test_a_plan_that_is_killed_and_tried_again_leaves_one_copy(place, tmp_path, at, is_changed):
    write_table(tmp_path / "data/1.parquet", {"k": ["z"], "n": [9]})
    table_plan(tmp_path, copied(place), run="0")  # so that there is something to remove
    write_table(tmp_path / "data/1.parquet", ROWS)
    with fault_proxy(place.server.url) as proxy, StoppedPlan(proxy, place, tmp_path, at) as plan:
        plan.kill()
    if is_changed:
        write_table(tmp_path / "data/1.parquet", {**ROWS, "n": [4, 5, 6, 7]})
    planned = table_plan(tmp_path, copied(place), run="1", partition_keys=["k"])
    first = 4 if is_changed else 0
    assert files(place) == {"k=b": [first, first + 2], "k=a": [first + 1], "k=c": [first + 3]}
    assert len(indexes(place)) == 1
    assert planned.manifest.items == 4


@pytest.mark.parametrize("at", [slow(is_upload), is_index])
@pytest.mark.parametrize("is_changed", [slow(False), True])
def test_a_zombie_of_a_plan_leaves_the_copy_of_the_next_try(place, tmp_path, at, is_changed):
    write_table(tmp_path / "data/1.parquet", ROWS)
    with fault_proxy(place.server.url) as proxy, StoppedPlan(proxy, place, tmp_path, at) as zombie:
        assert zombie.has_stopped.wait(60)
        if is_changed:
            write_table(tmp_path / "data/1.parquet", {**ROWS, "n": [4, 5, 6, 7]})
        planned = table_plan(tmp_path, copied(place), run="1")
        before = (place / "copy").names()
        code, errors = zombie.go_on()
    assert code != 0
    assert "SupersededError" in errors or "InputChangedError" in errors, errors
    assert (place / "copy").names() == before
    first = 4 if is_changed else 0
    assert files(place) == {"k=b": [first, first + 2], "k=a": [first + 1], "k=c": [first + 3]}
    listed = [
        piece.path for b in planned.folder.read_mini_batches(0, planned.manifest.mini_batches) for piece in b.pieces
    ]
    assert all(path.rpartition("/copy/")[2] in before for path in listed)
