"""Input on object storage: staged by the node, read by worker processes as local files."""

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from obstore.exceptions import GenericError

from airflow_prs.cli import in_process
from airflow_prs.cli.job import Job
from airflow_prs.errors import NodeError, RunAbortedError
from airflow_prs.node.input import remote_file, stager
from airflow_prs.records import Piece, TryStatus
from tests.buckets import bucket_in_memory
from tests.shards import Tries, make_plan, read_rows, read_tries

READ = "def run(mini_batch):\n    return [open(path).read() for path in mini_batch]\n"


@pytest.fixture
def bucket():
    with bucket_in_memory() as bucket:
        yield bucket


def remote(bucket, key, **parts):
    return Piece(f"s3://conn@bucket/{key}", version=bucket.store.head(key)["e_tag"], **parts)


def plan_files(tmp_path, bucket, script, batches, **config):
    """Plan mini-batches of files, given as lists of keys."""
    for key in {key for keys in batches for key in keys}:
        bucket.store.put(key, f"content of {key}".encode())
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


def test_the_copies_are_gone_when_the_node_ends_and_files_of_a_mini_batch_when_it_is_done(tmp_path, bucket):
    script = (
        "import glob, os\n"
        "def run(mini_batch):\n"
        "    root = mini_batch[0].split('/input/')[0] + '/input'\n"
        "    return [f'{root} {sum(len(files) for _, _, files in os.walk(root))}']\n"
    )
    keys = [[f"{number}"] for number in range(30)]
    folder = plan_files(tmp_path, bucket, script, keys, process_count_per_node=1)
    Tries(folder).run()
    rows = [row.split() for row in read_rows(folder)]
    assert int(rows[-1][1]) <= 2  # one more may be on its way out
    assert not Path(rows[0][0]).exists()
    assert len([request for request in bucket.log if request[0] == "get"]) == 30


def test_an_object_that_changed_since_plan_is_a_failed_try_that_says_so(tmp_path, bucket):
    folder = plan_files(tmp_path, bucket, READ, [["a"], ["b/c.txt"], ["d"]], run_max_try=2)
    bucket.store.put("b/c.txt", b"other")
    Tries(folder).run()
    assert read_rows(folder) == ["content of a", "content of d"]
    failed = read_tries(folder)
    assert [(each.index, each.try_number, each.final, each.status) for each in failed] == [
        (1, 1, False, TryStatus.LOAD_EXCEPTION),
        (1, 2, True, TryStatus.LOAD_EXCEPTION),
    ]
    assert failed[0].items == ("s3://conn@bucket/b/c.txt",)
    planned, now = folder_version(folder), bucket.store.head("b/c.txt")["e_tag"]
    assert failed[0].error == (
        "s3://conn@bucket/b/c.txt: the object has changed since it was planned: it had the ETag "
        f"{planned}; it has {now}; clear the plan task to start over"
    )


def folder_version(folder, index=1):
    return next(folder.read_mini_batches(index, index + 1)).pieces[0].version


def test_an_object_that_is_gone_is_a_failed_try_that_says_so(tmp_path, bucket):
    folder = plan_files(tmp_path, bucket, READ, [["a"], ["b"]], run_max_try=1)
    bucket.store.delete("a")
    Tries(folder).run()
    assert read_rows(folder) == ["content of b"]
    (failed,) = read_tries(folder)
    assert failed.error.startswith("s3://conn@bucket/a: the object that plan listed is not there any more")


