"""Queries: exported once, with the types and values that the database gives."""

import importlib
import json
from contextlib import contextmanager
from datetime import date, datetime, timezone
from decimal import Decimal

import pandas as pd
import pytest

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import TabularDataset, dataset_from_spec
from airflow_prs.config.environment import Environment
from airflow_prs.errors import ConfigError, InputError, SupersededError
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.plan.queries import export_query, rows_file
from airflow_prs.records import RunIdentity
from tests.lacking import lacking
from tests.servers import POSTGRES


def export(tmp_path, *batches, columns=("a",)):
    export_query("q", [(columns, rows) for rows in batches], tmp_path / "q")
    [path] = (tmp_path / "q").iterdir()
    assert path == rows_file(tmp_path / "q")
    return pd.read_parquet(path)


def test_types_that_show_late_hold_from_the_first_row_on(tmp_path):
    frame = export(tmp_path, [], [(None, 1)], [(None, 1.5)], [(date(2026, 1, 1), None)], columns=("day", "n"))
    assert frame["n"].tolist()[:2] == [1.0, 1.5]
    assert frame["day"].tolist() == [None, None, date(2026, 1, 1)]


def test_decimals_and_moments_stay_what_they_are(tmp_path):
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    frame = export(tmp_path, [(Decimal("1.10"), moment)], [(Decimal("1000000000.123"), moment)], columns=("d", "m"))
    assert frame["d"].tolist() == [Decimal("1.100"), Decimal("1000000000.123")]
    assert frame["m"].tolist() == [moment, moment]


@pytest.mark.parametrize("batches", [([(1,)], [("x",)]), ([(1,), ("x",)],)])
def test_a_column_of_two_types_is_an_error_that_says_what_to_do(tmp_path, batches):
    with pytest.raises(InputError, match=r"query of 'q' .*Cast it in the query"):
        export(tmp_path, *batches)


def test_two_columns_of_one_name_are_an_error(tmp_path):
    with pytest.raises(InputError, match=r"returned two columns with the same name: .*rename one with AS"):
        export(tmp_path, [(1, 2)], columns=("a", "a"))


def test_a_query_survives_its_spec():
    dataset = TabularDataset.from_sql_query("SELECT 1", "db").as_named_input("q")
    assert dataset_from_spec(dataset.to_spec(), {}) == dataset
    assert repr(dataset) == "TabularDataset.from_sql_query('SELECT 1', 'db').as_named_input('q')"


@pytest.mark.parametrize(
    ("sql", "conn_id", "problem"), [("", "db", "sql is ''"), ("SELECT 1", None, "conn_id is None")]
)
def test_a_wrong_query_is_named(sql, conn_id, problem):
    with pytest.raises(ConfigError, match=problem):
        TabularDataset.from_sql_query(sql, conn_id)


@pytest.fixture
def plan(tmp_path):
    """Plan a run over a query."""
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")

    def make(rows, run="1", columns=("a",), *, max_shards=1024, name=None, sql="SELECT a", **settings):
        config = ParallelRunConfig(
            environment=Environment.current(),
            source_directory=".",
            entry_script="score.py",
            error_threshold=0,
            output_action="append_row",
            compute_target="local",
            node_count=1,
            mini_batch_size="2 rows",
            **settings,
        )
        return make_plan(
            PlanRequest(
                config=config,
                datasets=(TabularDataset.from_sql_query(sql, "db").as_named_input("q"),),
                output=str(tmp_path / "out"),
                run_root=str(tmp_path / "root"),
                dag_folder=str(tmp_path),
                identity=RunIdentity(dag_id="d", run_id=run, task_id="t", plan=f"plan{name or run}"),
                run_query=lambda sql, conn_id: iter([(columns, rows)]),
                on_empty="skip",
                max_shards=max_shards,
            )
        )

    return make


def test_the_rows_of_a_query_are_cut_like_a_table(plan):
    result = plan([(1,), (2,), (3,), (4,)])
    assert [m.items for m in result.folder.read_mini_batches(0, 2)] == [2, 2]
    assert (result.folder.path / "inputs" / "q" / "rows.parquet").exists()


def test_a_query_without_rows_is_an_empty_input_that_leaves_nothing_behind(plan):
    result = plan([])
    assert result.is_empty
    assert not result.folder.path.exists()


def test_equal_rows_are_reused_and_others_are_not(plan):
    plan([(1,)]).folder.names.report.write_text('{"status": "completed"}')
    reused = plan([(1,)], "2")
    assert reused.reused_from is not None
    assert not reused.folder.names.inputs.exists()
    assert plan([(2,)], "3").reused_from is None


def test_a_query_that_has_run_is_not_run_again_by_a_plan_that_goes_on(plan):
    first = plan([(1,), (2,), (3,)])
    again = plan([(9,)])
    assert again.folder.path == first.folder.path
    assert again.manifest == first.manifest
    assert pd.read_parquet(first.folder.path / "inputs" / "q" / "rows.parquet")["a"].tolist() == [1, 2, 3]


