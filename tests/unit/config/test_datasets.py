import copy
import pickle
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from airflow_prs.config.datasets import FileDataset, TabularDataset, dataset_from_spec
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.errors import ConfigError


class WhatATaskReturns:
    """Stands for an XComArg."""

    def iter_references(self):
        return iter(())

    def __repr__(self):
        return "XComArg(download)"


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (FileDataset("data/*.png"), "FileDataset('data/*.png')"),
        (FileDataset("data", mode="direct"), "FileDataset('data', mode='direct')"),
        (FileDataset("data", only_new=True), "FileDataset('data', only_new=True)"),
        (FileDataset(Path("data")).as_named_input("digits"), "FileDataset('data').as_named_input('digits')"),
        (FileDataset(["a", "b"], "/{user}.png"), "FileDataset(['a', 'b'], partition_format='/{user}.png')"),
        (TabularDataset.from_delimited_files("a.csv"), "TabularDataset.from_delimited_files('a.csv')"),
        (
            TabularDataset.from_delimited_files("a.csv", "\t", False, "cp1252"),
            "TabularDataset.from_delimited_files('a.csv', separator='\\t', header=False, encoding='cp1252')",
        ),
        (TabularDataset.from_parquet_files("a"), "TabularDataset.from_parquet_files('a')"),
        (
            TabularDataset.from_parquet_files("a").partition_by(["k", "j"], Path("/t"), "rows"),
            "TabularDataset.from_parquet_files('a').partition_by(['k', 'j'], target='/t').as_named_input('rows')",
        ),
        (
            TabularDataset.from_sql_query("SELECT 1", "db").partition_by(("k",)),
            "TabularDataset.from_sql_query('SELECT 1', 'db').partition_by(['k'])",
        ),
    ],
)
def test_the_repr_shows_how_a_dataset_was_made(dataset, text):
    assert repr(dataset) == text


def test_equal_datasets_are_equal_and_others_are_not():
    assert FileDataset("a") == FileDataset(Path("a"))
    assert FileDataset("a") != FileDataset("a").as_named_input("a")
    assert TabularDataset.from_parquet_files("a") != TabularDataset.from_delimited_files("a")


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_dataset_survives_being_copied(clone):
    dataset = TabularDataset.from_delimited_files(["a", "b"], ";").as_named_input("rows")
    assert clone(dataset) == dataset


def test_naming_leaves_the_dataset_itself_as_it_was():
    dataset = FileDataset("a")
    assert dataset.as_named_input("digits").name == "digits"
    assert dataset.name is None


def test_a_dataset_cannot_be_changed():
    with pytest.raises(AttributeError):
        FileDataset("a").path = "b"


def test_lists_in_lists_become_one_list():
    assert FileDataset(["a", ["b", Path("c")]]).to_spec()["path"] == ["a", "b", "c"]


def test_what_a_task_returns_and_parameters_stay_as_they_are_in_the_spec():
    task, parameter = WhatATaskReturns(), PipelineParameter("folder", "data")
    spec = FileDataset([task, parameter]).as_named_input("digits").to_spec()
    assert spec == {"kind": "files", "name": "digits", "path": [task, parameter], "partition_format": None}


@pytest.mark.parametrize(
    "dataset",
    [
        FileDataset(["a", "b"], "/{user}.png").as_named_input("digits"),
        FileDataset("a", mode="direct").as_named_input("digits"),
        TabularDataset.from_delimited_files("a.csv", ";", False, "latin-1").as_named_input("rows"),
        TabularDataset.from_parquet_files("a"),
        TabularDataset.from_parquet_files("a", only_new=True),
        TabularDataset.from_parquet_files("a").partition_by(["k"], "/t/{{ ds }}"),
        TabularDataset.from_sql_query("SELECT 1", "db").partition_by(["k"]),
    ],
)
def test_a_spec_makes_the_same_dataset_again(dataset):
    assert dataset_from_spec(dataset.to_spec(), {}) == dataset


