"""The pages for readers run: each block with a title is a file, and the text blocks are what the runs must write."""

from __future__ import annotations

import contextlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.dag_runs import run_dag
from tests.servers import fresh_database

DOCS = Path(__file__).parent.parent / "docs"
LETTERS = {"a.txt": "dear anna", "b.txt": "come home soon", "c.txt": "hello"}

FAILS = {"dags/alert.py"}
"""DAG files that are about a failure."""

NOT_RUN = {
    "get_started.md": "run by tests/test_docs.py",
    "gpus.md": "needs torch; that each process sees one GPU is tested in tests/integration/test_node_features.py",
    "moving.md": "run by tests/test_docs.py, beside the files that it reads",
}
"""Pages whose Python cannot run here, and why; it is parsed all the same."""


class Block(NamedTuple):
    """A code block of a page; the title is the path of its file."""

    language: str
    title: str
    text: str


def blocks_of(page):
    found = re.findall(
        r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return [Block(*groups) for groups in found]


def titled(page):
    return [block for block in blocks_of(page) if block.title]


PAGES = sorted(path.name for path in DOCS.glob("*.md"))
RUNS = [
    (page, block.title)
    for page in PAGES
    for block in titled(page)
    if block.title.startswith("dags/") and "DAG(" in block.text
]


@contextlib.contextmanager
def data_of(page, folder, patch):
    """Lay down the input that a page speaks of."""
    write = {"tables.md": write_tables, "many_models.md": write_history, "images.md": write_images}
    if page == "sql.md":
        with fresh_database() as url:
            fill(url)
            patch.setenv("AIRFLOW_CONN_SHOP_DB", url.replace("postgresql://", "postgres://"))
            yield
        return
    patch.setenv("AIRFLOW_CONN_MY_API", "http://user:passw0rd@api.example.com")
    write.get(page, write_files)(folder)
    yield


def write_files(folder):
    for name, text in LETTERS.items():
        place(folder / "letters" / name).write_text(text)
    for day in (1, 2):
        place(folder / "readings" / "north" / f"2026-01-0{day}.txt").write_text(f"{day}.5")


def write_tables(folder):
    place(folder / "orders" / "1.csv").write_text("order,price,count\n1,0.1,3\n2,2.5,2\n")
    place(folder / "orders" / "2.csv").write_text("order,price,count\n3,10.0,1\n")
    sales = pd.DataFrame({"shop": ["Oslo", "Lima"], "price": [1.5, 2.0], "day": pd.Timestamp("2026-01-02")})
    sales.to_parquet(place(folder / "sales" / "1.parquet"))


def write_history(folder):
    days = range(4)
    rows = [
        (shop, day, start + slope * day) for day in days for shop, start, slope in [("Oslo", 10, 2), ("Lima", 5, -1)]
    ]
    pd.DataFrame(rows, columns=["shop", "day", "sold"]).to_csv(place(folder / "history" / "1.csv"), index=False)


def write_images(folder):
    np.save(place(folder / "model" / "weights.npy"), np.ones((8, 8)))
    for name, colour in [("black", 0), ("white", 255)]:
        Image.new("L", (16, 16), colour).save(place(folder / "images" / f"{name}.png"))


def fill(url):
    import psycopg2

    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id int, price float8)")
        cursor.execute("INSERT INTO orders VALUES (3, 12), (1, 5), (2, 7.5)")
    connection.close()


def place(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class Site:
    """The files of a page, with its /data in a folder of the test's own."""

    def __init__(self, page, home, data):
        self.page = page
        self.data = data
        self.folder = home / "dags" / f"docs_{page.removesuffix('.md')}"
        for block in titled(page):
            if block.language == "python":
                place(self.folder / block.title).write_text(self.own(block.text))

    def own(self, text):
        return text.replace("/data/", f"{self.data}/")

    def run(self, title):
        return run_dag(self.folder / title)

    def expected(self, title):
        """Results that the page shows between this file and the next DAG."""
        blocks = titled(self.page)
        start = [block.title for block in blocks].index(title) + 1
        for block in blocks[start:]:
            if "DAG(" in block.text:
                return
            if block.language == "text":
                yield Path(self.own(block.title)), block.text


@pytest.fixture
def site(request, airflow_home, tmp_path, monkeypatch):
    page = request.param
    with data_of(page, tmp_path, monkeypatch):
        made = Site(page, airflow_home, tmp_path)
        yield made
    shutil.rmtree(made.folder)


@pytest.mark.parametrize(("site", "title"), RUNS, indirect=["site"])
def test_a_page_runs_and_comes_to_what_it_shows(site, title):
    run = site.run(title)
    assert run.state == ("failed" if title in FAILS else "success")
    shown = {str(path): text.rstrip("\n") for path, text in site.expected(title)}
    assert {path: Path(path).read_text().rstrip("\n") for path in shown} == shown


def test_the_page_about_tests_has_a_test_that_passes(tmp_path):
    for block in titled("testing.md"):
        place(tmp_path / block.title.lstrip("/")).write_text(block.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if page not in NOT_RUN])
def test_snippets_run(page, tmp_path):
    snippets = [block.text for block in blocks_of(page) if block.language == "python" and not block.title]
    for number, text in enumerate(snippets):
        # A file, as @parallel_run reads the source of its function.
        (tmp_path / f"{number}.py").write_text(text)
        runpy.run_path(str(tmp_path / f"{number}.py"))
