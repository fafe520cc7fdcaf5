"""What worker processes print: whole in their files, within limits in the task log."""

from __future__ import annotations

import asyncio
import logging
import os
import threading

import pytest

from airflow_prs.node.processes import output
from airflow_prs.node.processes.output import LogFile, LogWriter, OutputPump, TaskLog
from tests.airflow_services import wait_until


@pytest.fixture
def shown(caplog):
    caplog.set_level(logging.INFO, "tests.output")
    return caplog


class Writer(LogWriter):
    """Writes without a thread."""

    def write(self, file, data):
        file.write(data)


def pump(path, *, clock=lambda: 0.0, redact=str):
    logger = logging.getLogger("tests.output")
    return OutputPump(LogFile(path), Writer(), TaskLog(logger, "process000", clock), redact)


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


@pytest.mark.parametrize("parts", [1, 7, 64 * 1024])
def test_a_secret_in_a_line_without_end_is_masked_wherever_it_is_cut(tmp_path, shown, parts):
    reader = pump(tmp_path / "log", redact=lambda text: text.replace("hunter2", "***"))
    data = (b"x" * 65_500 + b"hunter2") * 4
    for start in range(0, len(data), parts * 100):
        reader.data_received(data[start : start + parts * 100])
    reader.connection_lost(None)
    assert "hunter2" not in (tmp_path / "log").read_text().replace("\n", "")


class Pipe(asyncio.ReadTransport):
    """Takes note of whether it is read."""

    is_read = True

    def is_closing(self):
        return False

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True
        self.resumed.set()


def test_storage_that_does_not_answer_holds_up_nobody_but_who_prints_too_much(tmp_path, monkeypatch, shown):
    monkeypatch.setattr(output, "MOST_WAITING_BYTES", 1000)
    monkeypatch.setattr(output, "_STALLED_S", 0.0)
    os.mkfifo(tmp_path / "log")
    lines = [b"%04d\n" % number for number in range(300)]

    async def run():
        writer, pipe = LogWriter(), Pipe()
        pipe.resumed = asyncio.Event()
        logger = logging.getLogger("tests.output")
        reader = OutputPump(LogFile(tmp_path / "log"), writer, TaskLog(logger, "process000"), str)
        reader.connection_made(pipe)
        for line in lines:
            reader.data_received(line)
        # The writer's thread has just been started.
        await asyncio.to_thread(wait_until, lambda: writer.is_stalled, "the writer to open the log", 10, 0.001)
        assert (pipe.is_read, reader.is_held_up) == (False, True)
        read = []
        with (tmp_path / "log").open("rb") as file:
            taker = threading.Thread(target=lambda: read.extend(file.readline() for _ in lines))
            # Open for writing as well, the pipe does not end between two lines.
            keep = os.open(tmp_path / "log", os.O_WRONLY)
            taker.start()
            await asyncio.wait_for(pipe.resumed.wait(), 10)
            await asyncio.to_thread(writer.close)
            await asyncio.to_thread(taker.join)
            os.close(keep)
        assert (pipe.is_read, reader.is_held_up) == (True, False)
        return read

    assert asyncio.run(run()) == lines


def test_a_line_of_logging_has_airflows_moment_alone_in_the_task_log_and_its_own_in_the_file(tmp_path, shown):
    line = "2026-12-01 00:43:10,450 INFO score: hello"
    pump(tmp_path / "log").data_received(f"{line}\n2026 is a year\n".encode())
    assert shown.messages == ["[process000] INFO score: hello", "[process000] 2026 is a year"]
    assert (tmp_path / "log").read_text() == f"{line}\n2026 is a year\n"