def test_passing_trouble_is_waited_for_and_lasting_trouble_is_a_failed_try(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(remote_file, "_PAUSES_S", (0.01, 0.01, 0.01))
    asked = Counter()

    def before(kind, key):
        asked[key] += 1
        if key == "never" or (key == "passing" and asked[key] < 3):
            raise GenericError("503 slow down\n\nDebug source: of no interest")

    folder = plan_files(tmp_path, bucket, READ, [["passing"], ["never"]], run_max_try=2)
    bucket.before = before
    Tries(folder).run()
    assert read_rows(folder) == ["content of passing"]
    assert [each.error for each in read_tries(folder)] == [
        "s3://conn@bucket/never: object storage failed (503 slow down)"
    ] * 2
    assert asked["never"] == 8


def test_a_script_that_destroys_its_input_gets_it_again(tmp_path, bucket):
    script = (
        "import os\n"
        "def run(mini_batch, context):\n"
        "    content = open(mini_batch[0]).read()\n"
        "    os.remove(mini_batch[0])\n"
        "    if context.try_number == 1:\n"
        "        raise ValueError('first')\n"
        "    return [content]\n"
    )
    folder = plan_files(tmp_path, bucket, script, [["a"]])
    Tries(folder).run()
    assert read_rows(folder) == ["content of a"]


def test_errors_items_and_logs_name_the_objects_and_not_their_copies(tmp_path, bucket, caplog):
    caplog.set_level("INFO")
    script = (
        "import logging\n"
        "def run(mini_batch):\n"
        "    print('printed', mini_batch[0])\n"
        "    logging.getLogger().warning('logged %s', mini_batch[0])\n"
        "    raise ValueError(f'cannot score {mini_batch}')\n"
    )
    folder = plan_files(tmp_path, bucket, script, [["in/a.txt"]], run_max_try=1)
    Tries(folder).run()
    (failed,) = read_tries(folder)
    assert failed.error == "ValueError: cannot score ['s3://conn@bucket/in/a.txt']"
    assert "ValueError: cannot score ['s3://conn@bucket/in/a.txt']" in failed.traceback
    logs = "\n".join(path.read_text() for path in folder.path.rglob("*.txt")) + caplog.text
    assert "printed s3://conn@bucket/in/a.txt" in logs
    assert "logged s3://conn@bucket/in/a.txt" in logs
    assert "/input/" not in logs


def test_a_mini_batch_waits_for_its_files_while_others_go_on_and_its_clock_stands(tmp_path, bucket):
    """run_invocation_timeout is a second; the first object takes longer than that."""
    folder = plan_files(tmp_path, bucket, READ, [["slow"], ["b"], ["c"]], run_invocation_timeout=1)
    rest = {"b", "c"}
    others_done = threading.Event()

    def before(kind, key):
        if key == "slow":
            assert others_done.wait(20)
            time.sleep(1.2)

    bucket.before = before
    tries = Tries(folder)
    done = threading.Thread(target=tries.run)
    done.start()
    while len(read_rows(folder)) < len(rest):
        time.sleep(0.05)
    others_done.set()
    done.join(30)
    assert read_rows(folder) == ["content of slow", "content of b", "content of c"]
    assert read_tries(folder) == []


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_BYTES"])
def test_what_is_staged_is_bounded_by_bytes_and_by_files(tmp_path, bucket, monkeypatch, limit):
    """Each mini-batch counts one byte here."""
    script = (
        "import os\n"
        "def run(mini_batch):\n"
        "    root = mini_batch[0].split('/input/')[0] + '/input'\n"
        "    return [sum(len(files) for _, _, files in os.walk(root))]\n"
    )
    monkeypatch.setattr(stager, limit, 4)
    folder = plan_files(tmp_path, bucket, script, [[f"{number:02}"] for number in range(30)])
    Tries(folder).run()
    staged = list(map(int, read_rows(folder)))
    assert len(staged) == 30
    assert 2 <= max(staged) <= 4


def test_keys_that_cannot_be_local_paths_are_errors_that_name_them(tmp_path, bucket):
    long = "x" * 256
    folder = plan_files(tmp_path, bucket, READ, [[long], ["a", "a/b"], ["fine"]], run_max_try=1)
    Tries(folder).run()
    assert read_rows(folder) == ["content of fine"]
    too_long, both = read_tries(folder)
    assert f"s3://conn@bucket/{long}: this key cannot be a local path" in too_long.error
    assert "s3://conn@bucket/a" in both.error
    assert "cannot be both file and folder" in both.error


def test_an_abort_does_not_wait_for_downloads(tmp_path, bucket):
    folder = plan_files(tmp_path, bucket, "def run(b):\n    raise ValueError\n", [["a"], ["hangs"]], run_max_try=1,
                        allowed_failed_count=0)  # fmt: skip
    hold = threading.Event()
    bucket.before = lambda kind, key: hold.wait(60) if key == "hangs" else None
    began = time.monotonic()
    try:
        with pytest.raises(RunAbortedError):
            Tries(folder).run()
        assert time.monotonic() - began < 20
    finally:
        hold.set()


def test_a_script_may_get_the_addresses_without_the_connection_instead(tmp_path, bucket):
    folder = plan_files(tmp_path, bucket, "def run(b):\n    return b\n", [["a", "b/c"]], options={"mode": "direct"})
    bucket.log.clear()
    Tries(folder).run()
    assert read_rows(folder) == ["s3://bucket/a", "s3://bucket/b/c"]
    assert bucket.log == []


def test_side_inputs_are_copied_before_init_and_known_by_their_local_paths(tmp_path, bucket):
    script = (
        "import os, sys\n"
        "def init():\n"
        "    global model, words\n"
        "    model = open(os.environ['MODEL']).read()\n"
        "    words = sorted(os.listdir(sys.argv[sys.argv.index('--words') + 1]))\n"
        "def run(mini_batch):\n"
        "    return [f'{model} {words}']\n"
    )
    bucket.store.put("models/m.bin", b"model")
    bucket.store.put("words", b"")
    for name in ("de", "en", "more/x"):
        bucket.store.put(f"words/{name}", b"word")
    folder = plan_files(tmp_path, bucket, script, [["a"]])
    model, words = "s3://conn@bucket/models/m.bin", "s3://conn@bucket/words"
    settings = folder.read_settings()
    folder.write_settings(replace(settings, side_inputs={"model": model, "words": words}, arguments=("--words", words)))
    Tries(folder, variables={"MODEL": model}).run()
    assert read_rows(folder) == ["model ['de', 'en', 'more']"]


def test_a_side_input_that_is_gone_ends_the_node(tmp_path, bucket):
    folder = plan_files(tmp_path, bucket, READ, [["a"]])
    folder.write_settings(replace(folder.read_settings(), side_inputs={"model": "s3://conn@bucket/model"}))
    with pytest.raises(NodeError, match=r"^s3://conn@bucket/model: there is no object, and none below it"):
        Tries(folder).run()


def test_in_process_the_input_is_staged_too(tmp_path, bucket, monkeypatch):
    bucket.store.put("models/m", b"model")
    script = (
        "import os, sys\n"
        "def init():\n"
        "    global model\n"
        "    model = open(sys.argv[1]).read()\n"
        "def run(mini_batch):\n"
        "    return [f'{model} {open(path).read()}' for path in mini_batch]\n"
    )
    folder = plan_files(tmp_path, bucket, script, [["a", "b"], ["gone"]], run_max_try=1)
    bucket.store.delete("gone")
    (tmp_path / "script.py").write_text(script)
    model = "s3://conn@bucket/models/m"
    folder.write_settings(replace(folder.read_settings(), side_inputs={"m": model}, arguments=(model,)))
    config = folder.read_settings().config
    job = Job(config=config, name="job", base=str(tmp_path), inputs=(), side_inputs=(), output=None, arguments=())
    monkeypatch.setattr(in_process, "plan_job", lambda *_, **__: SimpleNamespace(folder=folder))
    in_process.run_in_process(job, str(tmp_path / "out"), nodes=1, keeps_going=True)
    assert read_rows(folder) == ["model content of a", "model content of b"]
    (failed,) = read_tries(folder)
    assert "s3://conn@bucket/gone: the object that plan listed is not there any more" in failed.error
