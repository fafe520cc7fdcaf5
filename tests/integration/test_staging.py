"""Input on object storage: staged by the node, read by worker processes as local files."""

import json

import pytest

from airflow_prs.records import InputKind, Piece, TryStatus
from tests.buckets import fake_bucket
from tests.shards import Tries, make_plan, read_rows, read_tries

READ = "def run(mini_batch):\n    return [open(path).read() for path in mini_batch]\n"


@pytest.fixture
def bucket():
    with fake_bucket() as bucket:
        yield bucket


def remote(bucket, key, **parts):
    return Piece(f"s3://conn@bucket/{key}", version=bucket.store.head(key)["e_tag"], **parts)


def plan_files(tmp_path, bucket, script, batches, **config):
    """Plan mini-batches of files, given as lists of keys."""
    for key in {key for keys in batches for key in keys}:
        bucket.put(key, f"content of {key}".encode())
    pieces = [tuple(remote(bucket, key) for key in keys) for keys in batches]
    return make_plan(tmp_path, script, pieces=pieces, **config)


def test_run_gets_local_paths_with_the_names_and_folders_of_the_objects(tmp_path, bucket):
    script = (
        "import os\n"
        "def run(mini_batch):\n"
        "    return [f'{path.split(\"bucket/\")[1]}: {open(path).read()}' for path in mini_batch]\n"
    )
    keys = [["in/a.txt", "in/deep/er/b c.txt"], ["in/ä=1/c.txt"]]
    folder = plan_files(tmp_path, bucket, script, keys)
    Tries(folder).run()
    assert read_rows(folder) == [f"{key}: content of {key}" for both in keys for key in both]
