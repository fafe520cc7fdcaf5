"""The page about formats: every row is tried, every message is the one that is raised."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from pyarrow import feather

from airflow_prs import FileDataset, TabularDataset
from airflow_prs.errors import PrsError
from airflow_prs.inputs.cut_input import list_input
from airflow_prs.plan.queries import export_query, rows_file
from airflow_prs.records import InputKind
from airflow_prs.result.merge import merge_run
from airflow_prs.worker.reading.load_errors import LoadError
from airflow_prs.worker.writing.formats import make_writer
from airflow_prs.worker.writing.rows import BadResultError, elements_of
from tests.shards import Tries, make_plan
from tests.tables import cut, mini_batches

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def rows_of(heading):
    """Give the rows of the table below a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return lines[2:]


def code_in(cell):
    return re.search(r"`(.*)`", cell)[1]


def as_pattern(message):
    return ".*".join(map(re.escape, message.split("…")))


# Input: each case writes files into a folder, and gives what run() gets of them in mini-batches of two.

NUMBERS = "n,price\n1,0.1\n2,\n3,2.5\n"
NUMBERS_READ = pd.read_csv(io.StringIO(NUMBERS))


def in_twos(frame):
    return [frame.iloc[begin : begin + 2].reset_index(drop=True) for begin in range(0, len(frame), 2)]


def files(folder):
    for number in (2, 0, 1):
        (folder / f"{number}.png").write_bytes(b"")
    return [[str(folder / "0.png"), str(folder / "1.png")], [str(folder / "2.png")]]


def delimited(folder):
    (folder / "1.csv").write_text('n,price,text\n1,0.1,"a\nb"\n2,1e300,c\n3,7,\n')
    (folder / "2.csv").write_text("n,price,text\n4,,007\n")
    whole = pd.concat([pd.read_csv(folder / "1.csv"), pd.read_csv(folder / "2.csv", dtype={"text": "str"})])
    return [*in_twos(whole.iloc[:3]), whole.iloc[3:].reset_index(drop=True)]


def delimited_packed(folder):
    packers = gzip.compress, bz2.compress, lzma.compress, lambda data: pa.compress(data, "zstd", asbytes=True)
    for number, pack in enumerate(packers):
        (folder / f"{number}.csv").write_bytes(pack(NUMBERS.encode()))
    return [NUMBERS_READ] * 4


def delimited_like_ascii(folder):
    (folder / "1.csv").write_text("n,wört\n1,ä\n2,ö\n3,ü\n", encoding="cp1252")
    return in_twos(pd.DataFrame({"n": [1, 2, 3], "wört": ["ä", "ö", "ü"]}))


def delimited_encoded(folder):
    for name in ("1.csv", "2.csv"):
        (folder / name).write_text(NUMBERS, encoding="utf-16")
    return [NUMBERS_READ] * 2


def delimited_own_headers(folder):
    (folder / "1.csv").write_text("n,text\n1,x\n2,y\n3,z\n")
    (folder / "2.csv").write_text("price,n\n0.5,4\n")
    whole = pd.concat([pd.read_csv(folder / "1.csv"), pd.read_csv(folder / "2.csv")], ignore_index=True)
    return [*in_twos(whole.iloc[:3]), whole.iloc[3:].reset_index(drop=True)]


def delimited_without_header(folder):
    (folder / "1.csv").write_text("1,x\n2,y\n3,z\n")
    return in_twos(pd.read_csv(folder / "1.csv", header=None))


def delimited_comments(folder):
    (folder / "1.csv").write_text('# "\nn,text\n1,x#y\n# 2,y\n3,z\n4,"#"\n')
    return in_twos(pd.read_csv(folder / "1.csv", comment="#"))


def delimited_types(folder):
    (folder / "1.csv").write_text("zip,n\n01234,1\n56789,2\n00000,3\n")
    return in_twos(pd.read_csv(folder / "1.csv", dtype={"zip": "str"}))


OBJECTS = [{"n": 1, "text": "007"}, {"text": "2026-01-01", "more": {"a": [1]}}, {"n": 0.1}]


def json_lines(folder):
    (folder / "1.jsonl").write_text("\n".join(map(json.dumps, OBJECTS)))
    return in_twos(pd.DataFrame(OBJECTS))


def json_lines_encoded(folder):
    text = "\n".join(map(json.dumps, OBJECTS)).encode("utf-16")
    (folder / "1.jsonl").write_bytes(gzip.compress(text))
    (folder / "2.jsonl").write_bytes(text)
    return [pd.DataFrame(OBJECTS)] * 2


