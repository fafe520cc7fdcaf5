"""Which files a dataset's path stands for."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import InputError
from airflow_prs.inputs.files.listing import list_files


@pytest.fixture
def folder(tmp_path):
    """Make files below a folder; each holds its own name."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path

    return make


def names(listing, root):
    return [os.path.relpath(path, root) for path in listing.paths]


def test_a_single_file_is_one_item_with_its_size_and_time(folder):
    root = folder("a.txt")
    listing = list_files("a.txt", base=str(root))
    status = (root / "a.txt").stat()
    assert ([*listing.paths], [*listing.sizes], [*listing.modified_ns]) == (
        [str(root / "a.txt")],
        [5],
        [status.st_mtime_ns],
    )


def test_a_folder_is_taken_with_all_below_it_in_sorted_order(folder):
    root = folder("d/b.txt", "d/a/z.txt", "d/a.txt", "d/a-/y", "other.txt")
    assert names(list_files("d", base=str(root)), root) == sorted(["d/a-/y", "d/a.txt", "d/a/z.txt", "d/b.txt"])


def test_a_list_is_taken_in_sorted_order_and_each_file_once(folder):
    root = folder("b", "a", "d/c")
    assert names(list_files(["d", "b", "a", "*"], base=str(root)), root) == ["a", "b", "d/c"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["1.png"]),
        ("**/*.png", ["1.png", "a/2.png", "a/b/3.png"]),
        ("a/**", ["a/2.png", "a/b/3.png", "a/b/4.txt"]),
        ("**/b/*", ["a/b/3.png", "a/b/4.txt", "b/5.txt"]),
        ("a/**/b/**/3.png", ["a/b/3.png"]),
        ("?/?.png", ["a/2.png"]),
        ("a/[!0-1].png", ["a/2.png"]),
        ("*/", ["a/2.png", "a/b/3.png", "a/b/4.txt", "b/5.txt"]),
        ("**/**/4.txt", ["a/b/4.txt"]),
    ],
)
def test_globs_match_segment_by_segment(folder, pattern, expected):
    root = folder("1.png", "a/2.png", "a/b/3.png", "a/b/4.txt", "b/5.txt")
    assert names(list_files(pattern, base=str(root)), root) == expected


def test_hidden_names_and_run_folders_are_left_out(folder):
    root = folder("d/.hidden", "d/.git/x", "d/_parallel_run/dag/x", "d/a")
    assert names(list_files(["d", "d/**/*"], base=str(root)), root) == ["d/a"]


def test_hidden_names_that_the_path_names_itself_are_taken(folder):
    root = folder(".d/a", "x/.e/b", "x/.f")
    assert names(list_files([".d", "*/.e/*", "x/.f"], base=str(root)), root) == [".d/a", "x/.e/b", "x/.f"]


ASIDE = ["_SUCCESS", "_metadata", "_common_metadata", ".1.parquet.crc", "_temporary/0/1.parquet", "_delta_log/1.json"]


def test_what_other_engines_write_beside_tables_is_no_table(folder):
    root = folder("t/1.parquet", "t/_x=1/2.parquet", "t/_x=1/_SUCCESS", *(f"t/{name}" for name in ASIDE))
    for pattern in ("t", "t/**", "t/**/*", ["t", "t/*", "t/*/*"]):
        listing = list_files(pattern, base=str(root), are_tables=True)
        assert names(listing, root) == ["t/1.parquet", "t/_x=1/2.parquet"]


def test_files_that_are_no_tables_may_begin_with_an_underscore(folder):
    root = folder("d/_DSC0001.jpg", "d/1.jpg", "d/_raw/2.jpg")
    assert names(list_files("d", base=str(root)), root) == ["d/1.jpg", "d/_DSC0001.jpg", "d/_raw/2.jpg"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("t/_1.csv", ["t/_1.csv"]),
        ("t/_*.csv", ["t/_1.csv"]),
        ("t/_d", ["t/_d/2.csv"]),
        ("t/_*/*", ["t/_d/2.csv"]),
        ("t/_d/**", ["t/_d/2.csv"]),
        ("*/_d/_*", ["t/_d/_3.csv"]),
        ("t/.*", ["t/.4.csv"]),
        ("_u", ["_u/5.csv"]),
    ],
)
def test_tables_that_the_path_names_itself_are_taken(folder, path, expected):
    root = folder("t/1.csv", "t/_1.csv", "t/_d/2.csv", "t/_d/_3.csv", "t/.4.csv", "_u/5.csv")
    assert names(list_files(path, base=str(root), are_tables=True), root) == expected


