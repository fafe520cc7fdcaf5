"""The snapshot of the code."""

import os
import zipfile

import pytest

from airflow_prs.errors import ConfigError, EntryScriptError
from airflow_prs.plan.snapshot import take_snapshot


@pytest.fixture
def source(tmp_path):
    """A source_directory with a script, a package and what is no code."""
    for name in ("score.py", "lib/deep/model.py", ".config", "__pycache__/x.pyc", ".git/HEAD", "_parallel_run/d/x"):
        path = tmp_path / "scripts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "scripts/tool.sh").write_text("#!/bin/sh\n")
    (tmp_path / "scripts/tool.sh").chmod(0o755)
    return tmp_path / "scripts"


def write(snapshot, target):
    target.parent.mkdir(exist_ok=True)
    snapshot.archive.seek(0)
    target.write_bytes(snapshot.archive.read())


def pack(source, target, entry_script="score.py"):
    with take_snapshot("scripts", entry_script, base=str(source.parent)) as snapshot:
        write(snapshot, target)
        return snapshot


def test_it_holds_the_code_and_nothing_else(source, tmp_path):
    snapshot = pack(source, tmp_path / "run/source.zip")
    with zipfile.ZipFile(tmp_path / "run/source.zip") as packed:
        assert packed.namelist() == [".config", "lib/deep/model.py", "score.py", "tool.sh"]
        assert packed.read("lib/deep/model.py") == b"lib/deep/model.py"
        modes = {info.filename: info.external_attr >> 16 & 0o111 for info in packed.infolist()}
    assert modes == {".config": 0, "lib/deep/model.py": 0, "score.py": 0, "tool.sh": 0o111}
    assert (snapshot.entry_script, snapshot.source) == ("score.py", b"score.py")


def test_equal_files_make_equal_bytes_whenever_they_were_written(source, tmp_path):
    first = pack(source, tmp_path / "1.zip")
    os.utime(source / "score.py", (1, 1))
    second = pack(source, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert first.digest == second.digest


def rename(source):
    (source / "lib/deep/model.py").rename(source / "lib/model.py")


def edit(source):
    (source / "lib/deep/model.py").write_text("other")


def allow_execution(source):
    (source / "lib/deep/model.py").chmod(0o755)


@pytest.mark.parametrize("change", [rename, edit, allow_execution])
def test_the_digest_changes_with_the_code(source, tmp_path, change):
    before = pack(source, tmp_path / "1.zip").digest
    change(source)
    assert pack(source, tmp_path / "2.zip").digest != before


def test_links_are_followed(source, tmp_path):
    (source / "linked").symlink_to(source / "lib")
    pack(source, tmp_path / "1.zip")
    with zipfile.ZipFile(tmp_path / "1.zip") as packed:
        assert "linked/deep/model.py" in packed.namelist()


def test_a_link_that_leads_back_is_named(source, tmp_path):
    (source / "lib/deep/up").symlink_to("../..")
    with pytest.raises(ConfigError, match=r"scripts/lib/deep/up' leads to '\.\./\.\.'"):
        pack(source, tmp_path / "1.zip")


@pytest.mark.parametrize("name", ["other.py", "../outside.py", "lib", "__pycache__/x.pyc"])
def test_an_entry_script_that_is_not_in_it_is_refused(source, tmp_path, name):
    (tmp_path / "outside.py").write_text("")
    with pytest.raises(EntryScriptError, match=f"entry_script='{name}' is not a file in 'scripts'"):
        pack(source, tmp_path / "1.zip", name)


def test_a_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"source_directory='scripts'.*is not a folder"),
        take_snapshot("scripts", "score.py", base=str(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    ("entry_script", "name"), [("score.py", "score.py"), ("./lib/../lib/deep/model.py", "lib/deep/model.py")]
)
def test_without_a_folder_it_holds_the_entry_script_alone(source, tmp_path, entry_script, name):
    with take_snapshot(None, entry_script, base=str(source)) as snapshot:
        write(snapshot, tmp_path / "1.zip")
    with zipfile.ZipFile(tmp_path / "1.zip") as packed:
        assert packed.namelist() == [snapshot.entry_script] == [name]


def test_a_script_outside_the_folder_of_the_dag_file_goes_by_its_last_name(source, tmp_path):
    with take_snapshot(None, str(source / "score.py"), base=str(tmp_path / "dags")) as snapshot:
        assert snapshot.entry_script == "score.py"


def test_a_missing_script_is_named(tmp_path):
    with (
        pytest.raises(EntryScriptError, match=r"entry_script='score\.py'"),
        take_snapshot(None, "score.py", base=str(tmp_path)),
    ):
        pass
