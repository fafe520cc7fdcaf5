"""Files that change after plan, or while it reads: refused by size and moment of change, whatever is in them."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import InputChangedError
from airflow_prs.inputs.files.listing import Listing, list_files
from airflow_prs.records import TryStatus
from airflow_prs.worker.reading.load_errors import LoadError
from airflow_prs.worker.reading.readers import TableReader, make_reader
from airflow_prs.worker.reading.versions import find_change
from tests.shards import Tries, read_rows, read_tries
from tests.table_plans import KINDS, table_plan, write_table
from tests.tables import cut

BYTES = r"\d+ bytes, last changed"
SAYS_WHAT = rf"it had {BYTES} \d{{4}}-\d\d-\d\dT[\d:]{{8}}\.\d{{9}}Z; it has {BYTES} 2001-09-09T01:46:40"


def change(path: Path, write) -> None:
    """Write a file anew, at a moment of its own however coarse the clock of the file system."""
    write(path)
    os.utime(path, (10**9, 10**9))


def version_of(path) -> str:
    return Listing.of([str(path)]).versions(slice(None))[0].as_py()


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_changed_is_refused_though_it_has_as_many_rows(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    write_table(path, {"n": [1, 2, 3, 4]})
    reader, mini_batches = cut(KINDS[kind](str(path)), tmp_path)
    assert [len(reader.load(*each)) for each in mini_batches] == [each[1] for each in mini_batches]
    change(path, lambda path: write_table(path, {"n": [1, 5, 7, 4]}))
    for each in mini_batches:
        with pytest.raises(LoadError, match=rf"^{path}: the file has changed since it was planned: {SAYS_WHAT}"):
            reader.load(*each)


def test_a_file_that_changed_never_reaches_run(tmp_path):
    (tmp_path / "1.txt").write_text("a")
    (tmp_path / "2.txt").write_text("b")
    reader, mini_batches = cut(FileDataset(str(tmp_path / "*.txt")), tmp_path, 1)
    change(tmp_path / "2.txt", lambda path: path.write_text("c"))
    assert reader.load(*mini_batches[0]) == [str(tmp_path / "1.txt")]
    with pytest.raises(LoadError, match=rf"2\.txt: the file has changed since it was planned: {SAYS_WHAT}"):
        reader.load(*mini_batches[1])


@pytest.mark.parametrize("make", [FileDataset, TabularDataset.from_delimited_files])
def test_a_file_that_is_gone_is_not_said_to_have_changed(tmp_path, make):
    (tmp_path / "1.csv").write_text("n\n1\n")
    reader, (mini_batch,) = cut(make(str(tmp_path / "*.csv")), tmp_path, 1 if make is FileDataset else "2 rows")
    (tmp_path / "1.csv").unlink()
    with pytest.raises(
        LoadError, match=r"1\.csv: the file that plan listed cannot be accessed: No such file"
    ) as raised:
        reader.load(*mini_batch)
    assert "changed" not in str(raised.value)


def test_an_error_that_a_change_has_led_to_speaks_of_the_change(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n\n1\n2\n")
    version = version_of(path)

    def read(*_piece):
        change(path, lambda path: path.write_text("n\n1\n"))
        raise LoadError("the file ends at byte 4")

    with pytest.raises(LoadError, match="has changed since it was planned"):
        TableReader(lambda: read).load([[str(path), 2, 6, None]], 2, [version])


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n\n1\n2\n")
    version = version_of(path)

    def read(*_piece):
        change(path, lambda path: path.write_text("n\n3\n4\n"))
        return pd.read_csv(path)

    with pytest.raises(LoadError, match="has changed since it was planned"):
        TableReader(lambda: read).load([[str(path), None, None, None]], 2, [version])


def test_a_file_that_is_put_back_is_read_as_it_was_planned(tmp_path):
    """Parquet files stay open for the next mini-batch; what was opened meanwhile must not be."""
    path, aside = tmp_path / "t.parquet", tmp_path / "aside"
    pq.write_table(pa.table({"n": [1, 2]}), path)
    pieces, versions = [[str(path), 0, 2, 0]], [version_of(path)]
    real = make_reader({"name": "t", "kind": "parquet", "options": {}})
    swaps = iter([True, False])

    def make_read():
        read = real._make_read()

        def swapping(*piece):
            if next(swaps):
                path.rename(aside)
                change(path, lambda path: pq.write_table(pa.table({"n": [8, 9]}), path))
            return read(*piece)

        return swapping

    reader = TableReader(make_read)
    with pytest.raises(LoadError, match="has changed since it was planned"):
        reader.load(pieces, 2, versions)
    aside.replace(path)
    assert list(reader.load(pieces, 2, versions)["n"]) == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_copied", [False, True])
def test_a_file_that_changes_between_listing_and_reading_fails_the_plan(tmp_path, kind, is_copied):
    path = tmp_path / f"t.{kind}"
    write_table(path, {"n": [1, 2, 3, 4], "k": ["a", "b", "a", "b"]})
    dataset = KINDS[kind](str(path))
    dataset = dataset.partition_by(["k"]) if is_copied else dataset
    listing = list_files(str(path), base="/")
    change(path, lambda path: write_table(path, {"n": [1, 5, 7, 4], "k": ["b", "b", "a", "b"]}))
    with pytest.raises(
        InputChangedError, match=rf"t\.{kind}' changed while plan was reading the input: {SAYS_WHAT}.*Run plan again"
    ):
        cut(dataset, tmp_path, files=listing)
    assert not (tmp_path / "inputs").exists()


def test_an_error_of_plan_that_a_change_has_led_to_speaks_of_the_change(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n\n1\n")
    listing = list_files(str(path), base="/")
    change(path, lambda path: path.write_text('n\n"1\n'))
    with pytest.raises(InputChangedError, match="changed while plan was reading the input"):
        cut(TabularDataset.from_delimited_files(str(path)), tmp_path, files=listing)


def test_the_files_of_a_copy_are_known_again_too(tmp_path):
    (tmp_path / "t.csv").write_text("n,k\n1,a\n2,b\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "t.csv")).partition_by(["k"])
    reader, mini_batches = cut(dataset, tmp_path)
    change(tmp_path / "inputs/t/k=a/rows.parquet", lambda path: pq.write_table(pa.table({"n": [7]}), path))
    assert list(reader.load(*mini_batches[1])["n"]) == [2]
    with pytest.raises(LoadError, match=r"k=a/rows\.parquet: the file has changed since it was planned"):
        reader.load(*mini_batches[0])


def test_a_mini_batch_of_a_changed_file_fails_alone_and_as_a_failed_try(tmp_path):
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / f"in/{name}.csv").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{name}.csv").write_text(f"n\n{value}\n")
    script = "def run(mini_batch):\n    return mini_batch['n'].tolist()\n"
    (tmp_path / "score.py").write_text(script)
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "in"))
    settings = {"node_count": 1, "process_count_per_node": 1, "error_threshold": -1, "run_max_try": 2}
    planned = table_plan(tmp_path, dataset, **settings)
    change(tmp_path / "in/b.csv", lambda path: path.write_text("n\n7\n"))
    Tries(planned.folder).run()
    assert read_rows(planned.folder) == ["1", "3"]
    failed = read_tries(planned.folder)
    assert [(each.index, each.try_number, each.status) for each in failed] == [
        (1, 1, TryStatus.LOAD_EXCEPTION),
        (1, 2, TryStatus.LOAD_EXCEPTION),
    ]
    assert "in/b.csv: the file has changed since it was planned" in failed[0].error


def test_versions_tell_files_apart_by_size_and_to_the_nanosecond(tmp_path):
    path = tmp_path / "f"
    for size, modified_ns in ((0, 0), (1, 1), (3, -1), (5, 10**18 + 1)):
        path.write_bytes(b"x" * size)
        os.utime(path, ns=(modified_ns, modified_ns))
        assert version_of(path) == f"{size}-{modified_ns}"
        assert find_change(str(path), f"{size}-{modified_ns}") is None
        assert find_change(str(path), f"{size}-{modified_ns + 1}") is not None
        assert find_change(str(path), f"{size + 1}-{modified_ns}") is not None