def test_a_folder_of_nothing_but_such_names_says_why_it_is_empty(folder):
    root = folder("t/_1.csv", "u/.1.csv")
    listing = list_files(["t", "u"], base=str(root), are_tables=True)
    assert [one.partition(", except")[2] for one in listing.unmatched] == [
        " files in folders or with names that begin with '_', which a path to tables must name explicitly",
        "",
    ]


def test_the_published_file_is_no_input_under_any_name_of_it(folder):
    root = folder("out/result.txt", "out/1", "in/2")
    (root / "in/latest").symlink_to(root / "out/result.txt")
    (root / "in/all").symlink_to(root / "out")
    (root / "alias").symlink_to(root / "out")
    for published in ("out/result.txt", "in/../out/result.txt", "alias/result.txt"):
        for path in ("in", "out/../in", "in/./**"):
            listing = list_files(path, base=str(root), published=str(root / published))
            assert {Path(each).name for each in listing.paths} == {"1", "2"}
    listing = list_files("in/latest", base=str(root), published=str(root / "out/result.txt"))
    assert names(listing, root) == ["in/latest"]


def test_no_link_leads_into_a_run_folder_unless_the_path_does(folder):
    root = folder("out/_parallel_run/dag/run/rows", "in/1")
    (root / "in/runs").symlink_to(root / "out/_parallel_run")
    (root / "in/run").symlink_to(root / "out/_parallel_run/dag/run")
    (root / "in/all").symlink_to(root / "out")
    for path in ("in", "in/../in/**", "*/*/*", "out/_parallel_run/../**"):
        assert names(list_files([path, "in/1"], base=str(root)), root) == ["in/1"]
    assert names(list_files("in/runs", base=str(root)), root) == ["in/runs/dag/run/rows"]
    assert names(list_files("in/run/*", base=str(root)), root) == ["in/run/rows"]


segments = st.text("ab._=-", min_size=1, max_size=3).filter(lambda name: name.strip("."))
trees = st.lists(st.lists(segments, min_size=1, max_size=3), max_size=12)


def is_left_out(parts, *, are_tables):
    """As Spark does, but for files with "=" in their names."""
    hidden = any(part.startswith(".") for part in parts)
    aside = parts[-1].startswith("_") or any(part.startswith("_") and "=" not in part for part in parts[:-1])
    return hidden or (are_tables and aside)


@settings(deadline=None, max_examples=40)
@given(trees)
def test_any_tree_is_listed_in_sorted_order_without_what_is_left_out(tree):
    with tempfile.TemporaryDirectory() as root:
        for parts in tree:
            with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                Path(root, *parts[:-1]).mkdir(parents=True, exist_ok=True)
                Path(root, *parts).touch()
        files = [path for path in Path(root).rglob("*") if path.is_file()]
        for are_tables in (False, True):
            seen = [str(path) for path in files if not is_left_out(path.relative_to(root).parts, are_tables=are_tables)]
            assert [*list_files(root, base="/", are_tables=are_tables).paths] == sorted(seen)
            assert [*list_files([root, f"{root}/**/*"], base="/", are_tables=are_tables).paths] == sorted(seen)


def test_the_published_file_is_left_out_and_others_of_its_name_are_not(folder):
    root = folder("d/result.txt", "d/sub/result.txt")
    listing = list_files("d", base=str(root), published=str(root / "d/result.txt"))
    assert names(listing, root) == ["d/sub/result.txt"]


@pytest.mark.parametrize("name", ["a b", "it's", 'a"b', "line\nbreak", "größe", "[1]*?", "100%", "a\\b"])
def test_any_name_is_a_name(folder, name):
    root = folder(f"d/{name}", "d/1")
    assert names(list_files(f"d/{name}", base=str(root)), root) == [f"d/{name}"]
    assert f"d/{name}" in names(list_files("d", base=str(root)), root)


def test_folders_that_exist_are_no_globs_even_before_a_glob(folder):
    root = folder("[ab]/x.png", "a/x.png")
    assert names(list_files("[ab]/*.png", base=str(root)), root) == ["[ab]/x.png"]


def test_a_file_has_one_path_whichever_way_leads_up_to_it(folder):
    root = folder("in/1", "dags/x", "elsewhere/dags/y", "elsewhere/2")
    (root / "link").symlink_to(root / "elsewhere/dags")
    several = ["../in/*", "../dags/../in/1", f"{root}/in/1"]
    assert [*list_files(several, base=str(root / "dags")).paths] == [f"{root}/in/1"]
    assert [*list_files("link/../2", base=str(root)).paths] == [f"{root}/elsewhere/2"]
    assert list_files("*/../in/1", base=str(root)).unmatched == ("'*/../in/1' matched no file",)