def typed_table():
    days = [date(2026, 1, day) for day in range(1, 6)]
    return pa.table({"n": [1, 2, 3, 4, None], "day": days, "price": [0.1, 1e300, None, 2.5, 3.0]})


def in_groups(frame):
    """What is cut of row groups of one, one and three rows: together, and in even parts."""
    parts = [frame.iloc[0:2], frame.iloc[2:3], frame.iloc[3:5]]
    return [part.reset_index(drop=True) for part in parts]


def write_groups(path):
    table = typed_table()
    with pq.ParquetWriter(path, table.schema) as writer:
        for begin, end in ((0, 1), (1, 2), (2, 5)):
            writer.write_table(table.slice(begin, end - begin))


def parquet(folder):
    write_groups(folder / "1.parquet")
    return in_groups(typed_table().to_pandas())


def parquet_filter(folder):
    write_groups(folder / "1.parquet")
    frame = typed_table().to_pandas().loc[2:, ["n"]]
    return [frame.iloc[0:1].reset_index(drop=True), frame.iloc[1:3].reset_index(drop=True)]


def parquet_folders(folder):
    for land in ("at", "de"):
        (folder / f"land={land}").mkdir()
        pq.write_table(pa.table({"n": [1, 2, 3]}), folder / f"land={land}" / "1.parquet")
    frames = [pd.DataFrame({"n": [1, 2, 3], "land": pd.Series([land] * 3, dtype="str")}) for land in ("at", "de")]
    # Three rows in one row group are cut in even parts.
    return [part.reset_index(drop=True) for frame in frames for part in (frame.iloc[:1], frame.iloc[1:])]


def arrow(folder):
    with pa.OSFile(str(folder / "1.arrow"), "wb") as file, pa.ipc.new_file(file, typed_table().schema) as writer:
        for begin, end in ((0, 1), (1, 2), (2, 5)):
            writer.write_table(typed_table().slice(begin, end - begin))
    feather.write_feather(typed_table(), str(folder / "2.feather"), chunksize=2)
    frame = typed_table().to_pandas()
    return [*in_groups(frame), *in_twos(frame)]


def arrow_stream(folder):
    with pa.OSFile(str(folder / "1"), "wb") as file, pa.ipc.new_stream(file, typed_table().schema) as writer:
        writer.write_table(typed_table(), max_chunksize=2)
    return [typed_table().to_pandas()[["n"]]]


MOMENT = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
SOLD = [(3, Decimal("0.10"), MOMENT), (1, Decimal("12.345"), None), (2, None, MOMENT)]


def query(folder):
    # As plan exports it: rows come from the database a few at a time.
    batches = [(("n", "price", "sold"), [row]) for row in SOLD]
    export_query("t", batches, folder)
    path = str(rows_file(folder))
    whole = pd.read_parquet(path)
    assert whole["n"].tolist() == [3, 1, 2]
    assert whole["price"].tolist() == [Decimal("0.100"), Decimal("12.345"), None]
    assert whole["sold"].dropna().tolist() == [MOMENT, MOMENT]
    # Three rows in one row group are cut in even parts.
    return [whole.iloc[:1].reset_index(drop=True), whole.iloc[1:].reset_index(drop=True)]


def mltable(folder):
    (folder / "MLTable").write_text(
        "paths: [{pattern: '*.csv'}]\ntransformations: [{read_delimited: {delimiter: ','}}, {keep_columns: [price]}]\n"
    )
    (folder / "1.csv").write_text(NUMBERS)
    return in_twos(NUMBERS_READ[["price"]])


