"""Whether a process that was killed was killed for memory."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from airflow_prs.node.memory import MemoryWitness

PLENTY = SimpleNamespace(total=1000 * 2**20, available=900 * 2**20)
SHORT = SimpleNamespace(total=1000 * 2**20, available=20 * 2**20)


@pytest.fixture
def machine(monkeypatch):
    def set_memory(reading):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: reading)

    set_memory(PLENTY)
    return set_memory


def test_a_kill_that_the_container_counted_was_for_memory(tmp_path, machine):
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 1\noom_kill 1\n")
    witness = MemoryWitness(tmp_path)
    assert witness.explain() == ""
    events.write_text("low 0\noom 2\noom_kill 2\n")
    assert "no memory left" in witness.explain()


def test_a_kill_while_memory_was_short_was_probably_for_it(tmp_path, machine):
    witness = MemoryWitness(tmp_path)
    machine(SHORT)
    assert "memory was short (20 of 1000 MiB available)" in witness.explain()


def test_a_kill_with_plenty_of_memory_is_not_explained(tmp_path, machine):
    assert MemoryWitness(tmp_path).explain() == ""
