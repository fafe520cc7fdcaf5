"""A secret that reached a script through environment_variables, or that opens object storage, is nowhere afterwards."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from textwrap import dedent
from urllib.parse import parse_qs, quote

import pytest

from airflow_prs.airflow_side.masking import known_secrets_masker
from airflow_prs.airflow_side.object_storage import use_airflow_connections
from airflow_prs.config.environment import Environment
from airflow_prs.errors import EnvironmentBrokenError
from airflow_prs.node.masking import Masker
from tests.dag_runs import Run
from tests.object_servers import ACCESS_KEY, AZURE_ACCOUNT, AZURE_KEY, SECRET_KEY, serve, signature
from tests.shards import Tries, make_plan

CORE = "c0rE7sEcReT"
"""Part of each secret here that no way of writing it changes."""

PASSWORD = f"p%/'\"\\ä{CORE}-password"
TOKEN = f"-----BEGIN KEY-----\n{CORE}-first\n{CORE}'second\n-----END KEY-----\n"

LEAKS = f"""
import json, logging, os, pathlib, sys, time, urllib.parse
from entry_script import EntryScript

secrets = [os.environ["PASSWORD"], os.environ["TOKEN"], os.environ["URI"], json.loads(os.environ["EXTRA"])["token"]]
secrets.append(urllib.parse.unquote(urllib.parse.urlsplit(os.environ["URI"]).password))

def spellings():
    for secret in secrets:
        yield from (secret, repr(secret), json.dumps(secret), str([secret, "it's"]))
        yield urllib.parse.quote(secret, safe="")

def leak():
    for text in spellings():
        print(text)
        print(text, file=sys.stderr)
        logging.warning("%s", text)
        EntryScript().logger.info("%s", text)
    for part in (secrets[1][:30], secrets[1][30:]):
        print(part, end="", flush=True)
        time.sleep(0.01)
    print()
    print("x" * 65530 + secrets[0] + "x" * 65530 + secrets[0] + "x" * 70000)

def in_process_list():
    lines = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
    return any({CORE.encode()} in line for line in lines)

"""

FAILS = {
    "run": """
        def run(mini_batch):
            leak()
            if in_process_list():
                return ["in the process list"] * len(mini_batch)
            raise type(secrets[0], (ValueError,), {})("x" * 490 + " ".join(spellings()))
        """,
    "init": """
        def init():
            leak()
            raise KeyError(*secrets) from ValueError(secrets)
        def run(mini_batch): ...
        """,
}


@pytest.fixture
def connection(airflow_home):
    """A connection and a variable, with secrets in them."""
    from airflow.models.connection import Connection
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    extra = f'{{"token": "{CORE}-extra", "schema": "public"}}'
    made = Connection(conn_id="leaky", conn_type="http", host="h", login="me", password=PASSWORD, extra=extra)
    with create_session() as session:
        session.add(made)
        Variable.set("leaky_token", TOKEN, session=session)
    yield
    with create_session() as session:
        session.delete(made)
        Variable.delete("leaky_token", session=session)


def write_dag(dag_file, output: Path, name: str, config: str) -> None:
    dag_file.write(
        f"""
        with DAG("leaky_{name}") as dag:
            ParallelRunOperator(
                name="step",
                retries=0,
                parallel_run_config=config(
                    node_count=1, run_max_try=2, {config}
                    environment_variables={{
                        "PASSWORD": "{{{{ conn.leaky.password }}}}",
                        "EXTRA": "{{{{ conn.leaky.extra }}}}",
                        "URI": "{{{{ conn.leaky.get_uri() }}}}",
                        "TOKEN": "{{{{ var.value.leaky_token }}}}",
                    }},
                ),
                inputs=[FileDataset({str(dag_file.scripts)!r})],
                output={str(output)!r},
            )
        """
    )


def in_database(secret: str = CORE) -> list[str]:
    """Name the tables that hold a secret, but those where Airflow keeps connections and variables."""
    from airflow.settings import engine
    from sqlalchemy import MetaData, select

    metadata = MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        return [
            table.name
            for table in metadata.sorted_tables
            if table.name not in ("connection", "variable")
            and any(secret in str(row) for row in connection.execute(select(table)))
        ]


def in_files(*folders: Path) -> list[str]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if CORE.encode() in path.read_bytes()]


@pytest.mark.parametrize(("stage", "threshold"), [("run", -1), ("run", 0), ("init", -1)])
@pytest.mark.usefixtures("connection")
def test_a_secret_is_in_no_file_table_or_log(dag_file, tmp_path, capfd, stage, threshold):
    dag_file.script(LEAKS + dedent(FAILS[stage]))
    write_dag(dag_file, tmp_path / "out", f"{stage}_{threshold == 0}", f"error_threshold={threshold},")

    run: Run = dag_file.run()

    assert run.states["step.mini_batches[0]"] == ("success" if stage == "run" else "failed")
    assert run.states["step.gatekeeper"] == ("success" if (stage, threshold) == ("run", -1) else "failed")
    assert in_files(tmp_path / "out", Path(os.environ["AIRFLOW_HOME"], "logs")) == []
    assert in_database() == []
    assert CORE not in "".join(capfd.readouterr())
    result = tmp_path / "out" / "parallel_run_step.txt"
    assert not result.exists() or result.read_text() == ""
    # The reasons themselves are there.
    assert in_words(tmp_path / "out", "***")


def in_words(folder: Path, word: str) -> bool:
    return any(word.encode() in path.read_bytes() for path in folder.rglob("*.txt"))


def test_what_an_installer_quotes_of_a_secret_is_masked(tmp_path):
    requirement = "lacking @ file:///nowhere/${TOKEN}/lacking-1.0-py3-none-any.whl"
    environment = Environment.from_pip([requirement], sys.executable)
    folder = make_plan(tmp_path, "def run(mini_batch): return mini_batch", environment=environment)
    variables = {"TOKEN": f"{CORE}-ä", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    tries = Tries(
        folder,
        variables=variables,
        redact=Masker(variables.values()),
        request={"environments_root": tmp_path / "environments"},
    )

    with pytest.raises(EnvironmentBrokenError) as raised:
        tries.run()

    assert "lacking" in str(raised.value)
    assert CORE not in str(raised.value)
    assert in_files(tmp_path / "environments") == []


def test_airflows_own_secrets_are_masked_in_every_spelling(airflow_home):
    from airflow.sdk.log import mask_secret

    mask_secret(f"a\n.b'{CORE}")
    assert known_secrets_masker()(f"a%0A.b%27{CORE} " + repr(f"a\n.b'{CORE}")) == '*** "***"'


LOOKS = """
import os, pathlib