INPUT = {
    "Files": files,
    "Delimited text": delimited,
    "Delimited text, compressed (gzip, bzip2, xz, zstd)": delimited_packed,
    "Delimited text, in an encoding where separator, quotes and line breaks are single bytes": delimited_like_ascii,
    "Delimited text, in another encoding": delimited_encoded,
    "Delimited text, each file with its own header": delimited_own_headers,
    "Delimited text, without header": delimited_without_header,
    "Delimited text with comments": delimited_comments,
    "Delimited text with given types": delimited_types,
    "JSON lines": json_lines,
    "JSON lines, compressed or in another encoding": json_lines_encoded,
    "Parquet": parquet,
    "Parquet with a filter": parquet_filter,
    "Parquet in folders `key=value`": parquet_folders,
    "Arrow, Feather version 2": arrow,
    "Arrow's streaming format": arrow_stream,
    "Query": query,
    "MLTable": mltable,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def named_dataset(text, folder):
    """Make the dataset that the page names; /data/in is the folder."""
    known = {"FileDataset": FileDataset, "TabularDataset": TabularDataset, "date": date}
    dataset = eval(text.replace("/data/in", str(folder)), known)
    if isinstance(dataset, TabularDataset) and dataset.kind is InputKind.QUERY:
        return TabularDataset.from_parquet_files(str(folder / "rows.parquet"))
    return dataset


@pytest.mark.parametrize(("name", "constructor"), [row[:2] for row in rows_of("Input")])
def test_each_input_is_cut_and_kept_as_the_page_says(folder, name, constructor):
    expected = INPUT[name](folder)
    found = mini_batches(named_dataset(code_in(constructor), folder), folder, 2 if name == "Files" else "2 rows")
    assert len(found) == len(expected)
    for part, one in zip(found, expected, strict=True):
        if name == "Files":
            assert part == one
        else:
            assert_frame_equal(part, one)


# What is refused: each case does what the page names.


def refuse(folder, content=b"n\n1\n2\n", suffix="csv", more=None, **options):
    """Write a file, or two, and read it in mini-batches."""
    (folder / f"1.{suffix}").write_bytes(content)
    if more is not None:
        (folder / f"2.{suffix}").write_bytes(more)
    make = {
        "csv": TabularDataset.from_delimited_files,
        "jsonl": TabularDataset.from_json_lines_files,
        "parquet": TabularDataset.from_parquet_files,
        "arrow": TabularDataset.from_arrow_files,
    }[suffix]
    mini_batches(make(str(folder / "*"), **options), folder)


def parquet_bytes():
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1]}), sink)
    return sink.getvalue()


UNION = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
INTERVAL = pa.array([(1, 1, 1)], pa.month_day_nano_interval())


def arrow_bytes(columns, names=("n",)):
    table = pa.Table.from_arrays([pa.array(column) for column in columns], names=list(names))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def refuse_arrow(folder, *columns):
    """Read files that hold a column each."""
    more = arrow_bytes([columns[1]]) if len(columns) > 1 else None
    refuse(folder, arrow_bytes([columns[0]]), suffix="arrow", more=more)


def indices(folder):
    pd.DataFrame({"n": [1]}, ["x"]).to_parquet(folder / "1.parquet")
    pd.DataFrame({"n": [1]}).to_parquet(folder / "2.parquet")
    mini_batches(TabularDataset.from_parquet_files(str(folder / "*")), folder)


def copy(folder, **columns):
    """Let plan copy a file by its column n."""
    (folder / "1.arrow").write_bytes(arrow_bytes(columns.values(), columns))
    mini_batches(TabularDataset.from_arrow_files(str(folder / "*")).partition_by(["n"]), folder)


def changed(folder, content=None):
    (folder / "1.csv").write_text("n\n1\n2\n")
    reader, mini_batches = cut(TabularDataset.from_delimited_files(str(folder / "*")), folder)
    (folder / "1.csv").unlink()
    if content:
        (folder / "1.csv").write_text(content)
    reader.load(*mini_batches[0])


def changed_in_plan(folder):
    (folder / "1.csv").write_text("n\n1\n2\n")
    dataset = TabularDataset.from_delimited_files(str(folder / "*"))
    files = list_input(dataset.to_source(), base=str(folder))
    (folder / "1.csv").write_text("n\n3\n4\n")
    os.utime(folder / "1.csv", (1, 1))
    cut(dataset, folder, files=files)


def counted_otherwise(folder):
    (folder / "1.csv").write_text("n\n1\n2\n")
    reader, [(pieces, _, versions)] = cut(TabularDataset.from_delimited_files(str(folder / "*")), folder)
    reader.load(pieces, 1, versions)


def step_of_mltable(folder):
    (folder / "MLTable").write_text("transformations: [read_parquet, take: 5]")
    TabularDataset.from_mltable(folder)


