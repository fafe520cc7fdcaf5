from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_prs.airflow_side import lineage
from airflow_prs.airflow_side.lineage import name_inputs, name_of, to_openlineage


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/out/result.txt", ("file", "/data/out/result.txt")),
        ("s3://secret_conn@lake/in/a.csv", ("s3://lake", "in/a.csv")),
        ("s3://lake", ("s3://lake", "/")),
        ("abfs://secret_conn@box/in/a.csv", ("abfss://box@account.dfs.core.windows.net", "in/a.csv")),
    ],
)
def test_a_path_is_named_as_openlineage_does_without_connection_or_secret(path, name, monkeypatch):
    url = "https://account.blob.core.windows.net/box?sig=hidden"
    monkeypatch.setattr(lineage, "connect_to", lambda _: SimpleNamespace(native=lambda: SimpleNamespace(url=url)))

    assert name_of(path) == name


def test_a_pattern_is_named_by_its_folder_once_and_a_relative_path_is_absolute():
    named = name_inputs(["in/*.csv", "in/*.txt", "s3://conn@lake/a/*/b.csv"], "/dags")

    assert named == [("file", "/dags/in"), ("s3://lake", "a")]


@pytest.mark.skipif(lineage.is_lineage_wanted(), reason="the provider is installed")
def test_without_the_provider_there_is_no_lineage():
    assert to_openlineage([], []) is None
