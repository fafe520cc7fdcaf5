"""What worker processes print: whole in their files, within limits in the task log."""

from __future__ import annotations

import logging

import pytest

from airflow_prs.node import output
from airflow_prs.node.output import LogFile, OutputPump, TaskLog


@pytest.fixture
def shown(caplog):
    caplog.set_level(logging.INFO, "tests.output")
    return caplog


def pump(path, *, clock=lambda: 0.0, redact=str):
    logger = logging.getLogger("tests.output")
    return OutputPump(LogFile(path), TaskLog(logger, "process000", clock), redact)


def test_lines_are_prefixed_with_the_process_in_the_task_log_and_bare_in_the_file(tmp_path, shown):
    pump(tmp_path / "logs" / "stdout.txt").data_received(b"one\ntwo\n")
    assert shown.messages == ["[process000] one", "[process000] two"]
    assert (tmp_path / "logs" / "stdout.txt").read_text() == "one\ntwo\n"


def test_a_line_that_comes_in_parts_is_one_line(tmp_path, shown):
    reader = pump(tmp_path / "log")
    reader.data_received(b"hel")
    reader.data_received(b"lo\nwor")
    assert shown.messages == ["[process000] hello"]
    reader.connection_lost(None)
    assert shown.messages == ["[process000] hello", "[process000] wor"]
    assert reader.ended.is_set()


def test_secrets_are_masked_in_both(tmp_path, shown):
    pump(tmp_path / "log", redact=lambda text: text.replace("hunter2", "***")).data_received(b"password hunter2\n")
    assert shown.messages == ["[process000] password ***"]
    assert "hunter2" not in (tmp_path / "log").read_text()


def test_bytes_that_are_no_text_are_shown_escaped(tmp_path, shown):
    pump(tmp_path / "log").data_received(b"na\xefve\n")
    assert shown.messages == ["[process000] na\\xefve"]


def test_the_task_log_takes_a_thousand_lines_a_minute_and_says_what_it_left_out(tmp_path, shown):
    now = [0.0]
    reader = pump(tmp_path / "log", clock=lambda: now[0])
    reader.data_received(b"line\n" * 1500)
    assert len(shown.messages) == 1000
    now[0] = 60.0
    reader.data_received(b"next minute\n")
    assert shown.messages[1000:] == [
        "[process000] 500 more lines within a minute are left out here; they are in its log file",
        "[process000] next minute",
    ]
    assert (tmp_path / "log").read_text().count("line\n") == 1500


def test_a_line_without_end_does_not_pile_up(tmp_path, shown):
    reader = pump(tmp_path / "log")
    for _ in range(100):
        reader.data_received(b"x" * 4096)
    assert sum(len(message) for message in shown.messages) > 300_000


def test_a_log_file_starts_anew_when_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "ROTATE_BYTES", 100)
    log = LogFile(tmp_path / "log")
    for n in range(30):
        log.write(b"line %02d\n" % n)
    assert (tmp_path / "log").stat().st_size <= 100
    assert (tmp_path / "log.1").stat().st_size <= 100
    assert (tmp_path / "log").read_text().endswith("line 29\n")