REFUSED = {
    "zip": lambda folder: refuse(folder, b"PK\x03\x04...."),
    "a compressed file that is cut off": lambda folder: refuse(folder, gzip.compress(b"n\n1\n")[:-9]),
    "a file in another encoding": lambda folder: refuse(folder, "é\n1\n".encode("cp1252")),
    "UTF-16 without `encoding`": lambda folder: refuse(folder, "n\n1\n".encode("utf-16")),
    "an unclosed quote": lambda folder: refuse(folder, b'n\n"1\n'),
    "a record larger than max_record_size": lambda folder: refuse(
        folder, b'n\n"1\n' + b"2\n" * 2000, max_record_size="1KB"
    ),
    "files with different headers": lambda folder: refuse(folder, more=b"m\n1\n"),
    "a missing column": lambda folder: refuse(folder, columns=["gone"]),
    "a separator that is not ASCII": lambda folder: refuse(folder, separator="§"),
    "a separator with two characters": lambda folder: refuse(folder, separator="::"),
    "an unknown encoding": lambda folder: refuse(folder, encoding="utf-9"),
    "a codec that is not a text encoding": lambda folder: refuse(folder, encoding="rot13"),
    "a type unknown to pandas": lambda folder: refuse(folder, dtypes={"n": "number"}),
    "the type category": lambda folder: refuse(folder, dtypes={"n": "category"}),
    "a type for a missing column": lambda folder: refuse(folder, dtypes={"gone": "str"}),
    "a date that is not in ISO 8601, with the type datetime64": lambda folder: refuse(
        folder, b"n\n31/01/2026\n", dtypes={"n": "datetime64[us]"}
    ),
    "a record with too many values": lambda folder: refuse(folder, b"a,b\n4,5\n1,2,3\n"),
    "too many values in the first record of a mini-batch": lambda folder: refuse(folder, b"a,b\n1,2,3\n4,5\n"),
    "a value that does not fit the given type": lambda folder: refuse(folder, b"n\nx\n", dtypes={"n": "int64"}),
    "a line that is not valid JSON": lambda folder: refuse(folder, b"{\n", suffix="jsonl"),
    "a line with half of a surrogate pair": lambda folder: refuse(folder, b'{"n": "\\ud83d"}\n', suffix="jsonl"),
    "a line that is nested too deeply": lambda folder: refuse(folder, b"[" * 100_000 + b"]" * 100_000, suffix="jsonl"),
    "a line that is not an object": lambda folder: refuse(folder, b"[1]\n", suffix="jsonl"),
    "a file that is not Parquet": lambda folder: refuse(folder, suffix="parquet"),
    "a file that is not Arrow": lambda folder: refuse(folder, suffix="arrow"),
    "an invalid filter": lambda folder: refuse(folder, suffix="parquet", filter=[("n", "~", 1)]),
    "a value that a filter cannot use": lambda folder: refuse(folder, suffix="parquet", filter=[("n", ">", None)]),
    "a filter that does not fit the type of the column": lambda folder: refuse(
        folder, parquet_bytes(), suffix="parquet", filter=[("n", ">", "x")]
    ),
    "different types in one column": lambda folder: refuse_arrow(folder, [1], ["x"]),
    "whole numbers beyond 2^53 in one file, floats in another": lambda folder: refuse_arrow(folder, [2**60], [0.5]),
    "an index without a name in only some files": indices,
    "two columns with the same name": lambda folder: refuse(
        folder, arrow_bytes([[1], [2]], ["n", "n"]), suffix="arrow"
    ),
    "a type that pandas does not have": lambda folder: refuse_arrow(folder, UNION),
    "a key of an unsupported type": lambda folder: copy(folder, n=[b"x"], m=[1]),
    "a type that a partitioned copy cannot store": lambda folder: copy(folder, n=[1], m=INTERVAL),
    "a query with two columns of the same name": lambda folder: export_query("t", [(("n", "n"), [(1, 2)])], folder),
    "a query with numbers and text in one column": lambda folder: export_query(
        "t", [(("n",), [(1,)]), (("n",), [("x",)])], folder
    ),
    "an unknown transformation in an MLTable": step_of_mltable,
    "a URI of another storage": lambda folder: TabularDataset.from_delimited_files("gs://bucket/in"),
    "a file that changed while plan read it": changed_in_plan,
    "a file whose size or modification time changed after plan": lambda folder: changed(folder, "n\n1\n100\n"),
    "a file that was removed after plan": changed,
    "a file that the environment reads differently from plan": counted_otherwise,
}


@pytest.mark.parametrize(("name", "who", "message"), rows_of("What is refused in input"))
def test_each_input_that_is_refused_is_refused_in_the_words_of_the_page(folder, name, who, message):
    expected = LoadError if who == "a mini-batch" else PrsError
    with pytest.raises(expected) as raised:
        REFUSED[name](folder)
    assert re.fullmatch(as_pattern(code_in(message)), str(raised.value), re.DOTALL)


