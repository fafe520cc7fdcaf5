"""Whether a process that was killed was killed for memory."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from airflow_prs.node.machine.memory import Memory, MemoryWitness, usable_memory

PLENTY = SimpleNamespace(total=1000 * 2**20, available=900 * 2**20)
SHORT = SimpleNamespace(total=1000 * 2**20, available=20 * 2**20)


@pytest.fixture
def machine(monkeypatch):
    def set_memory(reading):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: reading)

    set_memory(PLENTY)
    return set_memory


MIB = 2**20


def second(cgroup, limit, used, cached):
    """Write the files of version 2."""
    (cgroup / "memory.max").write_text(f"{limit}\n")
    (cgroup / "memory.current").write_text(f"{used}\n")
    (cgroup / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def first(cgroup, limit, used, cached):
    """Write the files of version 1."""
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (cgroup / "memory" / "memory.usage_in_bytes").write_text(f"{used}\n")
    (cgroup / "memory" / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {cached}\n")


versions = pytest.mark.parametrize("write", [first, second])


@versions
def test_the_limit_of_a_container_counts_not_the_machines_memory(tmp_path, machine, write):
    write(tmp_path, 100 * MIB, 90 * MIB, 30 * MIB)
    assert usable_memory(tmp_path) == Memory(100 * MIB, 40 * MIB)


@pytest.mark.parametrize(("write", "limit"), [(first, 2**63 - 4096), (second, "max"), (second, 4000 * MIB)])
def test_without_a_limit_below_it_the_machines_memory_counts(tmp_path, machine, write, limit):
    write(tmp_path, limit, 90 * MIB, 30 * MIB)
    assert usable_memory(tmp_path) == Memory(PLENTY.total, PLENTY.available)


def test_a_container_has_no_more_than_is_free_on_the_machine(tmp_path, machine):
    machine(SHORT)
    second(tmp_path, 100 * MIB, 10 * MIB, 0)
    assert usable_memory(tmp_path) == Memory(100 * MIB, 20 * MIB)


@versions
def test_a_kill_while_the_container_was_short_was_probably_for_it(tmp_path, machine, write):
    write(tmp_path, 100 * MIB, 98 * MIB, 0)
    assert "memory was short (2 of 100 MiB available)" in MemoryWitness(tmp_path).explain()


def test_a_kill_that_version_1_counted_was_for_memory(tmp_path, machine):
    (tmp_path / "memory").mkdir()
    control = tmp_path / "memory" / "memory.oom_control"
    control.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    witness = MemoryWitness(tmp_path)
    control.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert "no memory left" in witness.explain()


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
