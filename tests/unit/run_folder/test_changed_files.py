"""The files of a folder are uploaded while others write to it."""

from airflow_prs.run_folder.changed_files import ChangedFiles
from airflow_prs.store.memory import MemoryStore


def test_a_file_that_is_renamed_while_the_folder_is_uploaded_is_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b.part").write_bytes(b"two")
    store = MemoryStore()

    def clock():
        (tmp_path / "b.part").rename(tmp_path / "c")
        return 0.0

    changed = ChangedFiles(tmp_path, store, "output/", clock=lambda: 0.0)
    (tmp_path / "a").unlink()
    ChangedFiles(tmp_path, store, "output/", clock=clock).upload()
    assert store.list("") == []
    changed.upload()
    assert store.get("output/c") == b"two"


def test_files_that_a_script_renames_or_removes_do_not_stay_on_the_storage(tmp_path):
    store = MemoryStore()
    store.put("output/of-another-node", b"kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.part").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    changed = ChangedFiles(tmp_path, store, "output/")
    changed.upload()
    (tmp_path / "folder/a.part").rename(tmp_path / "folder/a")
    (tmp_path / "b").unlink()
    changed.upload()
    assert store.list("output/") == ["output/folder/a", "output/of-another-node"]
    (tmp_path / "b").write_bytes(b"two")
    changed.upload()
    assert store.get("output/b") == b"two"