# Output: real runs.

RETURNED = """
import pandas as pd

def run(mini_batch):
    return pd.DataFrame({
        "item": mini_batch, "score": [0.1, None], "day": pd.to_datetime(["2026-01-01", None]), "text": ["1", None]
    })
"""
ROWS = [("item-0", 0.1, "2026-01-01", "1"), ("item-1", None, None, None)]
ROWS += [("item-2", 0.1, "2026-01-01", "1"), ("item-3", None, None, None)]


def as_text(path):
    assert path.read_text().splitlines() == [
        'item-0 0.1 "2026-01-01 00:00:00.000000" 1',
        "item-1   ",
        'item-2 0.1 "2026-01-01 00:00:00.000000" 1',
        "item-3   ",
    ]


def as_csv(path):
    day = "2026-01-01 00:00:00.000000"
    lines = ["item,score,day,text", f"item-0,0.1,{day},1", "item-1,,,", f"item-2,0.1,{day},1", "item-3,,,"]
    assert path.read_text().splitlines() == lines


def as_json_lines(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    moments = [day and f"{day}T00:00:00" for _, _, day, _ in ROWS]
    assert rows == [
        {"item": item, "score": score, "day": moment, "text": text}
        for (item, score, _, text), moment in zip(ROWS, moments, strict=True)
    ]


def as_parquet(path):
    frame = pd.read_parquet(path)
    assert frame["item"].tolist() == [row[0] for row in ROWS]
    assert frame["score"].dropna().tolist() == [0.1, 0.1]
    assert frame["day"].dt.year.dropna().tolist() == [2026, 2026]
    assert frame["text"].dropna().tolist() == ["1", "1"]


OUTPUT = {"text": as_text, "csv": as_csv, "jsonl": as_json_lines, "parquet": as_parquet}


@pytest.mark.parametrize(("name", "setting"), [row[:2] for row in rows_of("Output")])
def test_each_output_keeps_what_the_page_says(tmp_path, name, setting):
    plan = make_plan(tmp_path, RETURNED, mini_batches=2, **eval(f"dict({code_in(setting)})"))
    Tries(plan).run()
    OUTPUT[name](Path(merge_run(plan).location))


def write(name, folder, *returned):
    """Write what run() returned for mini-batches one after the other."""
    wanted = {"format": name, "to_csv": None, "layout": str(folder / "layout")}
    writer = make_writer(wanted)
    for one in returned:
        writer(elements_of(one), lambda data: None)


REFUSED_OUTPUT = {
    ("text", "a number instead of a list"): [1],
    ("text", "a table inside a list"): [[pd.DataFrame({"n": [1]})]],
    ("csv", "a list of text"): [["x"]],
    ("csv", "columns that differ from those before"): [pd.DataFrame({"n": [1]}), pd.DataFrame({"m": [1]})],
    ("jsonl", "a value that JSON cannot represent"): [[object()]],
    ("jsonl", "infinity"): [[float("inf")]],
    ("parquet", "a list of text"): [["x"]],
    ("parquet", "a type that differs from the one before"): [pd.DataFrame({"n": [1]}), pd.DataFrame({"n": ["x"]})],
    ("parquet", "a value that Arrow cannot store"): [pd.DataFrame({"n": [SimpleNamespace()]})],
    ("parquet", "periods"): [pd.DataFrame({"n": pd.period_range("2026-01", periods=1, freq="D")})],
}


@pytest.mark.parametrize(("name", "what", "message"), rows_of("What is refused in output"))
def test_each_output_that_is_refused_is_refused_in_the_words_of_the_page(tmp_path, name, what, message):
    with pytest.raises(BadResultError) as raised:
        write(name, tmp_path, *REFUSED_OUTPUT[name, what])
    assert re.fullmatch(as_pattern(code_in(message)), str(raised.value), re.DOTALL)


@pytest.mark.parametrize(
    ("heading", "cases", "width"),
    [
        ("Input", INPUT, 1),
        ("What is refused in input", REFUSED, 1),
        ("Output", OUTPUT, 1),
        ("What is refused in output", REFUSED_OUTPUT, 2),
    ],
)
def test_the_page_and_the_cases_have_the_same_rows(heading, cases, width):
    told = [row[0] if width == 1 else tuple(row[:width]) for row in rows_of(heading)]
    assert told == list(cases)
