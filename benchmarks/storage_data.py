"""Measure the throughput of plan, staging and merge on object storage beside obstore alone."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from airflow_prs.inputs.columnar.parquet import cut_parquet_files
from airflow_prs.inputs.files.listing import list_files
from airflow_prs.inputs.sources import DelimitedSource, MiniBatchSize, ParquetSource
from airflow_prs.inputs.text.delimited import cut_delimited_files
from airflow_prs.node.input.fetching import PART_BYTES, THREADS
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.stager import Stager
from airflow_prs.object_storage.addresses import Address
from airflow_prs.object_storage.connecting import connect_to, use_connections
from airflow_prs.records import InputKind, InputSpec, MiniBatch, Outcome, Piece, Progress, TryStatus
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Closing
from benchmarks.comparing import Comparison
from benchmarks.delimited import COLUMNS, quoted_file
from tests.object_servers import serve
from tests.shards import make_plan

AT_ONCE = 32
SMALL = (10_000, 4 << 10)
LARGE = (256, 16 << 20)
"""Number of files, and bytes of each."""
FOR_A_MINI_BATCH = 100
ROWS_OF_A_COMMIT = 16 << 20
TABLES = 1000
KEYS = 100_000
FOOTER_BYTES = 64 << 10


def new_place() -> Address:
    """Return an address on SeaweedFS below which there is nothing."""
    server = serve("seaweed")
    use_connections(server.connect)
    return Address(server.bucket, f"bench/{uuid4().hex}")


def fill(place: Address, objects: Sequence[tuple[str, bytes]]) -> None:
    """Put objects."""
    store = connect_to(place.bucket).bulk
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda each: store.put((place / each[0]).key, each[1], use_multipart=False), objects))


@functools.cache
def files(number: int, size_bytes: int) -> tuple[Address, list[str]]:
    """Return a place with files, and their names."""
    place, names = new_place(), [f"{n // 1000:04d}/item-{n:06d}.bin" for n in range(number)]
    data = os.urandom(size_bytes)
    fill(place, [(name, data) for name in names])
    return place, names


# Staging


def stage_s(number: int, size_bytes: int) -> float:
    """Return the seconds in which the stager copies files."""
    place, names = files(number, size_bytes)
    store = connect_to(place.bucket).objects
    etags = {found["path"]: found["e_tag"] for page in store.list(place.key) for found in page}
    pieces = [Piece(str(place / name), version=etags[(place / name).key]) for name in names]
    each = max(1, min(FOR_A_MINI_BATCH, number // 16))
    mini_batches = [
        MiniBatch(
            index=index,
            input="input",
            items=len(some),
            size_bytes=len(some) * size_bytes,
            pieces=tuple(some),
        )
        for index, some in enumerate(pieces[first : first + each] for first in range(0, number, each))
    ]
    with tempfile.TemporaryDirectory(prefix="airflow_prs-bench-") as folder:
        return asyncio.run(_stage_s(Path(folder, "stage"), mini_batches))


async def _stage_s(folder: Path, mini_batches: list[MiniBatch]) -> float:
    changed = asyncio.Event()
    spec = InputSpec(name="input", kind=InputKind.FILES)
    stager = Stager(
        Places(folder), [spec], on_change=changed.set, most_bytes=1 << 40, most_files=sum(m.items for m in mini_batches)
    )
    began = time.monotonic()
    for mini_batch in mini_batches:
        stager.begin(mini_batch)
    for mini_batch in mini_batches:
        while (staged := stager.find(mini_batch)) is None:
            changed.clear()
            await changed.wait()
        if staged.error:
            raise RuntimeError(staged.error)
    seconds = time.monotonic() - began
    stager.close()
    return seconds


def get_s(number: int, size_bytes: int) -> float:
    """Return the seconds in which obstore gets the same files, in ranges of the same size, and writes them."""
    place, names = files(number, size_bytes)
    with tempfile.TemporaryDirectory(prefix="airflow_prs-bench-") as folder:
        for parent in {name.partition("/")[0] for name in names}:
            Path(folder, parent).mkdir()
        return asyncio.run(_get_s(place, names, size_bytes, folder))


async def _get_s(place: Address, names: list[str], size_bytes: int, folder: str) -> float:
    store, slots = connect_to(place.bucket).bulk, asyncio.Semaphore(THREADS)

    async def get(name: str, begin: int) -> None:
        async with slots:
            end = min(size_bytes, begin + PART_BYTES)
            data = await store.get_range_async((place / name).key, start=begin, end=end)
            fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT)
            os.pwrite(fd, data, begin)
            os.close(fd)

    began = time.monotonic()
    await asyncio.gather(*(get(name, begin) for name in names for begin in range(0, size_bytes, PART_BYTES)))
    return time.monotonic() - began


def staging(scale: float) -> list[Comparison]:
    return [
        Comparison(
            f"staging of {number:,} files of {size_bytes >> 10:,} KiB",
            f"obstore's asynchronous functions, {THREADS} requests at the same time, into files",
            1.25,
            functools.partial(stage_s, number, size_bytes),
            functools.partial(get_s, number, size_bytes),
        )
        for number, size_bytes in ((max(32, int(number * scale)), size) for number, size in (SMALL, LARGE))
    ]


# Merge


@functools.cache
def committed_run(commits: int) -> RunFolder:
    """Return a run of one shard that has committed some rows often."""
    folder = make_plan(str(new_place()), "", mini_batches=commits, items=1, append_row_file_name="rows.txt")
    shard = folder.read_manifest().shards[0]
    with tempfile.TemporaryDirectory(prefix="airflow_prs-bench-") as local:
        attempt = folder.open_attempt(
            shard, TaskTry(try_number=1), node="host-0-1", window=2, files=folder.node_files(Path(local))
        )
        path = attempt.rows.path(0)
        for index in range(commits):
            rows = os.urandom(ROWS_OF_A_COMMIT)
            with path.open("ab") as out:
                out.write(rows)
            outcome = Outcome(
                index=index,
                status=TryStatus.RUN_DONE,
                tries=1,
                items=1,
                succeeded=1,
                returned=1,
                offset=index * ROWS_OF_A_COMMIT,
                length=ROWS_OF_A_COMMIT,
                crc=zlib.crc32(rows),
            )
            done = index + 1
            progress = Progress(
                total=commits,
                handed_out=done,
                succeeded=done,
                items_total=commits,
                items_succeeded=done,
                elements=done,
                output_bytes=done * ROWS_OF_A_COMMIT,
            )
            closing = Closing.DONE if done == commits else None
            attempt.commit([outcome], [], progress=progress, granted=commits, closing=closing)
    return folder


def merge_s(commits: int) -> float:
    """Return the seconds of a merge."""
    folder = committed_run(commits)
    began = time.monotonic()
    merge_run(folder)
    return time.monotonic() - began


def put_s(size_bytes: int) -> float:
    """Return the seconds in which obstore puts as much, from memory, in parts."""
    place, data = new_place(), os.urandom(1 << 20) * (size_bytes >> 20)
    began = time.monotonic()
    connect_to(place.bucket).bulk.put((place / "rows").key, data, use_multipart=True, chunk_size=16 << 20)
    seconds = time.monotonic() - began
    connect_to(place.bucket).bulk.delete((place / "rows").key)
    return seconds


def merging(scale: float) -> list[Comparison]:
    commits = max(4, int(64 * scale))
    return [
        Comparison(
            f"merge of {commits * ROWS_OF_A_COMMIT / 2**30:.2g} GiB in {commits} objects",
            "obstore puts as much from memory, in parts",
            1.25,
            lambda: merge_s(commits),
            lambda: put_s(commits * ROWS_OF_A_COMMIT),
            reason="Merge also reads all of it from the same server, which shares the two cores",
        )
    ]


# Plan


@functools.cache
def many_keys(number: int) -> Address:
    place = new_place()
    fill(place, [(f"{n // 1000:04d}/item-{n:06d}.png", b"x") for n in range(number)])
    return place


@functools.cache
def tables(number: int) -> Address:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = range(1000)
    table = pa.table({"id": rows, "name": [f"n{n % 7}" for n in rows], "value": [n / 2 for n in rows]})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=100)
    place = new_place()
    fill(place, [(f"part-{n:05d}.parquet", out.getvalue()) for n in range(number)])
    return place


@functools.cache
def table_of_text(size_bytes: int) -> Address:
    place = new_place()
    fill(place, [("rows.csv", quoted_file(size_bytes).read_bytes())])
    return place / "rows.csv"


def timed(work: Callable[[Address], object], place: Callable[[], Address]) -> Callable[[], float]:
    """Return a function that returns how many seconds some work takes."""

    def measure() -> float:
        address = place()
        began = time.monotonic()
        work(address)
        return time.monotonic() - began

    return measure


def list_keys(place: Address) -> None:
    list_files(str(place), base="/")


def list_by_hand(place: Address) -> None:
    found = [
        (one["path"], one["size"], one["e_tag"])
        for page in connect_to(place.bucket).objects.list(place.key)
        for one in page
    ]
    found.sort()


def cut_text(place: Address) -> None:
    source = DelimitedSource(name="rows", paths=(), dtypes=dict.fromkeys(COLUMNS, "str"))
    cut_delimited_files(source, list_files(str(place), base="/"), MiniBatchSize(1 << 20, "bytes"))


def count_lines(place: Address) -> None:
    stream = connect_to(place.bucket).bulk.get(place.key).stream(min_chunk_size=8 << 20)
    sum(bytes(chunk).count(b"\n") for chunk in stream)


def cut_tables(place: Address) -> None:
    source = ParquetSource(name="rows", paths=())
    cut_parquet_files(source, list_files(str(place), base="/"), MiniBatchSize(100, "rows"))


def read_footers(place: Address) -> None:
    import pyarrow.parquet as pq

    store = connect_to(place.bucket).bulk
    found = [(one["path"], one["size"]) for page in store.list(place.key) for one in page]

    def read(one: tuple[str, int]) -> int:
        begin = max(0, one[1] - FOOTER_BYTES)
        tail = store.get_range(one[0], start=begin, end=one[1])
        return int(pq.read_metadata(io.BytesIO(bytes(tail))).num_row_groups)

    with ThreadPoolExecutor(16) as pool:
        sum(pool.map(read, found))


def plans(scale: float) -> list[Comparison]:
    keys, footers, size = int(KEYS * scale), int(TABLES * scale), int(500e6 * scale)
    place = functools.partial(table_of_text, size)
    return [
        Comparison(
            f"listing of {keys:,} keys for plan",
            "obstore's list of the same, sorted",
            1.5,
            timed(list_keys, lambda: many_keys(keys)),
            timed(list_by_hand, lambda: many_keys(keys)),
        ),
        Comparison(
            f"plan over {size / 1e6:.0f} MB of CSV with quoted fields, types given",
            "obstore's stream of the same, line breaks counted",
            2.0,
            timed(cut_text, place),
            timed(count_lines, place),
        ),
        Comparison(
            f"plan over {footers:,} Parquet files",
            "a list, and 16 threads that get the last 64 KiB of each and read the footer",
            2.0,
            timed(cut_tables, lambda: tables(footers)),
            timed(read_footers, lambda: tables(footers)),
        ),
    ]
