"""The page about versions says what pyproject.toml, uv.lock and the code say."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_prs.records import SCHEMA
from airflow_prs.triggers.gatekeeper import LONGEST_WATCH
from tests.test_docs import PAGES, section, table

ROOT = Path(__file__).parent.parent
PAGE = PAGES["versions.md"]
PROJECT = (ROOT / "pyproject.toml").read_text()
SUPPORTED = {row[0]: row[1:] for row in table(section(PAGE, "Which Airflow and Python"))}


def test_the_versions_of_airflow_are_those_of_the_requirement_and_of_the_lock_file():
    lowest = re.search(r'"apache-airflow>=([\d.]+)"', PROJECT)[1]
    locked = re.search(r'^name = "apache-airflow"\nversion = "(.+)"$', (ROOT / "uv.lock").read_text(), re.MULTILINE)[1]
    assert SUPPORTED["Airflow"] == [lowest, locked]


def test_the_versions_of_python_are_those_of_the_classifiers():
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", PROJECT)
    assert SUPPORTED["Python"] == [pythons[0], pythons[-1]]
    assert f'requires-python = ">={pythons[0]}"' in PROJECT


def test_the_changelog_tells_the_layout_of_run_folders():
    told = re.findall(r"\blayout (\d+)\b", (ROOT / "CHANGELOG.md").read_text())
    assert told[0] == str(SCHEMA)


def test_a_trigger_is_no_older_than_the_page_says():
    assert LONGEST_WATCH.total_seconds() == 4 * 60
    assert "every four minutes at the latest" in PAGE


def test_the_reports_that_the_page_calls_public_are_all_that_readers_are_told_of():
    report = re.compile(r"`([\w-]+\.(?:jsonl|json|csv))`")
    described = [cells[0] for cells in table(section(PAGES["results.md"], "Results and run folders"))]
    assert set(report.findall(section(PAGE, "What is public"))) == set(report.findall("\n".join(described)))


def test_the_files_that_the_page_calls_tests_exist():
    named = re.findall(r"`((?:tests|\.github)/[\w/.]+)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