@pytest.mark.parametrize("rendered", ["a/b.png", Path("a/b.png"), "file://a/b.png"])
def test_a_rendered_path_may_be_text_or_a_path(rendered):
    spec = FileDataset(WhatATaskReturns()).to_spec()
    assert dataset_from_spec({**spec, "path": rendered}, {}).path == "a/b.png"


def test_a_task_may_return_a_list_inside_of_a_list():
    spec = FileDataset(["x", WhatATaskReturns()]).to_spec()
    assert dataset_from_spec({**spec, "path": ["x", ["a", Path("b")]]}, {}).path == ("x", "a", "b")


def test_a_task_that_returned_nothing_is_an_error():
    spec = FileDataset(WhatATaskReturns()).to_spec()
    with pytest.raises(ConfigError, match="path is None; allowed: a path, a folder, a pattern"):
        dataset_from_spec({**spec, "path": None}, {})


@pytest.mark.parametrize("name", ["iris-prs.v2", "digits", "_x", "2024-model", "a..b", "a.", "x" * 200])
def test_a_dataset_may_be_called_as_a_registered_model(name):
    assert FileDataset("a").as_named_input(name).name == name


@pytest.mark.parametrize("name", [".", "..", ".hidden", "-x", "a/b", "../a", "a\n", "é", "a~rows", "a b", "x" * 201, 3])
def test_a_name_that_is_unsafe_as_a_folder_is_refused(name):
    with pytest.raises(ConfigError, match="name is"):
        FileDataset("a").as_named_input(name)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: FileDataset(""), "path is ''; allowed: a path, a folder, a pattern"),
        (lambda: FileDataset([]), "path is an empty list"),
        (lambda: FileDataset(["a", 3]), "path is 3"),
        (
            lambda: FileDataset("gs://bucket/key"),
            "path is 'gs://bucket/key'; gs:// is not supported yet; allowed: a local path, s3://conn_id@bucket/key or",
        ),
        (lambda: FileDataset(["a", "s3://bucket//key"]), "path is 's3://bucket//key'; the key has an empty part"),
        (lambda: FileDataset("s3://A:b@bucket/key"), "path is 's3://***@bucket/key'; credentials cannot be part"),
        (lambda: FileDataset(PipelineParameter("p", 3)), "path, the default of PipelineParameter 'p': is 3"),
        (lambda: FileDataset(PipelineParameter("p", [])), "path, the default of PipelineParameter 'p': is []"),
        (lambda: FileDataset("a", "/user.png"), "partition_format is '/user.png'; allowed: the end of a path with"),
        (lambda: FileDataset("a", "/{u}/{u}"), "partition_format is '/{u}/{u}'"),
        (lambda: FileDataset("a", "/{u"), "partition_format is '/{u'"),
        (lambda: FileDataset("a", "/{u}/{}"), "partition_format is '/{u}/{}'"),
        (lambda: FileDataset("a").as_named_input("a b"), "name is 'a b'; allowed: letters, digits, '-', '_' and '.'"),
        (lambda: FileDataset("a").as_named_input(""), "name is ''"),
        (lambda: FileDataset("a", name="../x"), "name is '../x'"),
        (lambda: TabularDataset.from_delimited_files("a", "||"), "separator is '||'; allowed: one character"),
        (lambda: TabularDataset.from_delimited_files("a", '"'), "separator is '\"'"),
        (lambda: TabularDataset.from_delimited_files("a", header=1), "header is 1; allowed: True or False"),
        (
            lambda: TabularDataset.from_delimited_files("a", encoding="utf-9"),
            "encoding is 'utf-9'; allowed: an encoding",
        ),
        *(
            (lambda codec=codec: TabularDataset.from_json_lines_files("a", codec), f"encoding is '{codec}'; allowed")
            for codec in ("rot13", "base64", "zip", "undefined")
        ),
        (lambda: tables().partition_by([]), "partition_keys of partition_by is []; allowed: a list of the names of"),
        (lambda: tables().partition_by(["a", "a"]), "partition_keys of partition_by is ['a', 'a']"),
        (lambda: tables().partition_by("a"), "partition_keys of partition_by is 'a'"),
        (lambda: tables().partition_by(["a", 3]), "partition_keys of partition_by is ['a', 3]"),
        (lambda: tables().partition_by(["a"]).partition_by(["b"]), "is partitioned by ['a'] already"),
        (
            lambda: tables(header=False).partition_by(["a"]),
            "header is False; allowed with partition_by: True or 'each'",
        ),
        (lambda: tables().partition_by(["a"], ""), "target is ''; allowed: the path or the address of a folder"),
        (lambda: tables().partition_by(["a"], 3), "target is 3"),
        (lambda: tables().partition_by(["a"], "gs://b/k"), "target is 'gs://b/k'; gs:// is not supported yet"),
        (lambda: tables().partition_by(["a"], "s3://b//k"), "target is 's3://b//k'; the key has an empty part"),
        (lambda: tables().partition_by(["a"], PipelineParameter("p", 3)), "target is 3"),
        (lambda: tables().partition_by(["a"], name="a b"), "name is 'a b'"),
        (lambda: TabularDataset(kind="csv", path="a"), "use from_delimited_files or from_parquet_files"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(make, problem):
    with pytest.raises(ConfigError) as error:
        make()
    assert problem in str(error.value)


def tables(**options):
    return TabularDataset.from_delimited_files("a", **options)


def test_all_problems_of_a_dataset_come_in_one_error():
    with pytest.raises(ConfigError) as error:
        TabularDataset.from_delimited_files("", separator="", encoding="")
    assert [problem.split()[0] for problem in error.value.problems] == ["separator", "encoding", "path"]


def test_a_parameter_for_the_path_may_be_chosen_in_the_form_of_a_run():
    (promotion,) = FileDataset(["a", PipelineParameter("folder", "b", "Where")]).as_named_input("x").promoted()
    assert promotion.fields == ("path of x",)
    assert promotion.rules["type"] == ["string", "array"]
    assert promotion.look == {"title": "Path of x", "format": "multiline"}
    assert promotion.description == "Where."


def test_a_list_of_paths_is_shown_with_a_path_on_each_line():
    (promotion,) = FileDataset(PipelineParameter("folder", ["a", "b"])).promoted()
    assert "type" not in promotion.rules
    assert promotion.rules["anyOf"] == [{"type": "string"}, {"type": "array"}]
    assert promotion.rules["items"] == {"type": "string"}
    for value in ("a", ["a", "b"]):
        jsonschema.validate(value, promotion.rules)
    for value in ("", [], None, [3]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, promotion.rules)


@pytest.mark.parametrize(
    ("chosen", "paths"),
    [
        ("/a", "/a"),
        ("/a b", "/a b"),
        ("/a\n/b", ("/a", "/b")),
        ("/a\r\n\r\n/b\r\n", ("/a", "/b")),
        (["/a", "", "/b"], ("/a", "/b")),
    ],
)
def test_each_line_of_a_chosen_text_is_a_path(chosen, paths):
    spec = FileDataset(PipelineParameter("folder", "/x")).to_spec()
    assert dataset_from_spec(spec, {"folder": chosen}).path == paths
    inside = FileDataset(["/first", PipelineParameter("folder", "/x")]).to_spec()
    expected = paths if isinstance(paths, tuple) else (paths,)
    assert dataset_from_spec(inside, {"folder": chosen}).path == ("/first", *expected)


def test_the_lines_of_a_default_are_paths_too():
    assert dataset_from_spec(FileDataset(PipelineParameter("folder", "/a\n/b")).to_spec(), {}).path == ("/a", "/b")
    with pytest.raises(ConfigError, match=r"is 'gs://b'"):
        FileDataset(PipelineParameter("folder", "/a\ngs://b"))


def test_a_path_that_no_run_chooses_may_have_line_breaks():
    assert dataset_from_spec(FileDataset("/a\n/b").to_spec(), {}).path == "/a\n/b"


def test_text_of_blank_lines_alone_is_no_path():
    with pytest.raises(ConfigError, match="path is an empty list"):
        dataset_from_spec(FileDataset(PipelineParameter("folder", "/a")).to_spec(), {"folder": " \n"})


def test_a_parameter_for_a_target_may_be_chosen_too_and_what_a_task_returns_stays():
    copy = tables().partition_by(["k"], PipelineParameter("copy", "/t", "Where to"), "x")
    (promotion,) = copy.promoted()
    assert promotion.fields == ("target of x",)
    assert promotion.rules == {"type": "string", "minLength": 1}
    assert (promotion.look, promotion.description) == ({"title": "Folder of the copy of x"}, "Where to.")
    task = WhatATaskReturns()
    assert tables().partition_by(["k"], task).to_spec()["target"] is task


@pytest.mark.parametrize("rendered", ["/t/x", Path("/t/x"), "file:///t/x"])
def test_a_rendered_target_may_be_text_or_a_path(rendered):
    spec = tables().partition_by(["k"], WhatATaskReturns()).to_spec()
    assert dataset_from_spec({**spec, "target": rendered}, {}).target == "/t/x"


class StoragePath:
    """Stands for an ObjectStoragePath."""

    protocol = "s3"

    def __str__(self):
        return "s3://my_aws@bucket/in"

    def __fspath__(self):
        return "bucket/in"


ADDRESSES = [
    ("s3://my_aws@bucket/in/**/*.png", "s3://my_aws@bucket/in/**/*.png"),
    ("wasbs://my_wasb@in/folder/", "abfs://my_wasb@in/folder/"),
    (StoragePath(), "s3://my_aws@bucket/in"),
    ("s3a://{{ var.value.bucket }}/in//{{ ds }}", "s3a://{{ var.value.bucket }}/in//{{ ds }}"),
]


@pytest.mark.parametrize(("path", "kept"), ADDRESSES)
def test_an_address_on_object_storage_may_be_a_path(path, kept):
    assert FileDataset(path).path == kept
    assert FileDataset(["/a", path]).path == ("/a", kept)
    assert TabularDataset.from_parquet_files(path).path == kept
    assert FileDataset(path, partition_format="/{day}/a").to_source().paths == (kept,)
    assert dataset_from_spec(FileDataset(path).to_spec(), {}) == FileDataset(path)


def test_an_address_that_a_run_makes_is_checked_in_the_run():
    spec = FileDataset(PipelineParameter("folder", "s3://bucket/in")).to_spec()
    assert dataset_from_spec(spec, {"folder": "s3a://c@bucket/x\n/local"}).path == ("s3://c@bucket/x", "/local")
    assert dataset_from_spec({**spec, "path": StoragePath()}, {}).path == "s3://my_aws@bucket/in"
    with pytest.raises(ConfigError, match="the key has an empty part"):
        dataset_from_spec(spec, {"folder": "s3://bucket//x"})


def test_a_mode_is_download_or_direct():
    with pytest.raises(ConfigError, match=r"^mode is 'mount'; allowed: 'download' \(local copies\) or 'direct'"):
        FileDataset("a", mode="mount")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: FileDataset("a", only_new="yes"), "only_new is 'yes'; allowed: True or False"),
        (
            lambda: TabularDataset.from_arrow_files("a", only_new=True).partition_by(["k"]),
            "only_new is True for a partitioned copy, which holds all rows",
        ),
        (
            lambda: replace(TabularDataset.from_sql_query("SELECT 1", "db"), only_new=True),
            "only_new is True for a query; allowed: files",
        ),
    ],
)
def test_only_new_is_for_files_that_are_processed_as_they_are(make, problem):
    with pytest.raises(ConfigError, match=problem):
        make()