def test_absolute_paths_ignore_the_base(folder):
    root = folder("a")
    assert [*list_files(str(root / "a"), base="/nowhere").paths] == [str(root / "a")]


@pytest.mark.parametrize("path", ["missing/a.txt", "missing/in/", "missing/in/*.txt", "missing/in/x/*/a"])
def test_a_missing_parent_is_an_error_that_names_it(tmp_path, path):
    with pytest.raises(InputError, match=rf"does not exist: there is no '{tmp_path}/missing'"):
        list_files([path], base=str(tmp_path))


@pytest.mark.parametrize("path", ["in", "in/", "a.txt"])
def test_a_missing_file_or_folder_matches_nothing(tmp_path, path):
    listing = list_files([path], base=str(tmp_path))
    assert len(listing) == 0
    assert listing.unmatched == (f"{str(tmp_path / path)!r} does not exist",)


@pytest.mark.parametrize("paths", [["a", "b"], ["b", "a"], ["b", "*"]])
def test_a_missing_file_is_an_error_while_others_are_found(folder, paths):
    root = folder("a")
    with pytest.raises(InputError, match=rf"'{root}/b' does not exist\.$"):
        list_files(paths, base=str(root))


def test_below_a_file_there_is_nothing(folder):
    root = folder("a")
    with pytest.raises(InputError, match="cannot be accessed"):
        list_files("a/b", base=str(root))


def test_a_pattern_that_matches_nothing_is_named_while_others_go_on(folder):
    root = folder("a.png")
    listing = list_files(["*.png", "*.jpg"], base=str(root))
    assert names(listing, root) == ["a.png"]
    assert listing.unmatched == ("'*.jpg' matched no file",)


def test_a_pattern_below_a_missing_folder_says_so(tmp_path):
    assert list_files("img/*.png", base=str(tmp_path)).unmatched == (
        f"'img/*.png' matched no file: '{tmp_path}/img' does not exist",
    )


def test_a_pattern_that_matches_only_folders_says_how_to_take_what_is_in_them(folder):
    root = folder("day1/x", "day2/x")
    assert "'/**'" in list_files("day*", base=str(root)).unmatched[0]


def test_an_empty_list_matches_nothing(tmp_path):
    assert list_files([], base=str(tmp_path)).unmatched == ("the list of paths is empty",)


def test_links_that_lead_back_end_the_walk_there(folder):
    root = folder("a/1", "b/2")
    (root / "a/to_b").symlink_to(root / "b")
    (root / "b/to_a").symlink_to(root / "a")
    (root / "a/up").symlink_to("..")
    assert names(list_files("a", base=str(root)), root) == ["a/1", "a/to_b/2"]


def test_links_to_files_and_folders_are_followed(folder):
    root = folder("data/1", "d/2")
    (root / "d/file").symlink_to(root / "data/1")
    (root / "d/folder").symlink_to(root / "data")
    assert names(list_files("d", base=str(root)), root) == ["d/2", "d/file", "d/folder/1"]


@pytest.mark.parametrize("target", ["gone", "dead"])
def test_a_link_that_leads_nowhere_is_named(folder, target):
    root = folder("d/1")
    (root / "d/dead").symlink_to(target)
    with pytest.raises(InputError, match=f"d/dead' leads to '{target}'"):
        list_files("d", base=str(root))


def test_pipes_in_a_folder_are_no_items(folder):
    root = folder("d/1")
    os.mkfifo(root / "d/pipe")
    assert names(list_files("d", base=str(root)), root) == ["d/1"]


def test_a_pipe_as_a_path_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe, a socket or a device"):
        list_files("pipe", base=str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_an_error_that_shows_it(tmp_path):
    (tmp_path / os.fsdecode(b"\xff")).touch()
    with pytest.raises(InputError, match="not valid UTF-8"):
        list_files(".", base=str(tmp_path))


def test_a_file_that_many_patterns_match_keeps_its_size_and_time(folder):
    root = folder("b/22", "a/1", "c/333")
    listing = list_files(["c/*", "*/*", "b/22"], base=str(root))
    assert names(listing, root) == ["a/1", "b/22", "c/333"]
    assert [*listing.sizes] == [3, 4, 5]
    assert [*listing.modified_ns] == [(root / name).stat().st_mtime_ns for name in ("a/1", "b/22", "c/333")]