def run(mini_batch):
    secrets = [start + end for start, end in {halves!r}]
    seen = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
    seen.append(repr(os.environ).encode())
    if any(secret.encode() in text for secret in secrets for text in seen):
        return ["a worker process sees a secret"] * len(mini_batch)
    raise ValueError("bad pixel " + " ".join(secrets))
"""
"""What the connection holds is no secret of the script, which has to know it to look for it."""


def key_of_s3(server):
    return {**json.loads(*server.airflow_connection().values())}, [SECRET_KEY]


def connection_string_of_azure(server):
    return {**json.loads(*server.airflow_connection().values())}, [AZURE_KEY]


def signature_of_azure(server):
    token = signature(server)
    (signed,) = parse_qs(token)["sig"]
    value = {"conn_type": "wasb", "host": f"{server.url}/{AZURE_ACCOUNT}", "extra": {"sas_token": f"?{token}"}}
    return value, [signed, quote(signed, safe=""), token]


@pytest.fixture
def storage_connection(airflow_home):
    """Write a connection into Airflow's database."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    made = []

    def make(conn_id: str, value: dict) -> None:
        with create_session() as session:
            made.append(Connection(conn_id=conn_id, **{**value, "extra": json.dumps(value["extra"])}))
            session.add(made[-1])

    use_airflow_connections()
    yield make
    with create_session() as session:
        for connection in made:
            session.delete(connection)


@pytest.mark.parametrize(
    ("server", "credentials"),
    [
        ("seaweed", key_of_s3),
        ("azurite", signature_of_azure),
        pytest.param("azurite", connection_string_of_azure, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("is_right", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_no_secret_of_a_connection_to_storage_is_left_anywhere(  # noqa: PLR0917 - two fixtures, three values
    dag_file, storage_connection, capfd, server, credentials, is_right
):
    place = serve(server).place()
    (place / "in/item").write("item")
    value, secrets = credentials(place.server)
    conn_id = f"leaky_{server}_{credentials.__name__}_{is_right}"
    storage_connection(conn_id, value if is_right else spoiled(value, secrets))
    address = str(place).replace(place.server.conn_id, conn_id)
    dag_file.script(LOOKS.format(halves=[(secret[:5], secret[5:]) for secret in secrets]))
    dag_file.write(
        f"""
        with DAG({conn_id!r}) as dag:
            ParallelRunOperator(
                task_id="step", retries=0, parallel_run_config=config(node_count=1, run_max_try=1),
                inputs=[FileDataset("{address}/in")], output="{address}/out",
            )
        """
    )

    run = dag_file.run()

    assert run.states["step.merge"] == ("success" if is_right else "upstream_failed")
    stored = {name: (place / "out" / name).read() for name in (place / "out").names()}
    logs = [path.read_bytes() for path in Path(os.environ["AIRFLOW_HOME"], "logs").rglob("*") if path.is_file()]
    printed = "".join(capfd.readouterr()).encode()
    if is_right:
        assert stored.pop("parallel_run_step.txt") == b"", "a worker process sees a secret"
        assert b"bad pixel ***" in b"".join(stored.values())
    for secret in secrets:
        assert [name for name, content in stored.items() if secret.encode() in content] == []
        assert secret.encode() not in b"".join([*logs, printed])
        assert in_database(secret) == []


def spoiled(value: dict, secrets: list[str]) -> dict:
    """Return a connection with the same secret, which another account has."""
    text = json.dumps(value).replace(AZURE_ACCOUNT, "devstoreaccount2").replace(f'"{ACCESS_KEY}"', '"other"')
    return json.loads(text)
