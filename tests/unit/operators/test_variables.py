"""Environment variables never reach Airflow's database."""

from __future__ import annotations

import pytest

from airflow_prs.operators.variables import EnvironmentVariables, keyed_hash


@pytest.fixture
def fernet_key(monkeypatch):
    def set_key(key):
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)

    set_key("key one")
    return set_key


def test_the_repr_names_variables_and_no_value():
    assert repr(EnvironmentVariables({"TOKEN": "s3cr3t", "B": "x"})) == "<environment variables: B, TOKEN>"


def test_equal_values_have_an_equal_hash_in_any_order(fernet_key):
    assert keyed_hash({"A": "1", "B": "2"}) == keyed_hash({"B": "2", "A": "1"})


def test_another_value_has_another_hash(fernet_key):
    assert keyed_hash({"A": "1"}) != keyed_hash({"A": "2"})


def test_another_key_gives_another_hash(fernet_key):
    before = keyed_hash({"A": "1"})
    fernet_key("key two")
    assert keyed_hash({"A": "1"}) != before


def test_without_a_key_there_is_no_hash(fernet_key):
    fernet_key("")
    assert keyed_hash({"A": "1"}) is None