def test_another_query_starts_over(plan):
    first = plan([(1,)])
    assert plan([(1,)], name="2", sql="SELECT a + 1").folder.path != first.folder.path


def test_a_plan_that_is_overtaken_while_its_query_runs_ends_without_an_effect(plan):
    def overtaken():
        newer.append(plan([(1,), (2,), (3,)], name="2"))
        yield (1,)

    newer = []
    with pytest.raises(SupersededError, match="plan has run again since"):
        plan(overtaken())
    history = newer[0].folder.open_task_log().read()
    assert history.newest_execution() == newer[0].folder.execution
    assert [record.folder for record in history if record.kind == "execution"] == ["plan2"]


def test_a_plan_that_is_executed_twice_writes_to_two_folders(plan):
    def overtaken():
        newer.append(plan([(1,), (2,)]))
        yield from [(7,), (8,), (9,)]

    newer = []
    with pytest.raises(SupersededError):
        plan(overtaken())
    rows = newer[0].folder.path / "inputs" / "q" / "rows.parquet"
    assert pd.read_parquet(rows)["a"].tolist() == [1, 2]
    assert newer[0].folder.read_manifest() == newer[0].manifest
    assert newer[0].folder.read_settings().identity.plan == newer[0].folder.path.name == "plan1-1"


def test_a_plan_that_fails_leaves_no_rows_of_a_query_behind(plan, tmp_path):
    with pytest.raises(ConfigError, match="max_map_length"):
        plan([(number,) for number in range(9)], mini_batches_per_task=1, max_shards=2)
    assert not list(tmp_path.rglob("rows.parquet"))


def what_is_missing():
    """Say what a query cannot do without, if it is not there."""
    try:
        psycopg2 = importlib.import_module("psycopg2")
        importlib.import_module("airflow.providers.postgres.hooks.postgres")
    except ImportError as error:
        return f"no driver of PostgreSQL: {error}"
    try:
        psycopg2.connect(POSTGRES.replace("postgres://", "postgresql://"), connect_timeout=2).close()
    except psycopg2.OperationalError as error:
        return f"no PostgreSQL at {POSTGRES} (set TEST_POSTGRES to the URL of one with a database): {error}"
    return None


@contextmanager
def postgres():
    """Give Airflow a connection to a database; without one fail on CI, and skip elsewhere."""
    if (missing := what_is_missing()) is not None:
        lacking(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_TEST_QUERIES", POSTGRES)
        yield "test_queries"


def test_postgresql_gives_its_rows_through_a_connection_of_airflow(tmp_path):
    from airflow_prs.operators.queries import run_query

    sql = """
        SELECT n::int AS n, n / 3.0::float8 AS third, CASE WHEN n > 24000 THEN '100%' END AS words,
               DATE '2026-01-01' + n::int AS day, n::numeric(10, 2) / 4 AS quarter
        FROM generate_series(1, 25000) AS n ORDER BY n
    """
    with postgres() as conn_id:
        export_query("q", run_query(sql, conn_id), tmp_path / "q")
    frame = pd.read_parquet(rows_file(tmp_path / "q"))
    assert frame["n"].tolist() == list(range(1, 25001))
    assert frame["third"].tolist() == [n / 3.0 for n in range(1, 25001)]
    assert frame["words"].tolist()[-1] == "100%"
    assert frame["day"][0] == date(2026, 1, 2)
    assert frame["quarter"][0] == Decimal("0.25")


def test_a_dag_gives_the_rows_of_a_query_to_the_script(dag_file, tmp_path):
    dag_file.script(
        """
        def run(mini_batch):
            return mini_batch.assign(double=mini_batch["n"] * 2)
        """
    )
    sql = "SELECT n::int AS n, CASE WHEN n % 2 = 0 THEN 'even' END AS kind FROM generate_series(1, {{ params.last }}) n"
    dag_file.write(f"""
        with DAG("query", params={{"last": 9}}) as dag:
            ParallelRunOperator(
                task_id="step",
                parallel_run_config=config(mini_batch_size="2 rows", append_row_file_name="rows.jsonl"),
                inputs=[TabularDataset.from_sql_query({sql + " ORDER BY n"!r}, "test_queries")],
                output={str(tmp_path / "out")!r},
            )
    """)
    with postgres():
        run = dag_file.run()
    assert run.state == "success"
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert rows == [{"n": n, "kind": None if n % 2 else "even", "double": 2 * n} for n in range(1, 10)]


def test_a_connection_to_something_else_is_named(monkeypatch):
    from airflow_prs.operators.queries import run_query

    monkeypatch.setenv("AIRFLOW_CONN_MAIL", "smtp://localhost")
    with pytest.raises(ConfigError, match="conn_id is 'mail', a SmtpHook; allowed: a connection to a database"):
        next(run_query("SELECT 1", "mail"))
