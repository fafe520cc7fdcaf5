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
